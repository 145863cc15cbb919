"""The loss of a transducer in plain torch, for a survey without torchaudio, which transformers asks for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rnnt_loss(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """Return the negative log-likelihood of each transcript over all its alignments with the frames, [B].

    Args:
        logits: [B, T, U + 1, C].
        targets: [B, U].
        frames, lengths: how many frames and tokens each sample has, [B].
        blank: the token that goes on to the next frame.

    Source: Graves 2012, "Sequence Transduction with Recurrent Neural Networks", arXiv 1211.3711, section 2.4.

    >>> one = torch.ones(1).long()
    >>> rnnt_loss(torch.zeros(1, 1, 2, 4), one[None], one, one, blank=0)  # one alignment of two steps: 2 * log(4)
    tensor([2.7726])
    """
    scores = logits.log_softmax(-1)
    goes_on, says = (
        scores[..., blank],
        scores[:, :, :-1].gather(-1, targets[:, None, :, None].expand(-1, logits.shape[1], -1, 1))[..., 0],
    )
    rows: list[list[Tensor]] = []
    for time in range(logits.shape[1]):
        row: list[Tensor] = []
        for token in range(logits.shape[2]):
            ways = [rows[-1][token] + goes_on[:, time - 1, token]] if time else []
            ways += [row[-1] + says[:, time, token - 1]] if token else []
            row.append(torch.stack(ways).logsumexp(0) if ways else torch.zeros_like(goes_on[:, 0, 0]))
        rows.append(row)
    reached = torch.stack([torch.stack(row, 1) for row in rows], 1) + goes_on
    samples = torch.arange(len(logits))
    return -reached[samples, frames.long() - 1, lengths.long()]


def have_rnnt_loss() -> None:
    """Put `rnnt_loss` in the place of transformers' own, where torchaudio is not installed."""
    from transformers.loss import loss_rnnt
    from transformers.utils import is_torchaudio_available

    def mean_by_tokens(
        logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank_token_id: int, **_: Any
    ) -> Tensor:
        found = rnnt_loss(logits, targets, logit_lengths, target_lengths, blank_token_id)
        return found.sum() / target_lengths.sum()

    if not is_torchaudio_available():
        loss_rnnt.rnnt_loss = mean_by_tokens
