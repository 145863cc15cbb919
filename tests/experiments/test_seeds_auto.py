"""`compare --seeds auto`: what looking more than once costs, when it stops, and that it goes on from where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from hf_mixup import cli
from hf_mixup.experiments.compare import one_run
from hf_mixup.experiments.compare.arguments import CompareArguments
from hf_mixup.experiments.compare.looks import looks
from hf_mixup.experiments.compare.plan import Run, make_plan
from hf_mixup.experiments.compare.report import _verdicts
from hf_mixup.experiments.compare.settled import state
from hf_mixup.experiments.compare.store import save_run
from hf_mixup.experiments.report.score_sums import value_sums
from hf_mixup.experiments.report.statistics import Difference, row_differences, seed_differences
from hf_mixup.metrics import calibration_metrics
from tests.conftest import TINY_RUN

# Statistics


def test_looks_double_and_never_use_up_the_chance() -> None:
    many = looks(CompareArguments(seeds="auto", max_seeds=1000))
    assert [look.seeds for look in many] == [5, 10, 20, 40, 80, 160, 320, 640]
    assert sum(look.share for look in many) < 1
    assert many[2].until_now == [5, 10, 20]
    few = looks(CompareArguments(seeds="auto", max_seeds=10))
    assert [look.share for look in few] == [look.share for look in many[:2]]  # so that the budget may be raised later
    assert [(look.seeds, look.share) for look in looks(CompareArguments(seeds=7))] == [(7, 1.0)]


def test_whoever_looks_again_is_wrong_no_more_often_than_five_times_in_a_hundred() -> None:
    """Without any difference; seeds fixed beforehand at each look would be wrong in more than 5 % of all cases."""
    rng, planned = np.random.default_rng(0), looks(CompareArguments(seeds="auto", max_seeds=20))
    trials, wrong, naive, covered = 300, 0, 0, 0
    for _ in range(trials):
        method, control = rng.normal(0.8, 0.01, size=(2, 20)).tolist()
        seen = [seed_differences(method[: look.seeds], control[: look.seeds], look.share) for look in planned]
        wrong += any(each.p < 0.05 for each in seen)
        covered += all(each.low <= 0 <= each.high for each in seen)
        gaps = np.subtract(method, control)
        naive += any(stats.ttest_1samp(gaps[: look.seeds], 0).pvalue < 0.05 for look in planned)
    assert naive / trials > 0.08
    assert wrong / trials <= 0.05
    assert covered == trials - wrong  # p and interval say the same


@pytest.mark.parametrize("share", [1.0, 0.5, 0.125])
def test_a_look_has_the_interval_of_its_share(share: float) -> None:
    method, control = [0.61, 0.66, 0.64, 0.7, 0.66], [0.6, 0.62, 0.65, 0.63, 0.62]
    reference = stats.ttest_rel(method, control)
    expected = reference.confidence_interval(1 - 0.05 * share)
    alone = seed_differences(method, control, share)
    assert (alone.low, alone.high, alone.p) == pytest.approx((*expected, min(reference.pvalue / share, 1.0)))
    # Rows that all say the same add nothing to the seeds.
    targets = np.zeros(400)
    runs = {"none": [value_sums(targets + 1 + each, targets) for each in control]}
    runs["mixup"] = [value_sums(targets + 1 + each, targets) for each in method]
    both = row_differences(runs, "none", share=share)["mixup"]["mae"]
    assert (both.low, both.high, both.p) == pytest.approx((alone.low, alone.high, alone.p), rel=0.02, abs=0.001)
    assert both.rows_alone == pytest.approx(0, abs=1e-12)


def test_what_rows_leave_is_what_one_seed_has() -> None:
    rng, targets = np.random.default_rng(1), np.zeros(200)
    runs = {name: [value_sums(rng.normal(5, 1, size=200), targets)] for name in ("none", "mixup")}
    one = row_differences(runs, "none", share=0.25)["mixup"]["mae"]
    four = row_differences({name: many * 4 for name, many in runs.items()}, "none", share=0.25)["mixup"]["mae"]
    assert one.rows_alone == pytest.approx((one.high - one.low) / 2) == four.rows_alone


@pytest.mark.parametrize(
    ("name", "estimate", "half", "p", "rows_alone", "failed", "expected"),
    [
        ("accuracy", 0.04, 0.03, 0.001, 0.02, 0, "settled"),  # better
        ("accuracy", -0.04, 0.03, 0.001, 0.02, 0, "settled"),  # worse
        ("accuracy", 0.002, 0.007, 0.8, 0.005, 0, "settled"),  # equivalent
        ("nll", 0.002, 0.007, 0.8, 0.0, 0, "open"),  # no share: there is no margin
        ("accuracy", 0.04, 0.03, 0.2, 0.02, 0, "open"),  # one of many comparisons
        ("accuracy", 0.002, 0.03, 0.8, 0.02, 0, "open"),  # 0.01 are left of the rows with four times the seeds
        ("accuracy", 0.002, 0.051, 0.8, 0.05, 0, "out of reach"),
        ("accuracy", 0.002, 0.08, 0.8, 0.05, 0, "open"),  # the seeds may still move it
        ("accuracy", np.nan, np.nan, np.nan, 0.0, 1, "failed"),
        ("accuracy", 0.01, np.nan, np.nan, 0.0, 0, "open"),
    ],
)
def test_states(
    name: str, estimate: float, half: float, p: float, rows_alone: float, failed: int, expected: str
) -> None:
    difference = Difference(estimate, estimate - half, estimate + half, p, 5, 400, failed, rows_alone)
    assert state(name, difference, 20) == expected


# The command; the runs train nothing


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "compare.yaml"
    settings = {**TINY_RUN, "max_eval_samples": 60, "output_dir": str(tmp_path / "out")}
    comparison = {"methods": ["none", "mixup"], "seeds": "auto", "max_seeds": 10}
    path.write_text(yaml.safe_dump({**settings, "compare": comparison}), encoding="utf-8")
    return path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Stand in for the training, and note what was trained; `noisy` gets another share of the labels right by seed."""
    found: list[tuple[str, int]] = []

    def train_run(run: Run, args: Any, *rest: Any) -> None:
        label = run.variant.label
        found.append((label, run.seed))
        if label == "cutmix":
            raise RuntimeError("out of cheese")
        predictions, metrics = {}, {}
        wrong = np.random.default_rng(run.seed).uniform(0, 0.6) if label == "mixup:alpha=2" else 0.2
        for split, rows in run.setting.prepared.evaluated.items():
            labels = np.array(rows.labels)
            guesses = np.where(np.arange(len(labels)) < wrong * len(labels), (labels + 1) % 9, labels)
            predictions[split] = (3.0 * np.eye(9)[guesses], labels)
            metrics[split] = calibration_metrics(*predictions[split])
        folder = Path(args.output_dir)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "README.md").write_text("---\ntags: []\n---\n# model\n", encoding="utf-8")
        save_run(folder, metrics, predictions, run.determinants)

    monkeypatch.setattr(one_run, "train_run", train_run)
    monkeypatch.setattr("hf_mixup.experiments.compare.run.write_report", lambda *arguments: None)
    return found


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch, trained: list[Any]) -> list[str]:
    """What the report says of the verdicts, as text."""
    found: list[str] = []

    def write_report(output: Path, judged: list[Any], *rest: Any) -> None:
        found.extend(str(block) for each in judged for block in _verdicts(each))

    monkeypatch.setattr("hf_mixup.experiments.compare.run.write_report", write_report)
    return found


def run(*arguments: object) -> int:
    return cli.main(["compare", *map(str, arguments)])


def test_stops_where_it_is_settled(
    config: Path, tmp_path: Path, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """mixup and plain training have the same rows right: they are equivalent."""
    assert run(config) == 0
    assert trained == [(method, seed) for seed in range(42, 47) for method in ("none", "mixup")]
    shown = capsys.readouterr().out
    assert "Looked once, after 5 seeds. " in shown
    assert "2 of 2 differences in accuracy are settled (better, worse or equivalent within ±0.01)" in shown
    assert {each["seeds"] for each in json.loads((tmp_path / "out" / "differences.json").read_text())} == {5}


def test_goes_on_to_the_budget_and_from_there(
    config: Path, tmp_path: Path, trained: list[Any], reported: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ("--methods", "none,mixup:alpha=2")
    assert run(config, *methods, "--max_seeds", 5) == 0
    assert len(trained) == 10
    reason = (
        "- Not settled within max_seeds; the next look would be after 10 seeds: "
        "mixup:alpha=2 against none on test; mixup:alpha=2 against none on test_shifted"
    )
    assert reason in capsys.readouterr().out
    assert run(config, *methods) == 0
    assert len(trained) == len(set(trained)) == 20
    shown = capsys.readouterr().out
    assert "look 1, after 5 seeds: 0 of 2 differences in accuracy are settled" in shown
    assert "Looked 2 times, after 5 and 10 seeds." in shown
    assert "0 of 2 differences in accuracy are settled" in reported[0]
    assert "Not settled within max_seeds" in reported[1]
    assert "interval of the difference over all looks." in reported[3]
    reported.clear()
    wide = json.loads((tmp_path / "out" / "differences.json").read_text())
    settings = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**settings, "compare": {"seeds": 10}}))
    assert run(config, *methods) == 0
    assert len(trained) == 20
    assert "over all looks" not in " ".join(reported)
    assert "--seeds auto goes on until it is settled" in " ".join(reported)
    for auto, fixed in zip(wide, json.loads((tmp_path / "out" / "differences.json").read_text())):
        assert auto["estimate"] == fixed["estimate"]
        assert auto["p"] >= fixed["p"]
        assert auto["low"] <= fixed["low"] <= fixed["high"] <= auto["high"]


def test_an_interrupted_one_ends_like_one_that_was_not(
    config: Path, tmp_path: Path, trained: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("--methods", "none,mixup:alpha=2")
    assert run(config, *methods, "--output_dir", tmp_path / "whole") == 0
    inner = one_run.train_run

    def interrupted(each: Run, *rest: Any) -> None:
        if each.seed == 48:
            raise KeyboardInterrupt
        inner(each, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(one_run, "train_run", interrupted)
        assert run(config, *methods) == 130
    assert run(config, *methods) == 0
    assert len(trained) == 40
    for name in ("results.json", "differences.json", "table.md"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_method_that_fails_is_tried_once_and_not_waited_for(
    config: Path, trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "--methods", "none,mixup,cutmix") == 0
    assert trained.count(("cutmix", 42)) == 1
    assert {seed for _, seed in trained} == set(range(42, 47))
    assert "Not judged, as a run failed or diverged: cutmix against none on test; " in capsys.readouterr().out


def test_a_process_of_a_look_has_the_plan_of_the_look() -> None:
    from transformers import TrainingArguments

    from hf_mixup.experiments.mixing import SharedSettings
    from hf_mixup.experiments.tasks import TaskArguments

    task = TaskArguments(task="tabular-classification", dataset="wine")
    args = TrainingArguments(output_dir="out", use_cpu=True, report_to="none")
    comparison = CompareArguments(methods=["none", "mixup"], seeds="auto")
    plan = make_plan(comparison, task, SharedSettings(), args).of_seeds(5)
    again = make_plan(*plan.inputs)
    assert [run.folder for run in plan.runs] == [run.folder for run in again.runs]
    assert len(plan.runs) == 10


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seeds", "many"), "seeds='many': expected a whole number from 1 on, or auto"),
        (("--seeds", "2.5"), "seeds='2.5': expected a whole number from 1 on, or auto"),
        (("--seeds", "0"), "seeds=0: expected a whole number from 1 on"),
        (("--max_seeds", "4"), "max_seeds=4: expected a whole number from 5 on"),
        (("--seeds", "3"), "max_seeds=10 is for seeds=auto, and seeds=3"),
        (("--methods", "mixup,cutmix"), "seeds=auto settles differences to a control"),
        (("--methods", "none"), "seeds=auto settles differences to a control"),
    ],
)
def test_refused_before_training(
    config: Path, trained: list[Any], capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert run(config, *flags) == 2
    assert message in capsys.readouterr().err
    assert not trained
