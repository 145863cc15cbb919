"""Connectionist temporal classification of mixed recordings: one set of scores, several transcripts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from hf_mixup.functional.targets import weighted


def mixed_ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    sides: Sequence[tuple[Tensor, Tensor]],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Return the CTC loss of mixed recordings: each transcript's own loss, weighted.

    A transcript of weight 0 counts nothing, in the loss and in the gradient, even if it is longer than the recording
    (which has an infinite loss).

    Args:
        log_probs: log-probabilities [T, B, C].
        targets: the transcripts of the samples, long [B, U], or [sum of lengths] one after the other.
        input_lengths: frames of each mixed sample, [B].
        target_lengths: tokens of each transcript, [B].
        sides: of each set of transcripts the samples that they are from, long [B], and the weight of each, float32
            [B]: lam for the samples' own, 1 - lam for the partners'.
        blank, reduction, zero_infinity: as `torch.nn.functional.ctc_loss` takes them; "mean" divides each transcript's
            loss by its own length.

    Returns:
        Loss in the type of `log_probs`: 0-d, or [B] with reduction "none".

    Source: Meng et al. 2021, "MixSpeech: Data Augmentation for Low-resource Automatic Speech Recognition", arXiv
    2102.12664, section 2.

    >>> scores, lengths = torch.zeros(3, 2, 4).log_softmax(-1), torch.tensor([2, 1])
    >>> own, swapped = torch.tensor([0, 1]), torch.tensor([1, 0])
    >>> sides = [(own, torch.tensor([0.75, 1.0])), (swapped, torch.tensor([0.25, 0.0]))]
    >>> mixed_ctc_loss(scores, torch.tensor([1, 2, 3]), torch.tensor([3, 3]), lengths, sides, reduction="none")
    tensor([2.5039, 2.3671])
    """
    padded = as_rows(targets, target_lengths)
    weights = torch.stack([weight for _, weight in sides])
    heaviest = torch.stack([rows for rows, _ in sides]).gather(0, weights.argmax(0, keepdim=True))[0]
    total = torch.zeros_like(log_probs[0, :, 0])
    for rows, weight in sides:
        counted = rows.where(weight > 0, heaviest)  # 0 times the gradient of an infinite loss is no number
        lengths = target_lengths[counted.to(target_lengths.device)]
        each = F.ctc_loss(
            log_probs, padded[counted.to(padded.device)], input_lengths, lengths, blank, "none", zero_infinity
        )
        if reduction == "mean":
            each = each / lengths.to(each.device).clamp(min=1)
        total = total + weighted(weight.to(each.dtype), each)
    return total if reduction == "none" else total.sum() if reduction == "sum" else total.mean()


def frames_needed(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return how many frames each transcript takes at least, [B]: one a token, and a blank between two that are alike.

    >>> frames_needed(torch.tensor([[1, 2, 2], [3, 0, 0]]), torch.tensor([3, 1]))
    tensor([4, 1])
    """
    rows = as_rows(targets, target_lengths)
    inside = torch.arange(1, max(rows.shape[1], 1), device=rows.device) < target_lengths.to(rows.device)[:, None]
    return target_lengths + ((rows.diff() == 0) & inside).sum(-1).to(target_lengths.device)


def as_rows(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return transcripts as [B, U], also those that lie one after the other; what is behind their ends is no matter."""
    return targets if targets.dim() == 2 else pad_sequence(targets.split(target_lengths.tolist()), batch_first=True)
