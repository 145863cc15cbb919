"""Sums over the predictions of each sample, so that any resample is scored by one matrix product.

Scores that are no function of such sums (a rank correlation, an F1 of names) are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_mixup.metrics.answers import judged_answers
from hf_mixup.metrics.functional import DEFAULT_BINS, bin_index, width_edges
from hf_mixup.metrics.inputs import FloatArray, IntArray, finite_float64, log_probabilities, to_float64
from hf_mixup.metrics.speech import text_errors, texts_of
from hf_mixup.utils.constants import IGNORE_INDEX

Totals = Callable[[FloatArray], FloatArray]  # totals [..., K] -> score [...]


@dataclass(frozen=True, eq=False)
class RowSums:
    """Sums [N, K] of N rows, and the scores that are functions of their totals [..., K].

    >>> rows = class_sums([[2.0, 0.0], [0.0, 1.0]], [0, 0])
    >>> float(rows.score("accuracy"))
    0.5
    """

    sums: FloatArray
    scores: Mapping[str, Totals]

    def score(self, name: str, weights: ArrayLike | None = None) -> FloatArray:
        """Return a score of all rows, or one for each line of `weights` [..., N]: how often each row counts."""
        totals = self.sums.sum(axis=0) if weights is None else np.asarray(weights) @ self.sums
        return self.scores[name](totals)


def class_sums(logits: ArrayLike, labels: ArrayLike, temperature: float | None = None) -> RowSums:
    """Sum correct guesses, -log p(label) and, bin by bin, what confidence and correctness differ by.

    Scores are accuracy, nll and ece, as `calibration_metrics` defines them; with a `temperature` also
    nll_temperature and ece_temperature, those of logits / temperature.

    Args:
        logits: [N, C], or [N, T, C] where a row has T tokens, which are drawn together.
        labels: [N] or [N, T]; -100 is left out.

    >>> rows = class_sums([[2.0, 0.0], [0.0, 1.0]], [0, 0], temperature=2.0)
    >>> {name: round(float(rows.score(name)), 3) for name in rows.scores}
    {'accuracy': 0.5, 'nll': 0.72, 'ece': 0.425, 'nll_temperature': 0.644, 'ece_temperature': 0.446}
    """
    from scipy.special import log_softmax

    log_probs, classes = log_probabilities(logits, labels)
    labelled = np.asarray(labels) != IGNORE_INDEX
    row = np.nonzero(labelled.reshape(len(labelled), -1))[0]
    parts = [_judged(log_probs, classes, row, len(labelled))]
    scores = dict(_CLASS_SCORES)
    if temperature is not None:
        parts.append(_judged(log_softmax(log_probs / temperature, axis=1), classes, row, len(labelled)))
        for name in ("nll", "ece"):
            scores[f"{name}_temperature"] = _of_second_half(_CLASS_SCORES[name])
    return RowSums(np.concatenate(parts, axis=1), scores)


def token_sums(scores: ArrayLike, labels: ArrayLike) -> RowSums:
    """Sum scores of tokens [N, T, 3], see `token_scores`; the scores are those of `language_metrics`.

    Labels [N, T] of -100 are left out. Scores that are NaN or infinite are refused.

    >>> rows = token_sums([[[-0.5, 0.6, 1.0], [-1.5, 0.7, 0.0]], [[-0.1, 0.9, 1.0], [0, 0, 0]]], [[3, 4], [5, -100]])
    >>> [round(float(rows.score(name)), 2) for name in ("nll", "exact_match")]
    [0.7, 0.5]
    """
    tokens, references = to_float64(scores, "scores"), np.asarray(labels)
    if tokens.shape != (*references.shape, 3):
        raise ValueError(f"scores [N, T, 3] and labels [N, T] do not match: {tokens.shape}, {references.shape}")
    scored = (references != IGNORE_INDEX) & (tokens[..., 1] > 0)
    own, confidence, right = finite_float64(tokens[scored], "scores").T
    sums, some = _sums(right, confidence, -own, np.nonzero(scored)[0], len(references)), scored.any(axis=1)
    exact = ((tokens[..., 2] > 0) | ~scored).all(axis=1) & some
    columns = np.stack([some, exact], axis=1).astype(np.float64)
    named = {
        **_CLASS_SCORES,
        "perplexity": lambda totals: np.exp(_CLASS_SCORES["nll"](totals)),
        "exact_match": lambda totals: totals[..., -1] / totals[..., -2],
    }
    return RowSums(np.concatenate([sums, columns], axis=1), named)


def transcript_sums(tokens: ArrayLike, labels: ArrayLike, tokenizer: Any) -> RowSums:
    """Sum errors of words and characters of recognised tokens [N, U] against labels [N, U], see `speech_metrics`.

    >>> from types import SimpleNamespace
    >>> def batch_decode(tokens, **settings):
    ...     return [" ".join("-ab"[token] for token in each) for each in tokens]
    >>> tokenizer = SimpleNamespace(pad_token_id=0, batch_decode=batch_decode)
    >>> float(transcript_sums(np.array([[1, 2, 0]]), np.array([[1, 2, 1]]), tokenizer).score("exact"))
    0.0
    """
    errors = [text_errors(*both) for both in zip(*texts_of(np.asarray(tokens), np.asarray(labels), tokenizer))]
    return RowSums(np.array(errors, dtype=np.float64), _TRANSCRIPT_SCORES)


def answer_sums(logits: ArrayLike, scores: ArrayLike) -> RowSums:
    """Sum what the chosen answers are worth, and their NLL, of logits and scores [N, C], see `answer_metrics`.

    >>> rows = answer_sums([[3.0, -3.0], [-1.0, 2.0]], [[1, 0], [1, 0]])
    >>> float(rows.score("accuracy"))
    0.5
    """
    judged = judged_answers(logits, scores)
    count = len(judged[0])
    return RowSums(_sums(*judged, np.arange(count), count), _CLASS_SCORES)


def value_sums(predictions: ArrayLike, labels: ArrayLike) -> RowSums:
    """Sum squared and absolute errors of predictions [N] or [N, 1]; scores are mse, mae and r2. All must be finite.

    >>> float(value_sums([[1.0], [2.0], [4.0]], [1.0, 2.0, 3.0]).score("r2"))
    0.5
    """
    values, targets = finite_float64(predictions, "predictions").ravel(), finite_float64(labels, "labels").ravel()
    if len(values) != len(targets):
        raise ValueError(f"{len(values)} predictions do not match {len(targets)} labels")
    errors, centred = values - targets, targets - targets.mean()  # centred: a difference of large squares is lost
    columns = [np.ones_like(errors), errors**2, np.abs(errors), centred, centred**2]
    return RowSums(np.stack(columns, axis=1), _VALUE_SCORES)


def _judged(log_probs: FloatArray, classes: IntArray, row: IntArray, rows: int) -> FloatArray:
    own = np.take_along_axis(log_probs, classes[:, None], axis=1)[:, 0]
    right = log_probs.argmax(axis=1) == classes
    return _sums(right, np.exp(log_probs.max(axis=1)), -own, row, rows)


def _sums(right: NDArray[Any], confidence: FloatArray, nll: FloatArray, row: IntArray, rows: int) -> FloatArray:
    """Add up items (tokens, say) by row: their number, correct ones, nll, and correct - confidence in each bin."""
    bins = bin_index(confidence, width_edges(DEFAULT_BINS))
    columns = [np.bincount(row, values, minlength=rows) for values in (np.ones(len(row)), right, nll)]
    gaps = np.bincount(row * DEFAULT_BINS + bins, right - confidence, minlength=rows * DEFAULT_BINS)
    return np.concatenate([np.stack(columns, axis=1), gaps.reshape(rows, DEFAULT_BINS)], axis=1)


def _over_count(column: int) -> Totals:
    return lambda totals: totals[..., column] / totals[..., 0]


def _ece(totals: FloatArray) -> FloatArray:
    return np.abs(totals[..., 3 : 3 + DEFAULT_BINS]).sum(axis=-1) / totals[..., 0]


def _of_second_half(score: Totals) -> Totals:
    return lambda totals: score(totals[..., 3 + DEFAULT_BINS :])


def _r2(totals: FloatArray) -> FloatArray:
    count, squared, _, first, second = np.moveaxis(totals, -1, 0)
    spread = second - first**2 / count
    with np.errstate(invalid="ignore", divide="ignore"):  # equal targets have no spread to explain
        return np.where(spread > 1e-12 * second, 1 - squared / spread, np.nan)


_CLASS_SCORES: dict[str, Totals] = {"accuracy": _over_count(1), "nll": _over_count(2), "ece": _ece}
_TRANSCRIPT_SCORES: dict[str, Totals] = {
    "wer": lambda totals: totals[..., 0] / totals[..., 1],
    "cer": lambda totals: totals[..., 2] / totals[..., 3],
    "exact": lambda totals: totals[..., 4] / totals[..., 5],
}
_VALUE_SCORES: dict[str, Totals] = {"mse": _over_count(1), "mae": _over_count(2), "r2": _r2}
