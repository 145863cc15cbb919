"""Parameters of which a process holds a part."""

from __future__ import annotations

import torch
from torch import Tensor


def whole_shape(parameter: Tensor) -> torch.Size:
    """Return the shape of a parameter as a whole; DeepSpeed ZeRO-3 leaves an empty one where it keeps a part.

    >>> whole_shape(torch.zeros(2, 3))
    torch.Size([2, 3])
    >>> apart = torch.zeros(0)
    >>> apart.ds_shape = torch.Size([2, 3])
    >>> whole_shape(apart)
    torch.Size([2, 3])
    """
    return getattr(parameter, "ds_shape", parameter.shape)
