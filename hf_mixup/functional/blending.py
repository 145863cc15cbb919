"""Linear blending of rows, in one pass over memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ._rows import Write, check_floats, check_inplace, check_partner, check_range, needs_graph, write_order

SMALL_ROW = 2**13
"""Elements up to which an operation per row costs more than the row (measured)."""

SLAB = 2**18
"""Elements worked on at a time: with a copy of them, about what the L2 caches of two cores hold."""


def blend(x: Tensor, partner: Tensor, lam: float | Tensor, inplace: bool = False) -> Tensor:
    """Blend every row with its partner: lam * x + (1 - lam) * x[partner].

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, https://arxiv.org/abs/1710.09412, eq. (1).

    float32 and float64 take the formula literally, two rounded products and a rounded sum, and so equal timm and
    torchvision bit for bit. Large samples in place take x + (1 - lam) * (x[partner] - x) instead, in one operation:
    faster, on average nearer to the exact result, and never off by more than one unit in the last place of
    |x| + |x[partner]|. bfloat16 and float16 are computed in float32 and rounded once. lam = 1 gives x and lam = 0 gives
    x[partner] exactly. All of this holds for finite samples with a finite difference: 0 * inf is NaN here as in timm.

    Args:
        x: floating-point tensor [B, ...].
        partner: long tensor [B] with values in [0, B). Any map, not only a permutation.
        lam: weight of the row's own sample in [0, 1]: a float, a 0-d tensor, or one per row [B].
        inplace: overwrite x; on CPU with at most one row of extra memory. Not differentiable.

    Returns:
        Tensor like x (x itself if ``inplace``), in the same memory format.

    Raises:
        TypeError: x is not floating point.
        ValueError: ``partner`` or ``lam`` has the wrong shape.
        IndexError: a partner is negative or not less than B (on CPU; a CUDA device makes such a row NaN or asserts).
        RuntimeError: ``inplace`` on a tensor that requires grad.

    >>> x = torch.tensor([[0.0, 4.0], [8.0, 0.0]])
    >>> blend(x, torch.tensor([1, 0]), 0.75)
    tensor([[2., 3.],
            [6., 1.]])
    >>> blend(x, torch.tensor([1, 1]), torch.tensor([0.5, 1.0]))
    tensor([[4., 2.],
            [8., 0.]])
    """
    check_floats(x, "blend")
    check_partner(x, partner)
    own, other = weights(x, lam)
    if inplace:
        check_inplace(x)
    small = not inplace and x.numel() <= SLAB and x.numel() <= SMALL_ROW * len(x)  # fits the cache as it is
    if torch.compiler.is_compiling() or needs_graph(x, own):
        mixed = blend_formula(x, partner.to(x.device), own, other)
    elif small and x.device.type == "cpu":
        return _blend_small(x, partner, own, other)
    elif x.device.type != "cpu":
        mixed = _blend_on_device(x, partner, own, other)
    else:
        return _blend_in_place(x, partner, own, other) if inplace else _blend_into_new(x, partner, own, other)
    return x.copy_(mixed) if inplace else mixed


def weights(x: Tensor, lam: float | Tensor) -> tuple[Tensor, Tensor]:
    """lam and 1 - lam in float32 (float64 if x is), on x's device, scalar or [B].

    The subtraction happens before any rounding to float32, as in timm and torchvision.

    Raises:
        ValueError: lam is neither a scalar nor [B].
    """
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    if not isinstance(lam, Tensor):
        lam = torch.tensor(lam, dtype=torch.float64)
    if lam.ndim and lam.shape != x.shape[:1]:
        raise ValueError(f"lam must be a scalar or of shape {list(x.shape[:1])}, got {list(lam.shape)}")
    lam = lam if lam.dtype == wide else lam.to(torch.promote_types(lam.dtype, wide))
    own, other = (each.to(x.device, wide, non_blocking=True) for each in (lam, 1 - lam))
    return own, other


def blend_formula(x: Tensor, partner: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """The definition, for autograd, torch.compile and accelerators."""
    own, other = expand_like(own, x), expand_like(other, x)
    wide = at_least_float32(x)
    return (wide * own + wide.index_select(0, partner) * other).to(x.dtype)


def at_least_float32(values: Tensor) -> Tensor:
    """Return 16-bit values in float32, others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def expand_like(weight: Tensor, values: Tensor) -> Tensor:
    """Return weights [B] or [B, T] in a shape that multiplies values [B, ...] or [B, T, ...]; 0-d as it is.

    >>> expand_like(torch.ones(2), torch.zeros(2, 3, 4)).shape
    torch.Size([2, 1, 1])
    """
    missing = values.dim() - weight.dim()
    return weight.reshape(*weight.shape, *(1,) * missing) if weight.dim() and missing else weight


def _blend_on_device(x: Tensor, partner: Tensor, own: Tensor, other: Tensor) -> Tensor:
    partner = partner.to(x.device, non_blocking=True)
    if x.device.type == "cuda" and x.numel():
        try:
            from . import _triton
        except ImportError:  # torch without Triton
            return blend_formula(x, partner, own, other)
        if _triton.supports(x):
            with torch.cuda.device(x.device):
                return _triton.blend(x, partner.contiguous(), own, other)
    return blend_formula(x, partner, own, other)


def _blend_small(x: Tensor, partner: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """The definition with fewer temporaries than `blend_formula` has."""
    wide = x.to(own.dtype)
    mixed = wide * expand_like(own, x)
    return mixed.add_(wide.index_select(0, partner).mul_(expand_like(other, x))).to(x.dtype)


def _blend_into_new(x: Tensor, partner: Tensor, own: Tensor, other: Tensor) -> Tensor:
    row_size = x.numel() // len(x)
    if row_size <= SMALL_ROW:
        return _blend_gathered(x.clone(), partner, own, other)
    out = torch.empty_like(x)
    if out.stride() != x.stride():  # the slabs of both must hold the same elements
        x = x.clone()
    sources, slabs = partner.tolist(), row_size // SLAB + 1
    check_range(sources, len(x))
    for to, slab in zip(_slabs(_columns(out), slabs), _slabs(_columns(x), slabs)):
        _blend_rows(to, slab, sources, own, other)
    return out


def _blend_in_place(x: Tensor, partner: Tensor, own: Tensor, other: Tensor) -> Tensor:
    if x.numel() <= SMALL_ROW * len(x):
        return _blend_gathered(x, partner, own, other)
    order = write_order(partner.tolist())
    for slab in _slabs(_columns(x), x.numel() // len(x) // SLAB + 1):
        _lerp_rows(slab, order, own, other)
    return x


def _columns(x: Tensor) -> Tensor:
    """x as [B, N] without a copy if its layout allows (channels_last does), else x itself."""
    by_stride = sorted(range(1, x.ndim), key=x.stride, reverse=True)
    try:
        return x.permute(0, *by_stride).view(len(x), -1)
    except RuntimeError:
        return x


def _slabs(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """Cut x, across all rows, into about ``count`` parts along its outermost dimension but the first."""
    if x.ndim == 1 or count == 1:
        return (x,)
    return x.chunk(count, dim=max(range(1, x.ndim), key=x.stride))


def _blend_rows(out: Tensor, x: Tensor, sources: list[int], own: Tensor, other: Tensor) -> None:
    """Large rows into new memory: each is read once and written once, the second operation runs in the cache."""
    rows = x.unbind(0)
    own_weights = own.expand(len(x)).unbind(0)  # 0-d tensors: cheaper to multiply by than floats
    other_weights = other.expand(len(x)).tolist()
    one = torch.ones((), dtype=x.dtype)
    for to, row, source, own_weight, weight in zip(out.unbind(0), rows, sources, own_weights, other_weights):
        if x.dtype in (torch.float16, torch.bfloat16):
            torch.lerp(row, rows[source], weight, out=to)  # in float32 inside, one rounding
        else:
            # value * partner is rounded and times one is exact, so even a fused multiply-add gives the rounded sum
            # of two rounded products. (add_ with alpha would fuse the product that has to be rounded.)
            torch.mul(row, own_weight, out=to).addcmul_(rows[source], one, value=weight)


def _lerp_rows(x: Tensor, order: list[Write], own: Tensor, other: Tensor) -> None:
    """Large rows in place, in an order that never overwrites a row that is still to be read: one operation each."""
    rows = x.unbind(0)
    stash = torch.empty_like(rows[0])
    own_weights, other_weights = own.expand(len(x)).tolist(), other.expand(len(x)).tolist()
    for row, source, stash_for in order:
        if stash_for is not None:
            stash.copy_(rows[row])
        partner = stash if source is None else rows[source]
        if other_weights[row] <= 0.5 or x.dtype in (torch.float16, torch.bfloat16):
            rows[row].lerp_(partner, other_weights[row])
        else:  # by the smaller weight, which has lost nothing to rounding
            torch.lerp(partner, rows[row], own_weights[row], out=rows[row])


def _blend_gathered(x: Tensor, partner: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Small rows in place: the partners of all rows at once, in slabs no larger than a cache holds."""
    partner = partner.to(x.device)
    for slab in _slabs(_columns(x), x.numel() // SLAB + 1) if x.numel() else ():
        own_column, other_column = expand_like(own, slab), expand_like(other, slab)
        # A bad partner raises here, before anything is written.
        mixed = slab.index_select(0, partner).to(own.dtype).mul_(other_column)
        if x.dtype == own.dtype:
            slab.mul_(own_column).add_(mixed)
        else:
            slab.copy_(mixed.add_(slab.to(own.dtype).mul_(own_column)))
    return x
