"""`hf-mixup evaluate` of a comparison: each run as if it were evaluated alone, and scores over methods and seeds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from hf_mixup.experiments.evaluate import image_changes
from hf_mixup.experiments.evaluate.scorer import Scorer
from hf_mixup.experiments.evaluate.stored_runs import stored_runs
from tests.conftest import TINY_RUN
from tests.experiments.test_cli import fails, run, write

QUIET = ("--use_cpu", "--report_to", "none")
SUITES = ("--suite", "noise,adversarial,ood", "--noise_levels", 0.1, 0.3, "--adversarial_attacks", "fgsm",
          "--adversarial_eps", "2/255", "8/255", "--test_splits", "test")  # fmt: skip
RUNS = [(method, seed) for seed in (42, 43) for method in ("none", "smoothing")]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two controls and two seeds, beside a run of the same name with other settings."""
    folder = tmp_path_factory.mktemp("compared")
    values = {**TINY_RUN, "output_dir": str(folder / "out"), "compare": {"methods": ["none,smoothing"], "seeds": 2}}
    config = write(folder / "c.yaml", values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_mixup.experiments.compare.run.write_report", lambda output, *rest: output / "report.html")
        assert run("compare", config, "--methods", "none", "--seeds", 1, "--max_steps", 1) == 0
        assert run("compare", config) == 0
    return folder / "out"


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_mixup.experiments.evaluate.run.draw_evaluation", lambda results, arrays, folder: [])
    monkeypatch.setattr("hf_mixup.experiments.evaluate.every_run.draw_runs", lambda results, folder: [])


@pytest.fixture
def comparison(compared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compared, tmp_path / "out"))


def read(folder: Path, name: str = "results.json") -> Any:
    return json.loads((folder / name).read_text())


def own(results: list[dict[str, Any]], method: str, seed: int) -> dict[str, dict[str, float]]:
    return {row["split"]: row["metrics"] for row in results if (row["method"], row["seed"]) == (method, seed)}


def test_each_run_scores_as_alone_and_images_are_made_once(
    comparison: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[float] = []
    noise = image_changes.gaussian_noise

    def counted(sigma: float) -> image_changes.ImageChange:
        change = noise(sigma)
        return lambda image, draws: made.append(sigma) or change(image, draws)  # type: ignore[func-returns-value]

    monkeypatch.setattr(image_changes, "gaussian_noise", counted)
    assert run("evaluate", comparison, *SUITES, *QUIET) == 0
    assert len(made) == 2 * 12, "both levels of 12 rows, once for all runs"
    shown, results = capsys.readouterr().out, read(comparison / "evaluation")
    assert list(dict.fromkeys((row["method"], row["seed"]) for row in results)) == RUNS
    stored = stored_runs(comparison)
    assert len(list((comparison / "runs").iterdir())) == 5
    for each in stored:
        alone = comparison.parent / f"{each.label}-{each.seed}"
        assert run("evaluate", each.folder, *SUITES, "--output_dir", alone, "--write_card", "false", *QUIET) == 0
        theirs = {row["split"]: row["metrics"] for row in read(alone)}
        assert own(results, each.label, each.seed) == theirs
        trained = {row["split"]: row["metrics"]["nll"] for row in read(comparison)
                   if (row["method"], row["seed"]) == (each.label, each.seed)}  # fmt: skip
        assert theirs["test"]["nll"] == pytest.approx(trained["test"], rel=1e-5), "the run that the results speak of"

    values = [own(results, "none", seed)["test"]["noise_accuracy"] for seed in (42, 43)]
    assert f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" in shown
    for title in ("Clean samples", "Noise on the inputs", "Adversarial attacks", "Out-of-distribution samples"):
        assert f"### {title}, test" in shown
    assert "- smoothing against none on test, adversarial fgsm: " in shown
    page = (comparison / "evaluation" / "report.html").read_text(encoding="utf-8")
    drawn = list((comparison / "evaluation").glob("*.png"))
    assert page.count("data:image/png;base64,") == len(drawn)
    assert "<li>smoothing against none on test, adversarial fgsm: " in page
    assert not (stored[0].folder / "evaluation").exists()  # type: ignore[operator]


def test_ctrl_c_keeps_what_is_finished(
    comparison: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    score = Scorer.__call__

    def counted(self: Scorer, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return score(self, *arguments, **named)

    monkeypatch.setattr(Scorer, "__call__", counted)
    flags = ("evaluate", comparison, "--suite", "noise", "--noise_levels", 0.1, "--test_splits", "test", *QUIET)
    assert run(*flags) == 130  # three parts a run: validation, test, noise
    assert "1 of 4 runs are evaluated, and finished parts are kept; the same" in capsys.readouterr().err
    assert {path.name for path in (comparison / "evaluation").iterdir()} == {"finished"}
    assert run(*flags) == 0
    assert len(calls) == 6 + 4 * 3 - 5
    first = (comparison / "evaluation" / "results.json").read_text()
    assert run(*flags) == 0
    assert len(calls) == 13, "nothing is scored twice"
    assert (comparison / "evaluation" / "results.json").read_text() == first


def test_failed_runs_are_reported_and_the_others_go_on(comparison: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _, third, _ = stored_runs(comparison)
    (Path(str(first.folder)) / "preprocessor_config.json").unlink()
    shutil.rmtree(str(third.folder))
    assert run("evaluate", comparison, "--test_splits", "test", *QUIET) == 0
    shown, results = capsys.readouterr(), read(comparison / "evaluation")
    assert "none, seed 42 failed: OSError" in shown.err
    assert "- none, seed 43 failed: no folder in runs/ has its scores: run the same compare command again" in shown.out
    assert "nan (2 of 2)" in shown.out
    assert "not judged: 2 of 2 seeds failed" in shown.out
    rows = {(row["method"], row["seed"]): row for row in results}
    assert set(rows) == set(RUNS)
    assert set(rows["none", 42]["metrics"].values()) == {None}
    assert rows["none", 43]["error"].startswith("no folder")
    assert rows["smoothing", 43]["metrics"]["accuracy"] is not None

    rest = [row for row in read(comparison) if row["method"] == "none"]
    (comparison / "results.json").write_text(json.dumps([{**row, "error": "it burnt"} for row in rest]))
    assert "holds no model to evaluate: it burnt" in fails(capsys, "evaluate", comparison, *QUIET)


def test_an_unfinished_comparison_is_refused(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "label_noise_runs belongs to one model" in fails(
        capsys, "evaluate", comparison, "--label_noise_runs", tmp_path
    )
    results = read(comparison)
    halves = [{**row, "fraction": share} for row in results for share in (0.5, 1.0)]
    (comparison / "results.json").write_text(json.dumps(halves))
    message = fails(capsys, "evaluate", comparison, *QUIET)
    assert "compares on 2 settings of the data (fraction 0.5, fraction 1.0), and evaluate takes one" in message
    for text in ("{", "[]", '[{"method": "none"}]', "3"):
        (comparison / "results.json").write_text(text)
        assert "does not hold the results of a comparison" in fails(capsys, "evaluate", comparison, *QUIET)
    (comparison / "results.json").unlink()
    assert "has no results.json yet" in fails(capsys, "evaluate", comparison, *QUIET)
    (comparison / "compare.json").unlink()
    assert "holds no model itself, but folders with one" in fails(capsys, "evaluate", comparison, *QUIET)
    assert not (comparison / "evaluation").exists()
