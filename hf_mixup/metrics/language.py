"""Scores of language models from three numbers a token, which are kept in place of the logits of a whole vocabulary.

Pass `compute_metrics=language_metrics` to the Trainer, and `preprocess_logits_for_metrics=` one of

    token_scores        for a model that scores the label at each position [B, T] (seq2seq, masked tokens)
    next_token_scores   for one that predicts the next token (causal)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mixup.metrics.functional import calibration_gap
from hf_mixup.metrics.inputs import to_float64
from hf_mixup.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import EvalPrediction


def token_scores(logits: Any, labels: Tensor) -> Tensor:
    """Return float32 [B, T, 3]: log-probability of the label, largest probability, and 1 where it is the label's.

    Args:
        logits: [B, T, V], or a tuple that begins with them.
        labels: integers [B, T], -100 where there is none (the scores there say nothing).

    >>> import torch
    >>> token_scores(torch.tensor([[[2.0, 0.0]]]).log(), torch.tensor([[0]]))
    tensor([[[0., 1., 1.]]])
    """
    import torch

    logits = logits[0] if isinstance(logits, tuple) else logits
    return torch.stack([_row_scores(*row) for row in zip(logits, labels.clamp(min=0))])  # a row at a time: V is large


def _row_scores(logits: Tensor, labels: Tensor) -> Tensor:
    import torch

    log_probs = logits.float().log_softmax(-1)
    best, guess = log_probs.max(-1)
    own = log_probs.gather(-1, labels[:, None])[:, 0]
    return torch.stack([own, best.exp(), (guess == labels).float()], dim=-1)


def next_token_scores(logits: Any, labels: Tensor) -> Tensor:
    """Return `token_scores` of logits [B, T, V] that predict the next position.

    The first position is predicted from nothing; its scores are 0, and `language_metrics` leaves it out.

    >>> import torch
    >>> next_token_scores(torch.tensor([[[0.0, 2.0], [9.0, 9.0]]]).log(), torch.tensor([[0, 1]]))[0]
    tensor([[0., 0., 0.],
            [0., 1., 1.]])
    """
    from torch.nn.functional import pad

    logits = logits[0] if isinstance(logits, tuple) else logits
    return pad(token_scores(logits[:, :-1], labels[:, 1:]), (0, 0, 1, 0))


def language_metrics(eval_prediction: EvalPrediction) -> dict[str, float]:
    """Return accuracy, nll, perplexity and ece over the labelled tokens, and exact_match over the rows.

    All are teacher-forced: each token is predicted after the true ones. A row matches exactly if all its tokens are
    predicted, which is when greedy decoding would write it. The perplexity is exp(nll). ECE as
    `expected_calibration_error`, with 15 bins of equal width.

    Args:
        eval_prediction: `predictions` [N, T, 3] of `token_scores` or `next_token_scores`, and `label_ids` [N, T].

    Raises:
        ValueError: shapes disagree, a score is not finite, or no token is left to score.

    >>> from types import SimpleNamespace
    >>> scores = np.array([[[np.log(0.8), 0.8, 1.0], [np.log(0.1), 0.9, 0.0]], [[np.log(0.5), 0.5, 1.0], [0, 0, 0]]])
    >>> found = language_metrics(SimpleNamespace(predictions=scores, label_ids=np.array([[3, 4], [5, -100]])))
    >>> {name: round(value, 3) for name, value in found.items()}
    {'accuracy': 0.667, 'nll': 1.073, 'perplexity': 2.924, 'ece': 0.533, 'exact_match': 0.5}
    """
    scores, labels = to_float64(eval_prediction.predictions, "scores"), np.asarray(eval_prediction.label_ids)
    if scores.ndim != 3 or scores.shape != (*labels.shape, 3):
        raise ValueError(
            f"scores [N, T, 3] and labels [N, T] do not match: {scores.shape} and {labels.shape}; pass "
            "preprocess_logits_for_metrics=token_scores (or next_token_scores) to the Trainer"
        )
    scored = (labels != IGNORE_INDEX) & (scores[..., 1] > 0)
    if not scored.any():
        raise ValueError(f"no token to score: labels are empty or all {IGNORE_INDEX}")
    own, confidence, right = scores[scored].T
    if not np.isfinite(own).all():
        raise ValueError(f"scores hold {np.count_nonzero(~np.isfinite(own))} NaN or infinite values out of {len(own)}")
    nll = -float(own.mean())
    rows = scored.any(axis=1)
    return {
        "accuracy": float(right.mean()),
        "nll": nll,
        "perplexity": float(np.exp(nll)),
        "ece": calibration_gap(confidence, right),
        "exact_match": float(((scores[..., 2] > 0) | ~scored).all(axis=1)[rows].mean()),
    }
