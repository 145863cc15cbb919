"""Several labels and regression against scikit-learn, numpy and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_mixup import metrics
from tests.metrics.common import Evaluation


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
