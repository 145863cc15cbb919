"""Scores of models that answer questions, of which several answers may be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hf_mixup.metrics.functional import calibration_gap
from hf_mixup.metrics.inputs import FloatArray, finite_float64

if TYPE_CHECKING:
    from transformers import EvalPrediction


def answer_metrics(eval_prediction: EvalPrediction) -> dict[str, float]:
    """Return accuracy, nll and ece of answers: logits [N, C] against their scores [N, C] in [0, 1].

    The accuracy is the mean score of the answers with the highest logits, as visual question answering counts it. The
    probability that an answer is right is the sigmoid of its logit: the nll is the binary cross-entropy summed over the
    answers of a question, which is the loss of ViLT, and the ece holds the probability of the chosen answer against its
    score, in 15 bins of equal width.

    Args:
        eval_prediction: `predictions` are the logits, or a tuple that begins with them; `label_ids` the scores.

    Raises:
        ValueError: shapes differ, there is no row, a value is NaN or infinite, or a score lies outside [0, 1].

    Source: Antol et al. 2015, "VQA: Visual Question Answering", arXiv 1505.00468; Guo et al. 2017, arXiv 1706.04599.

    >>> from types import SimpleNamespace
    >>> rows = SimpleNamespace(predictions=[[3.0, -3.0], [-1.0, 2.0]], label_ids=[[1, 0], [0.5, 0]])
    >>> {name: round(value, 3) for name, value in answer_metrics(rows).items()}
    {'accuracy': 0.5, 'nll': 1.519, 'ece': 0.464}
    """
    logits = eval_prediction.predictions
    worth, confidence, nll = judged_answers(
        logits[0] if isinstance(logits, tuple) else logits, eval_prediction.label_ids
    )
    return {"accuracy": float(worth.mean()), "nll": float(nll.mean()), "ece": calibration_gap(confidence, worth)}


def judged_answers(logits: ArrayLike, scores: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return of each question the score of the chosen answer, its probability, and the NLL of all answers, float64 [N].

    Raises:
        ValueError: as `answer_metrics`.
    """
    from scipy.special import expit

    found, right = finite_float64(logits, "logits"), finite_float64(scores, "scores")
    if found.ndim != 2 or found.shape != right.shape:
        raise ValueError(f"logits and scores must both be [N, C], not {found.shape} and {right.shape}")
    if not found.size:
        raise ValueError(f"no question to score: logits have shape {found.shape}")
    if right.min() < 0 or right.max() > 1:
        raise ValueError(f"scores of answers lie in [0, 1], found {right.min():g} to {right.max():g}")
    best = found.argmax(1)[:, None]
    worth, confidence = (np.take_along_axis(each, best, axis=1)[:, 0] for each in (right, expit(found)))
    return worth, confidence, (np.logaddexp(0, found) - right * found).sum(1)
