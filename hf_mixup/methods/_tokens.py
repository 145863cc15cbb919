"""What methods share that blend or exchange single tokens: which place of the partner goes with each place."""

from __future__ import annotations

from torch import Tensor

from hf_mixup.methods.base import Params


def taken(values: Tensor, params: Params) -> Tensor:
    """Return for each place of [B, T] what stands at the place that goes with it, or its own value where none does.

    Raises:
        ValueError: for parameters without places.

    >>> import torch
    >>> params = Params("span_cut", torch.tensor([1, 0]), torch.ones(2), places=torch.tensor([[-1, 1], [0, -1]]))
    >>> taken(torch.tensor([[1, 2], [3, 4]]), params)
    tensor([[1, 4],
            [1, 4]])
    """
    if params.places is None:
        raise ValueError(f"method {params.method!r} was given parameters without places")
    other = values[params.partner].gather(1, params.places.clamp(min=0))
    return other.where(params.places >= 0, values)
