"""Accuracy, calibration and temperature against loops, torchmetrics, scikit-learn and by hand."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from hf_mixup import metrics
from tests.metrics.common import KEYS, random_classifier


def calibrated_classifier(rows: int, classes: int = 4, seed: int = 0):
    """Logits, and labels drawn from their own softmax: perfectly calibrated."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(rows, classes))
    gumbel = rng.gumbel(size=(rows, classes))
    return logits, (logits + gumbel).argmax(axis=1)


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

    peer = pytest.importorskip("torchmetrics.functional.classification")

    logits, labels = random_classifier(rows=500, classes=6)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    got = metrics.calibration_metrics(logits, labels)
    ece = peer.multiclass_calibration_error(torch.tensor(probs), torch.tensor(labels), num_classes=6, n_bins=15)
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
