"""Metrics of the tasks that are not one class out of C: several labels at once, and regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hf_mixup.metrics.inputs import finite_float64


def multilabel_metrics(logits: ArrayLike, references: ArrayLike) -> dict[str, float]:
    """f1_micro, f1_macro and mean_average_precision of logits [N, C] against 0 / 1 references [N, C], in [0, 1].

    A label counts as predicted where its logit is above 0 (probability above 1/2). A label that no row carries has
    F1 0 and no average precision: the mean leaves it out, and is NaN where no row carries any label.

    Raises:
        ValueError: shapes differ, there is no row, a value is NaN or infinite, or a reference is neither 0 nor 1.

    >>> multilabel_metrics([[3.0, -1.0], [-2.0, 1.0]], [[1, 0], [0, 1]])
    {'f1_micro': 1.0, 'f1_macro': 1.0, 'mean_average_precision': 1.0}
    """
    from sklearn.metrics import average_precision_score, f1_score

    scores, labels = finite_float64(logits, "logits"), finite_float64(references, "references")
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(f"logits and references must both be [N, C], not {scores.shape} and {labels.shape}")
    if not scores.size:
        raise ValueError(f"no row to score: logits have shape {scores.shape}")
    wrong = labels[~np.isin(labels, (0, 1))]
    if wrong.size:
        raise ValueError(f"{wrong.size} multi-label references are neither 0 nor 1, the first is {wrong[0]:g}")

    predicted, carried = scores > 0, labels.any(axis=0)
    f1 = {
        f"f1_{average}": float(f1_score(labels, predicted, average=average, zero_division=0))
        for average in ("micro", "macro")
    }
    precision = [average_precision_score(labels[:, c], scores[:, c]) for c in np.flatnonzero(carried)]
    return {**f1, "mean_average_precision": float(np.mean(precision)) if precision else float("nan")}


def regression_metrics(predictions: ArrayLike, references: ArrayLike) -> dict[str, float]:
    """mse, mae, r2 and spearman of predictions [N] or [N, 1] against references of the same number of values.

    r2 is NaN where the references, and spearman where either side, are all equal (so also for a single row).

    Raises:
        ValueError: lengths differ, there is no row, or a value is NaN or infinite.

    >>> regression_metrics([[1.0], [2.0], [4.0]], [1.0, 2.0, 3.0])
    {'mse': 0.3333333333333333, 'mae': 0.3333333333333333, 'r2': 0.5, 'spearman': 1.0}
    """
    from scipy.stats import spearmanr
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    values, targets = (
        finite_float64(predictions, "predictions").ravel(),
        finite_float64(references, "references").ravel(),
    )
    if len(values) != len(targets):
        raise ValueError(f"{len(values)} predictions do not match {len(targets)} references")
    if not len(values):
        raise ValueError("no row to score: predictions are empty")

    targets_vary = np.ptp(targets) > 0
    both_vary = targets_vary and np.ptp(values) > 0
    return {
        "mse": float(mean_squared_error(targets, values)),
        "mae": float(mean_absolute_error(targets, values)),
        "r2": float(r2_score(targets, values)) if targets_vary else float("nan"),
        "spearman": float(spearmanr(values, targets).statistic) if both_vary else float("nan"),
    }
