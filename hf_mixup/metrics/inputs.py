"""What metrics are given, as checked float64: arrays, lists and tensors of any type, predictions and their labels.

scipy is imported inside the functions, to keep the import of the package cheap.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_mixup.utils.constants import IGNORE_INDEX

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

# bfloat16 keeps 8 bits, so a row of such probabilities adds up to 1 only to about 1 %.
SUM_TOLERANCE = 2e-2


def to_float64(values: ArrayLike | Any, name: str) -> FloatArray:
    """Copy an array, list or tensor of any float type (bfloat16 too) to float64.

    Raises:
        ValueError: the rows are ragged or not numeric.

    >>> to_float64([1, 2], "logits")
    array([1., 2.])
    """
    if hasattr(values, "detach"):  # numpy cannot read a bfloat16, CUDA or grad-requiring tensor
        values = values.detach().double().cpu()
    try:
        return np.asarray(values).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be one rectangular numeric array: {error}") from error


def finite_float64(values: ArrayLike | Any, name: str) -> FloatArray:
    """As `to_float64`, for values that must all be finite.

    Raises:
        ValueError: a value is NaN or infinite, or as `to_float64`.

    >>> finite_float64([1.0, float("nan")], "logits")
    Traceback (most recent call last):
    ValueError: logits hold 1 NaN or infinite values out of 2
    """
    array = to_float64(values, name)
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise ValueError(f"{name} hold {bad} NaN or infinite values out of {array.size}")
    return array


def log_probabilities(
    predictions: ArrayLike, references: ArrayLike, *, from_logits: bool = True
) -> tuple[FloatArray, IntArray]:
    """Check one set of predictions and return log-probabilities [N, C] and labels [N], without the ignored rows.

    Args:
        predictions: [..., C], C >= 2: logits, or probabilities in [0, 1] whose rows add up to 1.
        references: [...] integers in 0..C-1, or -100 for a row to leave out.
        from_logits: whether `predictions` are logits, of which -inf is a class that is masked; a probability of 0 is
            read as 1e-300.

    Raises:
        ValueError: shapes disagree, a value is NaN or infinite, a label is no class, a row is no probability
            distribution, or no row is left.

    >>> log_probs, labels = log_probabilities([[0.25, 0.75], [1.0, 0.0]], [1, -100], from_logits=False)
    >>> np.exp(log_probs).round(2), labels
    (array([[0.25, 0.75]]), array([1]))
    """
    from scipy.special import log_softmax

    scores = _logits(predictions) if from_logits else finite_float64(predictions, "probabilities")
    labels = finite_float64(references, "references")
    if scores.ndim != labels.ndim + 1 or scores.shape[:-1] != labels.shape:
        raise ValueError(f"predictions [..., C] and references [...] do not match: {scores.shape} and {labels.shape}")
    n_classes = scores.shape[-1]
    if n_classes < 2:
        raise ValueError(f"predictions need at least 2 class columns, not {n_classes}")

    keep = labels.ravel() != IGNORE_INDEX
    scores, labels = scores.reshape(-1, n_classes)[keep], labels.ravel()[keep]
    if not len(labels):
        raise ValueError(f"no row to score: references are empty or all {IGNORE_INDEX}")
    check_labels(labels, n_classes)
    if not from_logits:
        _check_probabilities(scores)
        scores = np.log(np.maximum(scores, 1e-300))
    return log_softmax(scores, axis=1), labels.astype(np.int64)


def _logits(predictions: ArrayLike) -> FloatArray:
    scores = to_float64(predictions, "logits")
    masked = np.isneginf(scores)
    if masked.any() and not masked.all(axis=-1).any():  # a row without any class says nothing
        finite_float64(np.where(masked, 0, scores), "logits")
        return scores
    return finite_float64(scores, "logits")


def check_labels(labels: FloatArray, n_classes: int) -> None:
    wrong = (labels < 0) | (labels >= n_classes) | (labels != np.round(labels))
    if wrong.any():
        values = ", ".join(f"{value:g}" for value in np.unique(labels[wrong])[:5])
        raise ValueError(
            f"{wrong.sum()} references are no class of the {n_classes} prediction columns "
            f"(expected 0..{n_classes - 1} or {IGNORE_INDEX}): {values}"
        )


def _check_probabilities(scores: FloatArray) -> None:
    off = (np.abs(scores.sum(axis=1) - 1) > SUM_TOLERANCE) | (scores < 0).any(axis=1)
    if off.any():
        raise ValueError(f"{off.sum()} rows are no probabilities (negative, or not adding up to 1); are they logits?")
