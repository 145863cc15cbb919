"""Metrics against float64 loops, torchmetrics, scikit-learn, hand-worked cases and known properties."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_mixup import metrics

KEYS = ["accuracy", "nll", "brier", "ece", "ece_mass", "temperature", "ece_temperature", "nll_temperature"]


class Evaluation:
    """What a Trainer hands to compute_metrics, without importing transformers."""

    def __init__(self, predictions, label_ids):
        self.predictions, self.label_ids = predictions, label_ids


def random_classifier(rows: int = 400, classes: int = 5, seed: int = 0, scale: float = 2.0):
    """Logits that are right more often than chance, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = scale * (rng.normal(size=(rows, classes)) + np.eye(classes)[labels])
    return logits, labels


def calibrated_classifier(rows: int, classes: int = 4, seed: int = 0):
    """Logits, and labels drawn from their own softmax: perfectly calibrated."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(rows, classes))
    gumbel = rng.gumbel(size=(rows, classes))
    return logits, (logits + gumbel).argmax(axis=1)


# Brute-force references, one row at a time. -------------------------------------------------------------------------


def loop_softmax(logits) -> list[list[float]]:
    rows = []
    for row in logits:
        exps = [math.exp(float(value) - float(max(row))) for value in row]
        rows.append([value / math.fsum(exps) for value in exps])
    return rows


def loop_scores(logits, labels) -> dict[str, float]:
    probs, n = loop_softmax(logits), len(labels)
    return {
        "accuracy": sum(row.index(max(row)) == label for row, label in zip(probs, labels, strict=True)) / n,
        "nll": math.fsum(-math.log(row[label]) for row, label in zip(probs, labels, strict=True)) / n,
        "brier": math.fsum((p - (c == y)) ** 2 for row, y in zip(probs, labels, strict=True) for c, p in enumerate(row))
        / n,
    }


def loop_ece(logits, labels, edges) -> float:
    """ECE with bins [edges[i], edges[i + 1]), the last one closed."""
    probs, n, total = loop_softmax(logits), len(labels), 0.0
    for i in range(len(edges) - 1):
        confidences, hits = [], []
        for row, label in zip(probs, labels, strict=True):
            confidence, last = max(row), i == len(edges) - 2
            if edges[i] <= confidence and (confidence < edges[i + 1] or last):
                confidences.append(confidence)
                hits.append(row.index(confidence) == label)
        if hits:
            total += len(hits) / n * abs(sum(hits) / len(hits) - math.fsum(confidences) / len(hits))
    return total


def sorted_edges(logits, n_bins: int) -> list[float]:
    """Edges halfway through a sorted list: the n-quantiles where rows divide evenly and confidences differ."""
    confidences = sorted(max(row) for row in loop_softmax(logits))
    size = len(confidences) // n_bins
    inner = [(confidences[i * size - 1] + confidences[i * size]) / 2 for i in range(1, n_bins)]
    return [0.0, *inner, 1.0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 5, 11])
def test_all_scores_match_a_loop(classes, seed):
    logits, labels = random_classifier(rows=300, classes=classes, seed=seed)
    got = metrics.calibration_metrics(logits, labels)
    expected = loop_scores(logits, labels)
    expected["ece"] = loop_ece(logits, labels, [i / 15 for i in range(16)])
    expected["ece_mass"] = loop_ece(logits, labels, sorted_edges(logits, 15))
    assert list(got) == KEYS
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_scores_match_torchmetrics_and_sklearn():
    from sklearn.metrics import accuracy_score, log_loss
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = random_classifier(rows=500, classes=6)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    got = metrics.calibration_metrics(logits, labels)
    ece = multiclass_calibration_error(torch.tensor(probs), torch.tensor(labels), num_classes=6, n_bins=15)
    assert got["ece"] == pytest.approx(float(ece), abs=1e-6)  # torchmetrics bins in float32
    assert got["nll"] == pytest.approx(log_loss(labels, probs), abs=1e-12)
    assert got["accuracy"] == accuracy_score(labels, probs.argmax(axis=1))


@pytest.mark.parametrize(("reference", "brier"), [(0, 0.04 + 0.01 + 0.01), (2, 0.64 + 0.01 + 0.81)])
def test_one_row_by_hand(reference, brier):
    got = metrics.calibration_metrics([[0.8, 0.1, 0.1]], [reference], from_logits=False)
    probability, hit = (0.8, 1) if reference == 0 else (0.1, 0)
    assert got["accuracy"] == hit
    assert got["nll"] == pytest.approx(-math.log(probability))
    assert got["brier"] == pytest.approx(brier)
    assert got["ece"] == got["ece_mass"] == pytest.approx(abs(hit - 0.8))
    assert got["temperature"] == metrics.fit_temperature(np.log([[0.8, 0.1, 0.1]]), [reference])
    assert all(math.isnan(got[name]) for name in KEYS[6:]), "one row cannot be split for the temperature"


def test_ece_by_hand():
    # Confidence 0.95 right once out of twice, 0.55 right: (2 * |0.5 - 0.95| + 1 * |1 - 0.55|) / 3
    probs = [[0.95, 0.05], [0.95, 0.05], [0.45, 0.55]]
    ece = metrics.expected_calibration_error(probs, [0, 1, 1], n_bins=10, from_logits=False)
    assert ece == pytest.approx((2 * 0.45 + 0.45) / 3)


def test_confidence_of_one_is_in_the_last_bin():
    bins = metrics.reliability_bins([[1.0, 0.0], [0.97, 0.03]], [0, 1], n_bins=15, from_logits=False)
    assert bins.counts[-1] == 2
    assert len(bins.counts) == 15
    assert bins.accuracy[-1] == 0.5
    assert bins.confidence[-1] == pytest.approx(0.985)


def test_equal_mass_keeps_ties_together_and_ignores_row_order():
    probs, labels = np.tile([0.7, 0.3], (100, 1)), np.repeat([0, 1], [70, 30])
    ece = partial(metrics.expected_calibration_error, binning="mass", from_logits=False)
    assert ece(probs, labels) == pytest.approx(0.0, abs=1e-12)
    logits, labels = random_classifier()
    order = np.random.default_rng(1).permutation(len(labels))
    assert ece(logits[order], labels[order], from_logits=True) == pytest.approx(ece(logits, labels, from_logits=True))


def test_equal_mass_bins_are_equally_full():
    logits, labels = random_classifier(rows=450)
    bins = metrics.reliability_bins(logits, labels, n_bins=15, binning="mass")
    assert bins.counts.tolist() == [30] * 15


def test_bins_reproduce_the_error():
    logits, labels = random_classifier()
    bins = metrics.reliability_bins(logits, labels)
    full = bins.counts > 0
    gaps = np.abs(bins.accuracy - bins.confidence)[full]
    assert metrics.expected_calibration_error(logits, labels) == pytest.approx(
        np.average(gaps, weights=bins.counts[full])
    )


# Properties ---------------------------------------------------------------------------------------------------------


def test_calibrated_data_has_small_error_and_temperature_one():
    got = metrics.calibration_metrics(*calibrated_classifier(rows=20_000))
    assert got["ece"] < 0.015
    assert got["ece_mass"] < 0.015
    assert got["temperature"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("temperature", [0.2, 0.5, 3.0, 10.0])
def test_temperature_of_scaled_logits_is_recovered(temperature):
    logits, labels = calibrated_classifier(rows=20_000)
    fitted = metrics.fit_temperature(logits * temperature, labels)
    assert fitted == pytest.approx(temperature, rel=0.05)
    base = metrics.fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature * base, rel=1e-3), "scaling the logits scales the temperature"

    got = metrics.calibration_metrics(logits * temperature, labels)
    assert got["ece_temperature"] < 0.02 < got["ece"]
    assert got["nll_temperature"] < got["nll"]


def test_temperature_is_the_minimum_of_the_nll_and_its_own_cost():
    logits, labels = random_classifier()
    fitted = metrics.fit_temperature(logits, labels)

    def summed(t):
        return len(labels) * metrics.negative_log_likelihood(logits / t, labels) + math.log(t) ** 2 / 2

    grid = np.geomspace(0.05, 20, 400)
    assert summed(fitted) <= min(summed(t) for t in grid)
    alone = grid[np.argmin([metrics.negative_log_likelihood(logits / t, labels) for t in grid])]
    assert fitted == pytest.approx(alone, rel=0.02), "of 400 rows the cost hardly moves it"


@pytest.mark.parametrize("margin", [0.5, 3.0, 20.0, 500.0])
@pytest.mark.parametrize("rows", [1, 2, 40, 1000])
def test_temperature_of_rows_that_are_all_right_or_all_wrong(rows, margin):
    """They have no T of their own; what is fitted must not ruin other rows."""
    logits = np.tile([margin, 0.0], (rows, 1))
    sharper = metrics.fit_temperature(logits, np.zeros(rows, dtype=int))
    softer = metrics.fit_temperature(logits, np.ones(rows, dtype=int))
    assert 0.05 <= sharper <= 1.0 + 1e-6 <= softer <= 20.0
    if margin == 3.0:
        assert sharper > 0.3, "an error elsewhere, of the same margin, costs 10 nats, not 60"
    if margin >= 20:
        assert sharper == pytest.approx(1.0, abs=1e-3), "nothing is gained by more certainty"


def test_temperature_from_separate_rows_or_given():
    logits, labels = random_classifier(seed=0)
    other_logits, other_labels = random_classifier(seed=1)
    fitted = metrics.calibration_metrics(
        logits, labels, calibration_logits=other_logits, calibration_references=other_labels
    )
    expected = metrics.fit_temperature(other_logits, other_labels)
    assert fitted["temperature"] == expected
    assert fitted["nll_temperature"] == pytest.approx(
        metrics.negative_log_likelihood(logits / expected, labels), abs=1e-12
    )
    assert metrics.calibration_metrics(logits, labels, temperature=expected) == fitted
    unscaled = metrics.calibration_metrics(logits, labels, temperature=1.0)
    assert unscaled["ece_temperature"] == pytest.approx(unscaled["ece"])


@pytest.mark.parametrize(("rows", "parts"), [(2, 2), (7, 7), (101, 10), (2001, 2)])
def test_cross_fit_judges_each_part_with_the_others(rows, parts):
    logits, labels = random_classifier(rows=rows)
    scaled = logits.copy()
    for part in np.array_split(np.random.default_rng(7).permutation(rows), parts):
        others = np.setdiff1d(np.arange(rows), part)
        scaled[part] /= metrics.fit_temperature(logits[others], labels[others])
    got = metrics.calibration_metrics(logits, labels, seed=7)
    assert got["temperature"] == metrics.fit_temperature(logits, labels), "one meaning: that of all these rows"
    assert got["nll_temperature"] == pytest.approx(metrics.negative_log_likelihood(scaled, labels), rel=1e-6)
    assert got["ece_temperature"] == pytest.approx(metrics.expected_calibration_error(scaled, labels), rel=1e-6)
    assert got == metrics.calibration_metrics(logits, labels, seed=7)


def test_probabilities_give_the_same_as_their_logits():
    logits, labels = random_classifier()
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    by_probs = metrics.calibration_metrics(probs, labels, from_logits=False)
    assert by_probs == pytest.approx(metrics.calibration_metrics(logits, labels), abs=1e-6)


def test_zero_probability_of_the_label_is_finite():
    assert metrics.negative_log_likelihood([[1.0, 0.0]], [1], from_logits=False) == pytest.approx(690.8, abs=0.1)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_large_logits_do_not_overflow(shift):
    got = metrics.calibration_metrics([[800.0 + shift, shift], [shift, 800.0 + shift]], [0, 0], temperature=1.0)
    assert got["nll"] == pytest.approx(400.0)
    assert got["ece"] == pytest.approx(0.5)


# Inputs -------------------------------------------------------------------------------------------------------------


def test_ignored_rows_and_missing_class():
    logits, labels = random_classifier(rows=60, classes=3)
    labels[labels == 2] = 1  # class 2 never occurs
    got = metrics.calibration_metrics(logits[:50], labels[:50])
    padded = np.where(np.arange(60) < 50, labels, -100)
    assert metrics.calibration_metrics(logits, padded) == got


def test_tokens_are_scored_one_by_one():
    logits, labels = random_classifier(rows=24, classes=3)
    by_token = metrics.calibration_metrics(logits.reshape(4, 6, 3), labels.reshape(4, 6))
    assert by_token == metrics.calibration_metrics(logits, labels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_tensors(dtype):
    logits, labels = random_classifier(rows=50)
    tensor = torch.tensor(logits).to(dtype).requires_grad_()
    expected = metrics.calibration_metrics(tensor.detach().double().numpy(), labels)
    assert metrics.calibration_metrics(tensor, torch.tensor(labels)) == expected
    # As the Trainer hands them over: float32 numpy that came from bfloat16, and such probabilities.
    assert metrics.calibration_metrics(tensor.detach().float().numpy(), labels) == expected
    probs = torch.softmax(tensor.detach().double(), 1).to(dtype).float().numpy()
    rounded = metrics.calibration_metrics(probs, labels, from_logits=False)
    assert rounded["nll"] == pytest.approx(expected["nll"], abs=0.02)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([[0.0, np.nan], [np.inf, 0.0]], [0, 1], "logits hold 2 NaN or infinite values out of 4"),
        ([[0.0, 1.0]] * 4, [0, 2, 7, 2], r"3 references are no class of the 2 prediction columns .*: 2, 7"),
        ([[0.0, 1.0]], [-1], "1 references are no class"),
        ([[0.0, 1.0]], [0.5], "1 references are no class"),
        ([[0.0, 1.0]], [np.nan], "references hold 1 NaN"),
        ([[0.0, 1.0]], [-100], "no row to score"),
        (np.zeros((0, 3)), [], "no row to score"),
        ([[0.0, 1.0]], [0, 1], "do not match"),
        ([[0.0, 1.0], [0.0]], [0, 1], "rectangular"),
        ([["a", "b"]], [0], "rectangular numeric"),
        ([[1.0]], [0], "at least 2 class columns"),
    ],
)
def test_bad_input_is_named(predictions, references, message):
    with pytest.raises(ValueError, match=message):
        metrics.calibration_metrics(predictions, references)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "positive and finite"),
        ({"temperature": math.nan}, "positive and finite"),
        ({"n_bins": 0}, "n_bins"),
        ({"calibration_logits": [[0.0, 1.0]]}, "together"),
        ({"temperature": 1.0, "calibration_logits": [[0.0, 1.0]], "calibration_references": [0]}, "not both"),
        ({"from_logits": False}, "are they logits"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        metrics.calibration_metrics([[3.0, 1.0], [0.0, 1.0]], [0, 1], **options)


def test_bad_binning_is_named():
    with pytest.raises(ValueError, match="'width' or 'mass'"):
        metrics.reliability_bins([[3.0, 1.0]], [0], binning="area")


# Trainer ------------------------------------------------------------------------------------------------------------


def test_compute_metrics_classifies_from_a_tuple():
    logits, labels = random_classifier()
    hidden_states = np.zeros((len(labels), 7))
    expected = metrics.calibration_metrics(logits, labels)
    assert metrics.compute_metrics(Evaluation((logits, hidden_states), labels)) == expected
    fixed = partial(metrics.compute_metrics, temperature=2.0)
    assert fixed(Evaluation(logits, labels))["temperature"] == 2.0


@pytest.mark.parametrize("labels", [None, (np.zeros(3), np.zeros(3))])
def test_compute_metrics_wants_one_array_of_labels(labels):
    with pytest.raises(ValueError, match="one array of labels"):
        metrics.compute_metrics(Evaluation(np.zeros((3, 2)), labels))


def test_compute_metrics_runs_inside_a_trainer(tmp_path):
    from transformers import Trainer, TrainingArguments

    class Tiny(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3, 2)

        def forward(self, x, labels=None):
            logits = self.linear(x)
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    rows = [{"x": torch.randn(3), "labels": i % 2} for i in range(10)]
    arguments = TrainingArguments(str(tmp_path), per_device_eval_batch_size=4, report_to=[], use_cpu=True)
    trainer = Trainer(Tiny(), arguments, eval_dataset=rows, compute_metrics=metrics.compute_metrics)
    result = trainer.evaluate()
    assert result["eval_nll"] == pytest.approx(result["eval_loss"], abs=1e-5)
    assert {f"eval_{name}" for name in KEYS} <= set(result)


def test_multilabel_matches_sklearn_by_class():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    labels = (rng.random((80, 4)) < 0.4).astype(np.float32)
    labels[:, 3] = 0  # a label nobody carries
    logits = rng.normal(size=labels.shape) + labels
    hits = lambda keep: (  # noqa: E731
        2 * (labels[:, keep] * (logits[:, keep] > 0)).sum() / (labels[:, keep].sum() + (logits[:, keep] > 0).sum())
    )
    assert metrics.compute_metrics(Evaluation(logits, labels)) == pytest.approx(
        {
            "f1_micro": hits([0, 1, 2, 3]),
            "f1_macro": np.mean([hits([c]) for c in range(4)]),
            "mean_average_precision": np.mean([average_precision_score(labels[:, c], logits[:, c]) for c in range(3)]),
        }
    )


def test_multilabel_by_hand():
    # Label 0 ranks its two rows first and third: precision 1 and 2/3, mean 5/6. Nothing is predicted for label 1.
    logits, labels = [[3.0, -1.0], [2.0, -1.0], [1.0, -2.0]], [[1, 1], [0, 1], [1, 0]]
    got = metrics.multilabel_metrics(logits, labels)
    assert got["mean_average_precision"] == pytest.approx((5 / 6 + 1) / 2)
    assert got["f1_macro"] == pytest.approx((2 * 2 / 5 + 0) / 2)
    assert got["f1_micro"] == pytest.approx(2 * 2 / (4 + 3))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[0.1, 0.2]], [[0.3, 0.7]], "2 multi-label references are neither 0 nor 1, the first is 0.3"),
        ([[np.nan, 0.2]], [[0, 1]], "NaN"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "no row to score"),
    ],
)
def test_multilabel_bad_input(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        metrics.compute_metrics(Evaluation(logits, labels))


def test_multilabel_without_any_positive():
    got = metrics.multilabel_metrics([[1.0, -1.0]], [[0, 0]])
    assert math.isnan(got["mean_average_precision"])
    assert got["f1_micro"] == 0.0


@pytest.mark.parametrize("column", [True, False])
def test_regression_matches_numpy(column):
    rng = np.random.default_rng(0)
    targets = rng.normal(size=50)
    values = targets + rng.normal(scale=0.3, size=50)
    got = metrics.compute_metrics(Evaluation(values[:, None] if column else values, targets))
    ranks = [np.argsort(np.argsort(side)) for side in (values, targets)]
    assert got == pytest.approx(
        {
            "mse": np.mean((values - targets) ** 2),
            "mae": np.mean(np.abs(values - targets)),
            "r2": 1 - np.sum((values - targets) ** 2) / np.sum((targets - targets.mean()) ** 2),
            "spearman": np.corrcoef(*ranks)[0, 1],
        }
    )


@pytest.mark.filterwarnings("error")
def test_regression_without_variation_is_nan_not_a_warning():
    got = metrics.regression_metrics([[1.5]], [1.0])
    assert got["mse"] == 0.25
    assert math.isnan(got["r2"])
    assert math.isnan(got["spearman"])
    constant = metrics.regression_metrics([2.0, 2.0], [1.0, 3.0])
    assert constant["r2"] == 0.0
    assert math.isnan(constant["spearman"])


@pytest.mark.parametrize(("values", "targets"), [([], []), ([[1.0]], [1.0, 2.0]), ([[np.nan]], [0.0])])
def test_regression_bad_input(values, targets):
    with pytest.raises(ValueError, match=r"no row|do not match|NaN"):
        metrics.regression_metrics(values, targets)


# The evaluate module ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return metrics.load("calibration", cache_dir=str(tmp_path_factory.mktemp("evaluate")))


def test_evaluate_module_equals_the_function(metric):
    logits, labels = random_classifier()
    expected = metrics.calibration_metrics(logits, labels)
    assert metric.compute(predictions=logits, references=labels) == expected


def test_add_batch_equals_one_shot(metric):
    logits, labels = random_classifier(rows=50)
    for start in range(0, 50, 16):
        metric.add_batch(predictions=logits[start : start + 16], references=labels[start : start + 16])
    metric.add(prediction=[0.0] * 5, reference=-100)
    options = {"n_bins": 10, "calibration_logits": logits * 2, "calibration_references": labels}
    assert metric.compute(**options) == metrics.calibration_metrics(logits, labels, **options)


def test_evaluate_module_takes_probabilities(metric):
    got = metric.compute(predictions=[[0.75, 0.25]] * 2, references=[0, 1], from_logits=False, temperature=1.0)
    assert got["ece"] == pytest.approx(0.25)


def test_loads_offline_in_an_empty_cache(tmp_path):
    script = (
        "import evaluate, hf_mixup.metrics as m\n"
        "metric = evaluate.load(m.path('calibration'))\n"
        "print(metric.compute(predictions=[[2.0, 0.0], [0.0, 1.0]], references=[0, 0])['accuracy'])"
    )
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    run = run_python(script, cwd=tmp_path, **offline)
    assert run.stdout.strip() == "0.5", run.stderr


def test_unknown_module_is_named():
    with pytest.raises(ValueError, match="'calibratoin'; did you mean 'calibration'"):
        metrics.path("calibratoin")


# Imports ------------------------------------------------------------------------------------------------------------


def run_python(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root), **environment}
    return subprocess.run([sys.executable, "-c", script], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def test_importing_the_package_loads_no_optional_library(tmp_path):
    optional = {"scipy", "sklearn", "torchmetrics", "evaluate", "datasets", "matplotlib", "rich"}
    script = (
        "import sys, hf_mixup; before = set(sys.modules); import hf_mixup.metrics, hf_mixup.plots\n"
        f"print(sorted({optional} & (set(sys.modules) - before)))"
    )
    run = run_python(script, cwd=tmp_path)
    assert run.stdout.strip() == "[]", run.stderr
