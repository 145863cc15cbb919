"""`hf-mixup sweep`: what it writes, that it goes on after an interrupt, and what it refuses."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("optuna")
from safetensors.torch import load_file
from transformers import TrainingArguments

from hf_mixup import MixupConfig, cli
from hf_mixup.experiments.compare import one_run
from hf_mixup.experiments.compare.plan import Run
from hf_mixup.experiments.compare.store import save_run
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.sweep.report import Swept, Trial
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from tests.browser import DESK, PHONE, check_page
from tests.conftest import TINY_RUN


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    sections = {"sweep": {"methods": ["mixup", "cutmix"], "trials": 4, "control_seeds": 2}, "compare": {"seeds": 1}}
    values = {**TINY_RUN, **sections, "output_dir": str(tmp_path / "out")}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Stand in for the training: NLL is least for cutmix with alpha 1; plain training has 1.0 and 1.1."""
    trained: list[tuple[str, int]] = []

    def train_run(run: Run, args: Any, show: Any, watch: Any) -> None:
        trained.append((run.variant.label, run.seed))
        nll, mixup = 1.0 + 0.1 * (run.seed - 42), run.variant.mixup
        if not mixup.off:
            nll = 0.4 + abs(mixup.alpha - 1) / 10 + 0.2 * (mixup.method == "mixup")
        logits, labels = [[1.0, 0.0]] * 2, [0, 1]
        metrics = {split: {"accuracy": 0.5, "ece": nll / 10, "nll": nll} for split in run.setting.prepared.evaluated}
        (Path(args.output_dir) / "model.safetensors").write_bytes(b"weights")
        save_run(Path(args.output_dir), metrics, dict.fromkeys(metrics, (logits, labels)), run.determinants)

    monkeypatch.setattr(one_run, "train_run", train_run)
    return trained


def run(*arguments: object) -> int:
    return cli.main(["sweep", *map(str, arguments)])


def results(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "out" / "results.json").read_text())


def test_the_winner_is_a_file_that_train_takes(
    config: Path, tmp_path: Path, train: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "--trials", 8, "--probs", 0.5, 1) == 0
    out, shown = tmp_path / "out", capsys.readouterr().out
    found = results(tmp_path)
    best = min(found["trials"], key=lambda trial: trial["value"])
    assert found["best"] == best["number"]
    assert best["label"] in shown
    assert (
        "not significantly different from plain training (1.050) with 2 seeds of it (95 % interval of one more -0.0"
        in shown
    )
    assert train[:2] == [("none", 42), ("none", 43)]
    assert [label for label, _ in train[2:]] == [trial["label"] for trial in found["trials"]]

    task, mixup, args = parse_settings([TaskArguments, MixupConfig, TrainingArguments], [str(out / "best.yaml")])
    own = parse_settings([TaskArguments, MixupConfig, TrainingArguments], [str(config)])
    assert task == own[0]
    assert f"{mixup.method}:alpha={mixup.alpha}:prob={mixup.prob}" == best["label"]
    assert (args.max_steps, args.use_cpu, args.output_dir) == (2, True, f"{out}-best")
    page = (out / "report.html").read_text()
    assert best["label"] in page
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_its_page_opens_in_a_browser(config: Path, tmp_path: Path, train: list[Any], browser: Any, width: int) -> None:
    assert run(config) == 0
    check_page(browser, tmp_path / "out" / "report.html", width, "Which mixing?")


def test_an_interrupted_study_goes_on_as_if_it_had_not_been(
    config: Path,
    tmp_path: Path,
    train: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(config, "--output_dir", tmp_path / "whole") == 0
    whole = json.loads((tmp_path / "whole" / "results.json").read_text())
    before = list(train)
    train.clear()
    inner = one_run.train_run
    with monkeypatch.context() as patch:

        def interrupted(*arguments: Any) -> None:
            if len(train) == 4:
                raise KeyboardInterrupt
            inner(*arguments)

        patch.setattr(one_run, "train_run", interrupted)
        assert run(config) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "interrupted: 2 of 4 trials are done and kept; the same command goes on from there"
    assert run(config) == 0
    assert train == before
    found = results(tmp_path)["trials"]
    assert [trial["label"] for trial in found] == [trial["label"] for trial in whole["trials"]]
    journal = tmp_path / "out" / "study.log"
    journal.write_text(journal.read_text()[:-20], encoding="utf-8")  # killed while it wrote
    assert run(config) == 0
    assert run(config, "--trials", 5) == 0  # more of them
    assert len(train) == len(before) + 1
    assert run(config, "--alphas", 0.5, 1) == 2
    assert "was begun with other settings" in capsys.readouterr().err


def test_a_corrupt_study_file_is_named_and_loses_no_run(
    config: Path, tmp_path: Path, train: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config) == 0
    path, count = tmp_path / "out" / "study.log", len(train)
    path.write_text("{" + path.read_text()[5:], encoding="utf-8")
    assert run(config) == 2
    assert "study.log is corrupt" in (message := capsys.readouterr().err)
    assert "delete it; finished runs are kept" in message
    path.unlink()
    assert run(config) == 0
    assert len(train) == count


def test_trials_that_fail_or_are_given_up_are_told(
    config: Path, tmp_path: Path, train: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = one_run.train_run
    failing = iter([RuntimeError("no memory"), one_run.StopRun("worse than the median")])

    def sometimes(run: Run, *rest: Any) -> None:
        if not run.variant.mixup.off and (error := next(failing, None)):
            raise error
        inner(run, *rest)

    monkeypatch.setattr(one_run, "train_run", sometimes)
    assert run(config) == 0
    trials = results(tmp_path)["trials"]
    assert [trial["state"] for trial in trials] == ["fail", "pruned", "complete", "complete"]
    assert [trial.get("reason") for trial in trials[:2]] == ["RuntimeError: no memory", "worse than the median"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "given up" in page
    assert "RuntimeError: no memory" in page


def test_a_full_disk_stops_the_sweep(
    config: Path, train: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = one_run.train_run

    def full(*arguments: Any) -> None:
        if len(train) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        inner(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(one_run, "train_run", full)
        assert run(config) == 2
    assert "1 of 4 trials are done and kept" in capsys.readouterr().err
    assert run(config) == 0
    assert len(train) == 6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "mixup", "cutmx"], "methods: 'cutmx' is no method: did you mean 'cutmix'?"),
        (["--methods", "embedding"], "method 'embedding' does not work here"),
        (["--methods", "manifold", "--layer_sets", "[99]"], "method 'manifold' does not work here"),
        (["--layer_sets", "deep"], "layer_sets has 'deep': expected lists of layers such as '[0, 1]'"),
        (["--alphas", "1"], "alphas=[1.0]: expected a low and a high value, 0 < low < high"),
        (["--probs", "0.5", "1.5"], "probs=[0.5, 1.5]: expected a low and a high value, 0 < low < high <= 1"),
        (["--methods", "mixup", "gaussian"], "method 'gaussian' does not read it (it has none): leave that out, or"),
        (["--methods", "specmix"], "method 'specmix' does not read it (it has none)"),
        (["--methods", "mixup", "--lam", "0.5"], "does not read it (something else takes its place)"),
        (["--methods", "mixup", "--layer_sets", "[0]"], "layer_sets: none of the methods (mixup) reads layers"),
        (["--methods", "mixup", "cutmix", "--grid", "9"], "grid=9: none of the methods (mixup, cutmix) reads it"),
        (["--trials", "0"], "trials=0: expected a whole number from 1 on"),
        (["--control_seeds", "1"], "control_seeds=1: expected a whole number from 2 on"),
        (["--select_by", "mean_recall"], "select_by='mean_recall' does not score image-classification"),
    ],
)
def test_wrong_settings(
    config: Path, tmp_path: Path, train: list[Any], capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert run(config, *flags) == 2
    assert message in capsys.readouterr().err
    assert not train
    assert not (tmp_path / "out").exists()


def test_a_folder_or_a_package_that_does_not_fit(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr("hf_mixup.utils.suggest.find_spec", lambda name: None if name == "optuna" else name)
        context.setattr("hf_mixup.cli.sweep.parse", None)  # what takes seconds to load is not asked before
        assert run(config) == 2
    assert 'pip install "hf-mixup[sweep]"' in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert run(config) == 2
    assert "holds no sweep" in capsys.readouterr().err


def test_a_trial_is_the_run_that_train_would_make(config: Path, tmp_path: Path) -> None:
    """With real training: a run looked at on its way has the weights that `train` gets from the winner's file."""
    flags = ("--trials", 2, "--max_steps", 6, "--methods", "manifold", "--layer_sets", "[0]", "[0, 1]", "--flip")
    assert run(config, *flags, "--prune", "true") == 0
    found = results(tmp_path)
    assert all("layers=[0" in trial["label"] for trial in found["trials"])
    best = next(trial for trial in found["trials"] if trial["number"] == found["best"])
    assert cli.main(["train", str(tmp_path / "out" / "best.yaml")]) == 0
    trained = load_file(tmp_path / "out-best" / "model.safetensors")
    results_ = json.loads((tmp_path / "out-best" / "eval_results.json").read_text())
    assert results_["eval_nll"] == best["value"]
    folders = (tmp_path / "out" / "runs").glob("manifold*")
    assert any(all(w.equal(trained[k]) for k, w in load_file(f / "model.safetensors").items()) for f in folders)


def test_pruning_stops_a_run_and_stores_nothing(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from optuna.trial import Trial as OptunaTrial

    monkeypatch.setattr(OptunaTrial, "should_prune", lambda trial: trial.number > 0)
    assert run(config, "--trials", 2, "--max_steps", 4, "--methods", "mixup") == 0
    first, second = results(tmp_path)["trials"]
    assert (first["state"], second["state"]) == ("complete", "pruned")
    assert second["reason"].endswith("after 1 steps is worse than the median")
    assert second["value"] is not None
    assert len(list((tmp_path / "out" / "runs").glob("mixup*"))) == 1


@pytest.mark.parametrize(
    ("values", "best", "text"),
    [
        # mean 1, deviation 0.1, three seeds: t(0.975, 2) = 4.303 times 0.1 times sqrt(4 / 3) is 0.497
        ((0.9, 1.0, 1.1), 0.49, "0.490, better than plain training (1.000) with 3 seeds of it (95 % interval of one "
         "more 0.503 to 1.497); the best of many flatters"),
        ((0.9, 1.0, 1.1), 0.51, "0.510, not significantly different from plain training (1.000) with 3 seeds of it "
         "(95 % interval of one more 0.503 to 1.497)"),
        ((0.9, 1.0, 1.1), 1.26, "1.260, not significantly different from plain training"),
        ((0.9, 1.0, 1.1), 1.51, "1.510, worse than plain training (1.000) with 3 seeds"),
        ((1.0, 1.1), 0.8, "not significantly different from plain training (1.050) with 2 seeds"),
        ((1.0, None), 0.5, "nothing to compare it with"),
    ],
)  # fmt: skip
def test_the_verdict_on_the_winner(values: tuple[Any, Any], best: float, text: str) -> None:
    trial = Trial(0, "mixup:alpha=1.0", MixupConfig(), best, "complete", {"nll": best}, None)
    assert text in Swept(None, SharedSettings(), "nll", [{"nll": value} for value in values], [trial]).verdict  # type: ignore[arg-type]
