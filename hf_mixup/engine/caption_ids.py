"""Which captions are the same."""

from __future__ import annotations

import torch
from torch import Tensor


def caption_keys(ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return a number for each caption that agrees where the captions agree, long [B].

    It does not depend on how far the batch is padded if there is a mask, so that processes can compare theirs.

    Args:
        ids: long [B, T].
        mask: [B, T], 1 at the tokens that count.

    >>> keys = caption_keys(torch.tensor([[5, 6, 0], [6, 5, 0], [5, 6, 0]]), torch.tensor([[1, 1, 0]] * 3))
    >>> (keys == keys[0]).tolist()
    [True, False, True]
    """
    ids = ids.long() + 1
    if mask is not None:
        ids = ids * mask
    places = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    # Sums of scrambled 64-bit numbers, one for each (place, token), collide about once in 2**63 pairs.
    return _scrambled(ids * 0x9E3779B97F4A7C1 + places).where(ids != 0, 0).sum(-1)


def _scrambled(values: Tensor) -> Tensor:
    """Return the finaliser of SplitMix64 (Steele et al. 2014), whose bits each depend on all bits of its input."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        values = (values ^ ((values >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return values ^ ((values >> 31) & ((1 << 33) - 1))
