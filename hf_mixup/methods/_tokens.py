"""What methods share that blend or exchange single tokens: which place of the partner goes with each place."""

from __future__ import annotations

from torch import Tensor

from hf_mixup.methods.base import Draw


def taken(values: Tensor, draw: Draw) -> Tensor:
    """Return for each place of [B, T] what stands at the place that goes with it, or its own value where none does.

    Raises:
        ValueError: for parameters without places.

    >>> import torch
    >>> draw = Draw("span_cut", torch.tensor([1, 0]), torch.ones(2), places=torch.tensor([[-1, 1], [0, -1]]))
    >>> taken(torch.tensor([[1, 2], [3, 4]]), draw)
    tensor([[1, 4],
            [1, 4]])
    """
    if draw.places is None:
        raise ValueError(f"method {draw.method!r} was given parameters without places")
    other = values[draw.partner].gather(1, draw.places.clamp(min=0))
    return other.where(draw.places >= 0, values)
