"""Cut and paste: CutMix boxes, the share they cover, and the pasting itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._rows import check_inplace, check_partner, needs_graph, write_order
from .blending import SLAB


def cut_boxes(
    height: int,
    width: int,
    lam: float | Tensor,
    generator: torch.Generator | None = None,
    minmax: tuple[float, float] | None = None,
    style: str = "timm",
) -> Tensor:
    """Draw CutMix boxes covering about 1 - lam of an image, centred anywhere in it and clipped to it.

    Source: Yun et al., "CutMix", 2019, https://arxiv.org/abs/1905.04899, section 3.1 and eq. (2).

    Args:
        height, width: image size in pixels.
        lam: share of the image that the row keeps, in [0, 1]: a scalar draws one box, [B] one box per row.
        generator: CPU source of randomness; None for torch's global one.
        minmax: ``(lo, hi)`` in [0, 1]: instead of using lam's value, draw both sides uniformly from
            [lo, hi) of the image's and place the box wholly inside, as timm's ``cutmix_minmax``.
        style: rounding of the box, see `boxes_at`.

    Returns:
        Long CPU tensor (top, left, bottom, right), [4] or [B, 4], bottom and right exclusive. Clipping makes a box
        smaller than 1 - lam: weigh the targets by `box_lam`.

    Raises:
        ValueError: ``minmax`` is not 0 <= lo < hi <= 1, unknown ``style``, or lam outside [0, 1].

    >>> boxes = cut_boxes(224, 224, torch.tensor([1.0, 0.75]), generator=torch.Generator().manual_seed(0))
    >>> boxes.shape, box_lam(boxes, 224, 224)[0]
    (torch.Size([2, 4]), tensor(1.))
    """
    lam = _as_lam(lam)
    if minmax is not None:
        return _boxes_inside(height, width, lam.shape, minmax, generator)
    center_y = torch.randint(height, lam.shape, generator=generator)
    center_x = torch.randint(width, lam.shape, generator=generator)
    return boxes_at(torch.stack([center_y, center_x], -1), height, width, lam, style)


def boxes_at(center: Tensor, height: int, width: int, lam: float | Tensor, style: str = "timm") -> Tensor:
    """The CutMix boxes for given centres: the deterministic half of `cut_boxes`.

    Sides are sqrt(1 - lam) of the image's. They are computed in lam's own precision (double for a Python float),
    which is what reproduces timm and torchvision pixel for pixel.

    Args:
        center: long tensor (y, x), [2] or [B, 2].
        height, width: image size in pixels.
        lam: share of the image that the row keeps, in [0, 1]; scalar or [B].
        style: ``"timm"`` (1.0.31) truncates the side, odd sides allowed; ``"torchvision"`` (0.29) truncates half the
            side, so that sides are even.

    Returns:
        Long tensor (top, left, bottom, right), [4] or [B, 4], bottom and right exclusive, clipped to the image.

    Raises:
        ValueError: unknown ``style``, or lam outside [0, 1].

    >>> boxes_at(torch.tensor([1, 4]), 8, 8, 0.75)
    tensor([0, 2, 3, 6])
    """
    ratio = (1 - _as_lam(lam)).sqrt()
    size = torch.tensor([height, width])
    if style == "timm":
        side = (ratio.unsqueeze(-1) * size.to(ratio.dtype)).long()
        before, after = side // 2, (side + 1) // 2
    elif style == "torchvision":
        before = after = ((0.5 * ratio).unsqueeze(-1) * size.to(ratio.dtype)).long()
    else:
        raise ValueError(f"style must be 'timm' or 'torchvision', got {style!r}")
    top_left, bottom_right = (center - before).clamp(min=0), torch.minimum(center + after, size)
    return torch.cat([top_left, bottom_right], -1)


def _as_lam(lam: float | Tensor) -> Tensor:
    lam = lam.cpu() if isinstance(lam, Tensor) else torch.tensor(lam, dtype=torch.float64)
    if not ((lam >= 0) & (lam <= 1)).all():
        raise ValueError(f"lam must lie in [0, 1], got {lam}")
    return lam


def _boxes_inside(
    height: int, width: int, shape: torch.Size, minmax: tuple[float, float], generator: torch.Generator | None
) -> Tensor:
    lo, hi = minmax
    if not 0 <= lo < hi <= 1:
        raise ValueError(f"minmax must be 0 <= lo < hi <= 1, got {minmax}")

    def span(length: int) -> tuple[Tensor, Tensor]:
        shortest = int(length * lo)
        longest = max(int(length * hi), shortest + 1)  # exclusive; a tiny image leaves one choice
        side = torch.randint(shortest, longest, shape, generator=generator)
        start = (torch.rand(shape, generator=generator, dtype=torch.float64) * (length - side + 1)).long()
        return start, start + side

    top, bottom = span(height)
    left, right = span(width)
    return torch.stack([top, left, bottom, right], -1)


def box_lam(boxes: Tensor, height: int, width: int) -> Tensor:
    """The share of an image outside its box: the weight of the row's own sample after `cut`.

    Source: Yun et al., "CutMix", 2019, https://arxiv.org/abs/1905.04899, eq. (2), after clipping.

    Args:
        boxes: (top, left, bottom, right) in pixels inside the image, [4] or [B, 4].
        height, width: image size in pixels.

    Returns:
        float32 tensor in [0, 1], 0-d or [B].

    >>> box_lam(torch.tensor([0, 2, 3, 6]), 8, 8)
    tensor(0.8125)
    """
    top, left, bottom, right = boxes.unbind(-1)
    area = (bottom - top).clamp(min=0) * (right - left).clamp(min=0)
    return (1 - area.double() / (height * width)).float()


def cut(x: Tensor, partner: Tensor, boxes: Tensor, inplace: bool = False) -> Tensor:
    """Paste the partner's pixels inside the box over the row's own: CutMix.

    Source: Yun et al., "CutMix", 2019, https://arxiv.org/abs/1905.04899, eq. (1).

    Args:
        x: tensor [B, C, H, W], or any [B, ..., H, W], of any dtype.
        partner: long tensor [B] with values in [0, B). Any map, not only a permutation.
        boxes: (top, left, bottom, right) in pixels, [4] for the whole batch or [B, 4]; an empty box changes nothing.
        inplace: overwrite x. Not differentiable.

    Returns:
        Tensor like x (x itself if ``inplace``), in the same memory format.

    Raises:
        ValueError: ``x``, ``partner`` or ``boxes`` has the wrong shape.
        IndexError: a partner is negative or not less than B.
        RuntimeError: ``inplace`` on a tensor that requires grad.

    >>> x = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])
    >>> cut(x, torch.tensor([1, 0]), torch.tensor([0, 0, 1, 2]))[0]
    tensor([[1., 1.],
            [0., 0.]])
    """
    check_partner(x, partner)
    if x.ndim < 3:
        raise ValueError(f"cut needs x of shape [B, ..., H, W], got {list(x.shape)}")
    if boxes.shape not in ((4,), (len(x), 4)):
        raise ValueError(f"boxes must have shape [4] or [{len(x)}, 4], got {list(boxes.shape)}")
    if inplace:
        check_inplace(x)
    if torch.compiler.is_compiling() or x.device.type != "cpu" or needs_graph(x):
        mixed = _cut_formula(x, partner.to(x.device), boxes.to(x.device))
        return x.copy_(mixed) if inplace else mixed
    return _cut_in_place(x if inplace else x.clone(), partner, boxes)


def _cut_formula(x: Tensor, partner: Tensor, boxes: Tensor) -> Tensor:
    """The definition, for autograd, torch.compile and accelerators: no value of a box is needed on the host."""
    top, left, bottom, right = boxes.reshape(-1, *[1] * (x.ndim - 1), 4).unbind(-1)
    row = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1)
    column = torch.arange(x.shape[-1], device=x.device)
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    return torch.where(inside, x.index_select(0, partner), x)


def _cut_in_place(x: Tensor, partner: Tensor, boxes: Tensor) -> Tensor:
    order = write_order(partner.tolist())
    boxes = boxes.clamp(min=0)  # a negative index would count from the far edge
    if boxes.ndim == 1:
        top, left, bottom, right = boxes.tolist()
        region = x[..., top:bottom, left:right]
        if region.numel() <= SLAB:
            region.copy_(region.index_select(0, partner.to(x.device)))
            return x
        rows = region.unbind(0)
        windows: list[tuple[Any, ...]] = [(...,)] * len(x)
    else:
        rows = x.unbind(0)
        windows = [(..., slice(top, bottom), slice(left, right)) for top, left, bottom, right in boxes.tolist()]
    stash = x.new_empty(0)
    for row, source, stash_for in order:
        if stash_for is not None:
            stash = rows[row][windows[stash_for]].clone()
        rows[row][windows[row]].copy_(stash if source is None else rows[source][windows[row]])
    return x
