"""A comparison over shares of the rows and label noise, and what may go wrong in it; the runs train nothing."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from hf_mixup import cli
from hf_mixup.experiments.compare import one_run, progress
from hf_mixup.experiments.compare.arguments import CompareArguments
from hf_mixup.experiments.compare.one_run import Show
from hf_mixup.experiments.compare.plan import Run
from hf_mixup.metrics import calibration_metrics, fit_temperature
from tests.conftest import TINY_RUN
from tests.fake_runs import leave


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "compare.yaml"
    settings = {**TINY_RUN, "max_eval_samples": 60, "output_dir": str(tmp_path / "out")}
    comparison = {"methods": ["none", "smoothing", "mixup"], "seeds": 2}
    path.write_text(yaml.safe_dump({**settings, "compare": comparison}), encoding="utf-8")
    return path


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int, float]]:
    """Stand in for the training, and note method, seed, training rows and label noise of each run."""
    trained: list[tuple[str, int, int, float]] = []

    def train_run(run: Run, args: Any, show: Show, watch: Any) -> None:
        trained.append((run.variant.label, run.seed, len(run.setting.prepared.train), run.setting.task.label_noise))
        for step in range(1, 21):
            show(step, 20)
        leave(run, Path(args.output_dir))

    monkeypatch.setattr(one_run, "train_run", train_run)
    monkeypatch.setattr(
        "hf_mixup.experiments.compare.run.write_report", lambda *arguments: None
    )  # which takes longest by far
    return trained


def run(*arguments: object) -> int:
    return cli.main(["compare", *map(str, arguments)])


def fails_for(monkeypatch: pytest.MonkeyPatch, label: str, error: Exception) -> None:
    inner = one_run.train_run

    def failing(run: Run, *rest: Any) -> None:
        if run.variant.label == label and run.seed == 43:
            raise error
        inner(run, *rest)

    monkeypatch.setattr(one_run, "train_run", failing)


def test_every_method_is_trained_on_every_share_and_noise(
    config: Path, tmp_path: Path, train: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--fractions", 0.5, 1.0, "--noises", 0, 0.4)
    assert run(config, *flags) == 0
    expected = {
        (method, seed, rows, noise)
        for method in ("none", "smoothing", "mixup")
        for seed in (42, 43)
        for rows in (12, 24)
        for noise in (0.0, 0.4)
    }
    assert set(train) == expected
    assert len(train) == len(expected)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {(r["fraction"], r["noise"]) for r in results} == {(f, n) for f in (0.5, 1.0) for n in (0.0, 0.4)}
    table = (tmp_path / "out" / "table.md").read_text()
    assert "## 50 % of the training rows, 40 % wrong labels" in table
    shown = capsys.readouterr()
    assert table in shown.out
    assert shown.err.count("of training for 24 runs, if all are as fast as none in its first 12 steps") == 1
    assert run(config, *flags) == 0
    assert run(config) == 0  # the whole data without noise was among them
    assert len(train) == len(expected)


def test_small_shares_are_parts_of_larger_ones() -> None:
    from transformers import TrainingArguments

    from hf_mixup.experiments.compare.plan import make_plan
    from hf_mixup.experiments.mixing import SharedSettings
    from hf_mixup.experiments.tasks import TaskArguments

    known = {name: TINY_RUN[name] for name in ("image_size", "model_type", "config_overrides", "max_train_samples")}
    comparison = CompareArguments(methods=["none"], fractions=[0.25, 0.5, 1.0])
    args = TrainingArguments(output_dir="out", use_cpu=True, report_to="none")
    plan = make_plan(comparison, TaskArguments(**known), SharedSettings(), args)
    names = [set(setting.prepared.splits.train["emoji"]) for setting in plan.settings]
    assert [len(setting.prepared.train) for setting in plan.settings] == [6, 12, 24]
    assert names[0] <= names[1] <= names[2]
    assert len({run.folder for run in plan.runs}) == 3


def test_the_refit_is_of_the_validation_rows(
    config: Path, tmp_path: Path, train: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "--seeds", 6, "--max_eval_samples", 100) == 0
    folder = next((tmp_path / "out" / "runs").glob("none-seed42-*"))
    with np.load(folder / "predictions.npz") as stored:
        temperature = fit_temperature(stored["validation.0"], stored["validation.1"])
        expected = calibration_metrics(stored["test.0"], stored["test.1"], temperature=temperature)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    found = next(r["metrics"] for r in results if (r["method"], r["seed"], r["split"]) == ("none", 42, "test"))
    assert found == pytest.approx(expected)
    shown = capsys.readouterr().out
    assert (
        "- mixup against none on test: better calibration and likelihood; equivalent within ±0.01 with 6 seeds: "
        "accuracy (95 % interval +0.000 to +0.000); after temperature scaling perhaps better likelihood (95 % interval"
    ) in shown
    assert "after temperature scaling" in shown
    assert "test ece_temperature |" in shown
    text = (tmp_path / "out" / "differences.json").read_text()
    rows = {
        (r["method"], r["control"], r["split"], r["metric"]): r for r in json.loads(text, parse_constant=pytest.fail)
    }
    nll = rows["mixup", "none", "test", "nll"]
    assert nll["low"] < nll["estimate"] < nll["high"] < 0
    assert (nll["seeds"], nll["rows"], nll["failed"]) == (6, 100, 0)
    # Nothing tells smoothing from plain training here.
    assert "equivalent within ±0.01 with 6 seeds: calibration (95 % interval +0.000 to +0.000)" in shown


def test_the_card_of_the_best_model_has_the_comparison(config: Path, tmp_path: Path, train: list[Any]) -> None:
    assert run(config, "--fractions", 0.5, 1.0) == 0
    card = ModelCard.load(tmp_path / "out" / "best" / "README.md")  # which checks the metadata
    assert "- mixup against none on test: " in card.text
    assert "This is the run mixup, seed 4" in card.text
    assert "## 50 % of the training rows" in card.text
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    found = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert {split for split, _ in found} == {"test", "test_shifted"}
    assert any(r["metrics"]["nll"] == found["test", "nll"] for r in results if r["split"] == "test")
    assert card.data.eval_results[0].task_type == "image-classification"
    assert card.data.to_dict()["model-index"][0]["name"] == "out-mixup"


def test_comparison_and_mixing_stand_in_the_card_once_each(tmp_path: Path) -> None:
    from hf_mixup import MixupConfig
    from hf_mixup.experiments.report.comparison_card import COMPARISON, add_comparison_section
    from hf_mixup.integrations.model_card import HEADING, add_mixing_section

    (tmp_path / "README.md").write_text("---\ntags: []\n---\n# model\n", encoding="utf-8")
    for text in ("one", "two"):
        scores = {"test": {"accuracy": 0.5, "nll": None, "ece": float("nan")}}
        add_comparison_section(tmp_path, text, scores, name="m", task="text-generation", dataset="emoji")
        add_mixing_section(tmp_path, MixupConfig("cutmix"))
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.text.count(COMPARISON), card.text.count(HEADING)) == (1, 1)
    assert card.text.index("two") < card.text.index(HEADING)
    assert [(r.metric_type, r.task_type) for r in card.data.eval_results] == [("accuracy", "text-generation")]


def test_a_run_that_fails_is_reported_and_the_others_go_on(
    config: Path,
    tmp_path: Path,
    train: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        fails_for(patch, "smoothing", RuntimeError("CUDA out of\nmemory " + "x" * 999))
        assert run(config) == 0
    assert len(train) == 5
    shown = capsys.readouterr()
    assert "smoothing, seed 43 failed: RuntimeError: CUDA out of memory xxx" in shown.err
    assert "smoothing against none on test: not judged: 1 of 2 seeds failed or diverged" in shown.out
    assert "nan (1 of 2)" in shown.out
    assert "mixup against none on test: " in shown.out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    failed = [r for r in results if "error" in r]
    assert {(r["method"], r["seed"], r["split"]) for r in failed} == {
        ("smoothing", 43, split) for split in ("validation", "test", "test_shifted")
    }
    assert run(config) == 0  # the failed run alone is tried again
    assert train[5:] == [("smoothing", 43, 24, 0.0)]
    assert "error" not in (tmp_path / "out" / "results.json").read_text()


def test_all_runs_fail(
    config: Path, train: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*arguments: Any) -> None:
        raise TypeError("no")

    monkeypatch.setattr(one_run, "train_run", failing)
    assert run(config) == 1
    assert "all 6 runs failed, the first one with: TypeError: no" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: No space left on device"),
    ],
)
def test_a_full_disk_stops_and_loses_no_finished_run(
    config: Path,
    tmp_path: Path,
    train: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    with monkeypatch.context() as patch:
        fails_for(patch, "none", error)
        assert run(config) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: no space to store none, seed 43: ")
    assert last.endswith("; 3 of 6 runs are finished and kept; the same command goes on from there")
    assert len(train) == 3
    assert not list(tmp_path.rglob("*.part"))
    assert run(config) == 0
    assert len(train) == 6


def test_a_corrupt_results_file_is_written_anew(config: Path, tmp_path: Path, train: list[Any]) -> None:
    assert run(config) == 0
    path = tmp_path / "out" / "results.json"
    whole = path.read_text()
    for name in ("results.json", "compare.json"):
        (tmp_path / "out" / name).write_text('[{"method": "none"')
    assert run(config) == 0
    assert path.read_text() == whole
    assert len(train) == 6


def test_a_full_disk_leaves_no_part_of_a_text_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_mixup.utils.files import write_text

    (tmp_path / "results.json").write_text("old")

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hf_mixup.utils.files.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(tmp_path / "results.json", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("results.json", "old")]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fractions", "0"], "fractions=0.0: expected a number in (0, 1]"),
        (["--fractions", "0.5", "0.5"], "fractions has a value twice: 0.5, 0.5"),
        (["--noises", "1"], "noises=1.0: expected a number in [0, 1)"),
        (["--fractions", "0.5", "--few_shot", "2"], "few_shot=2 and fractions both say which rows to train on"),
    ],
)
def test_wrong_settings(
    config: Path, tmp_path: Path, train: list[Any], capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert run(config, *flags) == 2
    assert message in capsys.readouterr().err
    assert not train
    assert not (tmp_path / "out").exists()


def test_a_task_without_classes_has_no_label_noise() -> None:
    from hf_mixup.experiments.tasks import TaskArguments

    with pytest.raises(ValueError, match=r"label_noise=0\.2 is not for text-regression"):
        TaskArguments(task="text-regression").with_noise(0.2)


class Still:
    """A run of which only names and rows are known; equal to itself alone."""

    title = "none, seed 42"
    variant = SimpleNamespace(label="none")
    setting = SimpleNamespace(prepared=SimpleNamespace(train=range(8)))


def test_one_slow_step_does_not_spoil_the_estimate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Any = Still()
    args: Any = SimpleNamespace(max_steps=-1)
    times = iter([0.0, *(1.0 + 2 * step + 500 * (step > 6) for step in range(1, 30))])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(times))
    with progress.Progress(1, [run], args) as shown:
        for step in range(1, 21):
            shown.step(run, step, 100)
    said = "about 3 min of training for 1 runs, if all are as fast as none in its first 12 steps (2 s each)"
    assert capsys.readouterr().err.count(said) == 1
