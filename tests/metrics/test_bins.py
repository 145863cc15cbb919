"""Bins of confidences: which one a value on an edge falls into, the same wherever an ECE is computed."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hf_mixup.experiments.report.score_sums import class_sums, token_sums
from hf_mixup.metrics import expected_calibration_error, language_metrics, reliability_bins, token_scores
from hf_mixup.metrics import pairs as pair_metrics
from hf_mixup.metrics.functional import DEFAULT_BINS, bin_index, width_edges
from hf_mixup.metrics.similarities import Scan

INNER = [(edge, bins) for bins in (2, 3, 10, 15, 20, 100) for edge in range((bins + 1) // 2, bins)]


def test_by_hand() -> None:
    """Both confidences, 0.6 and 0.65, lie in [0.6, 0.7), of which one is right: |1 / 2 - 0.625|."""
    error = expected_calibration_error([[0.4, 0.6], [0.35, 0.65]], [1, 0], n_bins=10, from_logits=False)
    assert error == pytest.approx(0.125)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("from_logits", [False, True])
def test_a_confidence_on_an_edge_is_in_the_bin_above(dtype: type, from_logits: bool) -> None:
    for edge, bins in INNER:
        high = dtype(edge) / dtype(bins)
        probs = np.array([[high, 1 - high], [1 - high, high]], dtype=dtype)
        given = np.log(probs) if from_logits else probs
        counts = reliability_bins(given, [0, 1], n_bins=bins, from_logits=from_logits).counts
        assert counts[edge] == 2, f"{high!r} with {bins} bins"


@pytest.mark.parametrize("value", [0.1 * 3, 0.7 - 0.4, 1 - 0.7, 0.35, 0.1 + 0.2, 0.15 + 0.15, 0.95, 1 - 0.05])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.longdouble])
def test_decimals_that_binary_does_not_hold(value: float, dtype: type) -> None:
    expected = int(Fraction(str(round(value, 6))) * 20)
    assert bin_index(np.array([value], dtype=dtype), width_edges(20)).tolist() == [expected]


def test_edges_are_the_nearest_numbers_and_ends_are_closed() -> None:
    for bins in (1, 7, 10, 15, 49, 1000):
        assert width_edges(bins).tolist() == [float(Fraction(i, bins)) for i in range(1, bins)]
        assert bin_index(np.array([0.0, 1.0, 1.0 + 1e-9]), width_edges(bins)).tolist() == [0, bins - 1, bins - 1]


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_bins_match_a_loop_and_torchmetrics(bins: int) -> None:
    peer = pytest.importorskip("torchmetrics.functional.classification")

    rng = np.random.default_rng(bins)
    logits, labels = rng.normal(size=(400, 4)) * 2, rng.integers(4, size=400)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total = 0.0
    for i in range(bins):
        inside = [row for row in range(400) if Fraction(i, bins) <= Fraction(probs[row].max()) < Fraction(i + 1, bins)]
        if inside:
            gap = np.mean([probs[row].argmax() == labels[row] for row in inside]) - probs[inside].max(axis=1).mean()
            total += len(inside) / 400 * abs(gap)
    found = expected_calibration_error(logits, labels, n_bins=bins)
    assert found == pytest.approx(total, abs=1e-12)
    reference = peer.multiclass_calibration_error(torch.tensor(probs), torch.tensor(labels), num_classes=4, n_bins=bins)
    assert found == pytest.approx(float(reference), abs=1e-6)


def test_all_four_bin_alike() -> None:
    """Of confidences on edges: classes, sums of classes and of tokens, language models, pairs."""
    edges = [edge / DEFAULT_BINS for edge in range(8, DEFAULT_BINS)]
    confidences = np.repeat(edges, 3)
    right = np.arange(len(confidences)) % 3 > 0
    probs = np.stack([confidences, 1 - confidences], axis=1)
    labels = np.where(right, 0, 1)
    expected = expected_calibration_error(probs, labels, from_logits=False)
    by_hand = np.mean([abs(2 / 3 - edge) for edge in edges])
    assert expected == pytest.approx(by_hand)

    logits = np.log(probs)
    assert float(class_sums(logits, labels).score("ece")) == pytest.approx(by_hand)
    for dtype in (torch.float32, torch.float64):
        scores = token_scores(torch.tensor(logits, dtype=dtype)[None], torch.tensor(labels)[None]).numpy()
        batch = SimpleNamespace(predictions=scores, label_ids=labels[None])
        assert language_metrics(batch)["ece"] == pytest.approx(by_hand, abs=1e-6)
        assert float(token_sums(scores, labels[None]).score("ece")) == pytest.approx(by_hand, abs=1e-6)
    scan = Scan(np.where(right, 1, 2), np.zeros(len(right)), confidences - 1e-12)
    assert pair_metrics._mean_ece([scan], DEFAULT_BINS) == pytest.approx(by_hand)
