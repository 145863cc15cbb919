"""Blending along great circles."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .blending import expand_like

_NEAREST = 1 - 1e-6  # beyond this cosine the angle has too few digits left to divide by its sine


def slerp(own: Tensor, other: Tensor, lam: float | Tensor) -> Tensor:
    """Return points on the great circle from `other` (lam = 0) to `own` (lam = 1), of length 1.

    Nearly parallel vectors are blended linearly, so that a vector with itself is itself. Between opposite vectors every
    half circle is as short: one is chosen that depends on nothing but the vectors, and no gradient flows through the
    choice, so that gradients stay finite. Computed in float32 at least.

    Source: Oh et al. 2023, "Geodesic Multi-Modal Mixup for Robust Fine-Tuning", arXiv 2203.03897, equation 2.

    Args:
        own: [..., D], of any length other than 0.
        other: [..., D].
        lam: weight of `own` in [0, 1]: a float, 0-d, or one for each leading dimension.

    Returns:
        [..., D] in float32, or float64 if the vectors are; of length 1.

    >>> slerp(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
    tensor([[0.7071, 0.7071]])
    >>> slerp(torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0, 0.0]]), 0.5).round()
    tensor([[-0., 1.]])
    """
    dtype = torch.promote_types(own.dtype, torch.float32)
    tiny = torch.finfo(dtype).tiny  # untrained encoders give embeddings far below the usual bound
    own, other = (F.normalize(each.to(dtype), dim=-1, eps=tiny) for each in (own, other))
    share = expand_like(torch.as_tensor(lam, dtype=dtype, device=own.device), own)
    cosine = (own * other).sum(-1, keepdim=True)
    angle = cosine.clamp(-_NEAREST, _NEAREST).acos()
    arc = (share * angle).sin() / angle.sin() * own + ((1 - share) * angle).sin() / angle.sin() * other
    chord = share * own + (1 - share) * other
    points = torch.where(cosine < _NEAREST, torch.where(cosine > -_NEAREST, arc, _turned(own, other, share)), chord)
    return F.normalize(points, dim=-1, eps=tiny)


def _turned(own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Return `own`, turned towards the nearly opposite `other`: by all of the angle between them at a share of 0."""
    cosine = (own * other).sum(-1, keepdim=True)
    aside = other - cosine * own
    length = aside.norm(dim=-1, keepdim=True)
    with torch.no_grad():
        # Between opposite vectors only rounding errors are left, which give no direction.
        reliable = length > 16 * torch.finfo(own.dtype).eps
        axis = F.one_hot(own.abs().argmin(-1), own.shape[-1]).to(own.dtype)
        free = F.normalize(axis - (axis * own).sum(-1, keepdim=True) * own, dim=-1)
        way = torch.where(reliable, aside / length.clamp(min=torch.finfo(own.dtype).tiny), free)
    angle = (1 - share) * torch.atan2(length, cosine)
    return angle.cos() * own + angle.sin() * way
