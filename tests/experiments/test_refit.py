"""Scores after a temperature: sane on few rows, and one number under one name wherever it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.special import log_softmax

pytest.importorskip("matplotlib")

from hf_mixup import cli
from hf_mixup.experiments.tasks.prepared import refitted, temperature_of
from hf_mixup.experiments.tasks.tables import load_table
from hf_mixup.metrics import calibration_metrics, fit_temperature
from tests.conftest import TINY_RUN


def classifier(rows: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too large by a factor, and labels drawn from what they should be."""
    rng = np.random.default_rng(seed)
    logits = 4 * rng.normal(size=(rows, 2))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits * temperature, labels


@pytest.mark.parametrize(("rows", "most"), [(12, 0.5), (40, 0.2), (120, 0.05)])
def test_a_cross_fit_of_few_rows_does_not_explode(rows: int, most: float) -> None:
    """In halves, without a cost of its own, T went to its bound wherever a half had no error."""
    worse, temperatures = [], []
    for seed in range(30):
        logits, labels = classifier(rows, 1.4, seed)
        found = calibration_metrics(logits, labels)
        worse.append(found["nll_temperature"] - found["nll"])
        temperatures.append(found["temperature"])
        assert found["temperature"] == fit_temperature(logits, labels)
    assert max(worse) < most
    assert np.mean(worse) < most / 10
    assert min(temperatures) > 0.3
    assert np.exp(np.mean(np.log(temperatures))) == pytest.approx(1.4, rel=0.35 if rows < 100 else 0.1)


def test_one_temperature_of_validation_rows_for_all_others() -> None:
    validation, test = classifier(400, 1.4, 0), classifier(300, 1.4, 1)
    temperature = temperature_of(validation)
    assert temperature == pytest.approx(1.4, rel=0.15)
    found, logits = refitted(test, temperature), test[0] / temperature
    own = log_softmax(logits, axis=1)[np.arange(300), test[1]]
    assert found["nll_temperature"] == pytest.approx(-own.mean())
    expected = calibration_metrics(*test, temperature=temperature)
    assert found == pytest.approx({name: expected[name] for name in found})
    diverged = (np.full((3, 2), np.nan), np.zeros(3, dtype=int))
    assert np.isnan([temperature_of(diverged), *refitted(diverged, 1.0).values()]).all()
    assert np.isnan(list(refitted(test, float("nan")).values())).all()


def numbers(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("tests", [True, False])
def test_results_and_best_model_have_the_same_numbers(
    tests: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"task": "tabular-classification", "dataset": "wine", "max_steps": 8, "report_to": "none"}
    if not tests:
        rows = tmp_path / "wine.csv"
        load_table("wine")["train"].to_csv(rows, index=False)
        settings |= {"dataset": str(rows), "validation_share": 0.4}
    settings |= {"output_dir": str(tmp_path / "out"), "use_cpu": True}
    config = tmp_path / "compare.yaml"
    config.write_text(yaml.safe_dump({**settings, "compare": {"methods": ["none", "mixup"], "seeds": 2}}))
    assert cli.main(["compare", str(config)]) == 0
    shown = capsys.readouterr().out
    results = {(r["method"], r["seed"], r["split"]): r["metrics"] for r in numbers(tmp_path / "out" / "results.json")}
    assert {split for *_, split in results} == {"validation", "test"} if tests else {"validation"}
    folders = list((tmp_path / "out" / "runs").iterdir())
    for folder in [*folders, tmp_path / "out" / "best"]:
        stored = numbers(folder / "result.json")["metrics"]
        assert all(metrics in results.values() for metrics in stored.values())
    for folder in folders:
        stored = numbers(folder / "result.json")["metrics"]
        with np.load(folder / "predictions.npz") as kept:
            temperature = fit_temperature(kept["validation.0"], kept["validation.1"])
        assert {metrics["temperature"] for metrics in stored.values()} == {temperature}
    own = "After temperature scaling, with one temperature a run, fitted to its validation samples"
    crossed = "After temperature scaling, cross-fitted within the validation samples, as there is no test split"
    for text in (shown, (tmp_path / "out" / "report.html").read_text(encoding="utf-8")):
        assert (own in text, crossed in text) == (tests, not tests)


def test_what_training_leaves(tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(yaml.safe_dump({**TINY_RUN, "output_dir": str(tmp_path / "out")}), encoding="utf-8")
    assert cli.main(["train", str(config)]) == 0
    assert cli.main(["compare", str(config), "--output_dir", str(tmp_path / "compared"), "--methods", "none"]) == 0
    trained = numbers(tmp_path / "out" / "all_results.json")
    assert trained["test_temperature"] == trained["test_shifted_temperature"] == trained["eval_temperature"]
    results = {r["split"]: r["metrics"] for r in numbers(tmp_path / "compared" / "results.json")}
    assert numbers(tmp_path / "compared" / "best" / "result.json")["metrics"] == results
    assert len({metrics["temperature"] for metrics in results.values()}) == 1
