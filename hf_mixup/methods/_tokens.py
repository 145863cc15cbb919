"""What methods share that blend or exchange single tokens: which place of the partner goes with each place."""

from __future__ import annotations

from torch import Tensor

from hf_mixup.methods.base import TokenDraw


def taken(values: Tensor, draw: TokenDraw) -> Tensor:
    """Return for each place of [B, T] what stands at the place that goes with it, or its own value where none does.

    >>> import torch
    >>> draw = TokenDraw("span_cut", torch.tensor([1, 0]), torch.ones(2), positions=torch.tensor([[-1, 1], [0, -1]]))
    >>> taken(torch.tensor([[1, 2], [3, 4]]), draw)
    tensor([[1, 4],
            [1, 4]])
    """
    other = values[draw.partner].gather(1, draw.positions.clamp(min=0))
    return other.where(draw.positions >= 0, values)
