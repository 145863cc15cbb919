"""Blending along great circles."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_NEAREST = 1 - 1e-6  # beyond this cosine the angle has too few digits left to divide by its sine


def slerp(own: Tensor, other: Tensor, lam: float | Tensor) -> Tensor:
    """Return points on the great circle from `other` (lam = 0) to `own` (lam = 1), of length 1.

    Nearly parallel and nearly opposite vectors, where the arc is not defined well, are blended linearly instead, so
    that a vector with itself is itself. Computed in float32 at least.

    Source: Oh et al. 2023, "Geodesic Multi-Modal Mixup for Robust Fine-Tuning", arXiv 2203.03897, equation 2.

    Args:
        own: [..., D], of any length other than 0.
        other: [..., D].
        lam: weight of `own` in [0, 1]: a float, 0-d, or one for each leading dimension.

    Returns:
        [..., D] in float32, or float64 if the vectors are; of length 1.

    >>> slerp(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
    tensor([[0.7071, 0.7071]])
    """
    dtype = torch.promote_types(own.dtype, torch.float32)
    tiny = torch.finfo(dtype).tiny  # untrained towers give embeddings far below the usual bound
    own, other = (F.normalize(each.to(dtype), dim=-1, eps=tiny) for each in (own, other))
    share = torch.as_tensor(lam, dtype=dtype, device=own.device)
    share = share.reshape(share.shape + (1,) * (own.dim() - share.dim()))
    cosine = (own * other).sum(-1, keepdim=True)
    angle = cosine.clamp(-_NEAREST, _NEAREST).acos()
    arc = (share * angle).sin() / angle.sin() * own + ((1 - share) * angle).sin() / angle.sin() * other
    chord = share * own + (1 - share) * other
    return F.normalize(torch.where(cosine.abs() < _NEAREST, arc, chord), dim=-1)
