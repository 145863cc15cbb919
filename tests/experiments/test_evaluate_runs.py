"""`hf-mixup evaluate` of a comparison: each run as if it were evaluated alone, and scores over methods and seeds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("matplotlib")

from hf_mixup.experiments.evaluate import images
from hf_mixup.experiments.evaluate.comparison import stored_runs
from hf_mixup.experiments.evaluate.rows import Scorer
from hf_mixup.experiments.report.robustness import conditions, differences_of, draw_runs, runs_tables
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
    monkeypatch.setattr("hf_mixup.experiments.evaluate.runs.draw_runs", lambda results, folder: [])


@pytest.fixture
def comparison(compared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compared, tmp_path / "out"))


def read(folder: Path, name: str = "results.json") -> Any:
    return json.loads((folder / name).read_text())


def own(results: list[dict[str, Any]], method: str, seed: int) -> dict[str, dict[str, float]]:
    return {row["split"]: row["metrics"] for row in results if (row["method"], row["seed"]) == (method, seed)}


def test_each_run_scores_as_it_does_alone_and_images_are_made_once(
    comparison: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[float] = []
    noise = images.gaussian_noise

    def counted(sigma: float) -> images.Change:
        change = noise(sigma)
        return lambda image, draws: made.append(sigma) or change(image, draws)  # type: ignore[func-returns-value]

    monkeypatch.setattr(images, "gaussian_noise", counted)
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
    for title in ("Rows as they are", "Noise on the inputs", "Adversarial attacks", "Rows of another kind"):
        assert f"### {title}, test" in shown
    assert "- smoothing against none on test, adversarial fgsm: " in shown
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


def test_a_broken_run_and_a_failed_one_are_reported_and_the_others_go_on(
    comparison: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_what_is_no_whole_comparison_is_refused(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "noise_runs belongs to one model" in fails(capsys, "evaluate", comparison, "--noise_runs", tmp_path)
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


# Tables, differences and images, of numbers -----------------------------------------------------------------------


def measured(gain: float = 0.1) -> list[Any]:
    """Three seeds of two methods: clean rows, a corruption at two severities, two attacks, rows of another kind."""
    draws, rows = np.random.default_rng(0), []
    for seed in range(3):
        for method, more in (("none", 0.0), ("mixup:alpha=0.2", gain)):
            cells: list[tuple[str, str, float]] = [
                ("calibration", "", 0),
                ("ood", "noise", 0),
                ("corruption", "fog", 1),
            ]
            cells += [("corruption", "fog", 2), ("adversarial", "fgsm", 0.01), ("adversarial", "pgd", 0.01)]
            for suite, family, level in cells:
                score = float(0.5 + more + draws.normal() / 50)
                metrics = (
                    {"auroc_energy": score} if suite == "ood" else {"accuracy": score, "ece": 0.1, "nll": 1 - score}
                )
                split = {"calibration": "test", "ood": f"test against {family}"}.get(suite, f"test, {family} {level}")
                about = {"suite": suite, "of": "test"} | ({"family": family, "level": level} if level else {})
                rows.append({"method": method, "seed": seed, "split": split, "metrics": metrics, **about})
    return rows


def test_means_over_levels_and_attacks_by_name() -> None:
    results = measured()
    found = {(row["method"], row["seed"], row["split"]): row["metrics"] for many in conditions(results).values()
             for row in many}  # fmt: skip
    names = {"test", "test, corruption", "test, adversarial fgsm", "test, adversarial pgd", "test against noise"}
    assert {name for _, _, name in found} == names
    cells = [row["metrics"]["accuracy"] for row in results
             if row["suite"] == "corruption" and (row["method"], row["seed"]) == ("none", 1)]  # fmt: skip
    assert found["none", 1, "test, corruption"]["accuracy"] == pytest.approx(np.mean(cells))


def test_differences_are_those_of_a_paired_test_adjusted_within_a_suite() -> None:
    results = measured()
    found = [row for row in differences_of(results) if row["split"].startswith("test, adversarial")]
    assert len(found) == 2 * 3
    p_values = {}
    for row in found:
        if row["metric"] != "ece":
            family = row["split"].split()[-1]
            own, its = ([each["metrics"][row["metric"]] for each in results if each["method"] == method
                         and each.get("family") == family] for method in ("mixup:alpha=0.2", "none"))  # fmt: skip
            assert row["estimate"] == pytest.approx(np.mean(own) - np.mean(its))
            p_values[row["split"], row["metric"]] = stats.ttest_rel(own, its).pvalue
    smallest = min(p_values, key=lambda each: p_values[each])
    (its,) = [row for row in found if (row["split"], row["metric"]) == smallest]
    assert its["p"] == pytest.approx(6 * p_values[smallest])
    assert {row["control"] for row in found} == {"none"}


def test_images_have_a_line_a_method_and_old_ones_go(tmp_path: Path) -> None:
    for name in ("noise-test.png", "mine.png"):
        (tmp_path / name).write_bytes(b"old")
    failed = [
        {**row, "metrics": dict.fromkeys(row["metrics"]), "error": "burnt"} for row in measured() if row["seed"] == 2
    ]
    results = [row for row in measured() if row["seed"] < 2] + failed
    made = draw_runs(results, tmp_path)
    assert {path.name for path in made} == {"scores.png", "corruption-test.png", "adversarial-test.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in made} | {"mine.png"}
    assert "- mixup:alpha=0.2, seed 2 failed: burnt" in runs_tables(results)
