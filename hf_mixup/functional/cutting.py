"""Cut and paste: CutMix boxes, the share they cover, and the pasting itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._rows import check_boxes, check_inplace, check_partner, check_range, needs_graph, positions_inside, write_order
from .blending import SLAB


def cut_boxes(
    size: Sequence[int],
    lam: float | Tensor,
    generator: torch.Generator | None = None,
    box_sides: tuple[float, float] | None = None,
    style: str = "timm",
) -> Tensor:
    """Draw CutMix boxes covering about 1 - lam of an image, centred anywhere in it and clipped to it.

    A box may have any number of axes: one is a stretch of audio, three are a block of a video.

    Source: Yun et al., "CutMix", 2019, https://arxiv.org/abs/1905.04899, section 3.1 and eq. (2); for videos Yun et
    al., "VideoMix", 2020, https://arxiv.org/abs/2012.03457, section 3.

    Args:
        size: length of each axis, (height, width) of an image in pixels.
        lam: share of the image that the sample keeps, in [0, 1]: a scalar draws one box, [B] one box per sample.
        generator: CPU source of randomness; None for torch's global one.
        box_sides: ``(lo, hi)`` in [0, 1]: instead of using lam's value, draw all sides uniformly from
            [lo, hi) of the image's and place the box wholly inside, as timm's ``cutmix_minmax``.
        style: rounding of the box, see `boxes_at`.

    Returns:
        Long CPU tensor of the first positions, then of those behind the last ones: (top, left, bottom, right) of an
        image, [2n] or [B, 2n] for n axes. Clipping makes a box smaller than 1 - lam: weigh the targets by `box_lam`.

    Raises:
        ValueError: ``box_sides`` is not 0 <= lo < hi <= 1, unknown ``style``, or lam outside [0, 1].

    >>> boxes = cut_boxes((224, 224), torch.tensor([1.0, 0.75]), generator=torch.Generator().manual_seed(0))
    >>> boxes.shape, box_lam(boxes, 224, 224)[0]
    (torch.Size([2, 4]), tensor(1.))
    """
    lam = _as_lam(lam)
    if box_sides is not None:
        return _boxes_wholly_inside(size, lam.shape, box_sides, generator)
    center = torch.stack([torch.randint(length, lam.shape, generator=generator) for length in size], -1)
    return boxes_at(center, size, lam, style)


def boxes_at(center: Tensor, size: Sequence[int], lam: float | Tensor, style: str = "timm") -> Tensor:
    """The CutMix boxes for given centres: the deterministic half of `cut_boxes`.

    Sides are the n-th root of 1 - lam of each axis (sqrt of an image's). They are computed in lam's own precision
    (double for a Python float), which is what reproduces timm and torchvision pixel for pixel.

    Args:
        center: long tensor (y, x), or of n axes, [n] or [B, n], on any device.
        size: length of each of the n axes.
        lam: share of the image that the sample keeps, in [0, 1]; scalar or [B]; on the CPU, so that no device has to be
            waited for.
        style: ``"timm"`` (1.0.31) truncates the side, odd sides allowed; ``"torchvision"`` (0.29) truncates half the
            side, so that sides are even.

    Returns:
        Long tensor as `cut_boxes` returns it, clipped to the image.

    Raises:
        ValueError: unknown ``style``, or lam outside [0, 1].

    >>> boxes_at(torch.tensor([1, 4]), (8, 8), 0.75), boxes_at(torch.tensor([4]), [8], 0.75)
    (tensor([0, 2, 3, 6]), tensor([3, 5]))
    """
    cut = 1 - _as_lam(lam)
    ratio = cut.sqrt() if len(size) == 2 else cut ** (1 / len(size))
    length = torch.tensor(size)
    if style == "timm":
        side = (ratio.unsqueeze(-1) * length.to(ratio.dtype)).long()
        before, after = side // 2, (side + 1) // 2
    elif style == "torchvision":
        before = after = ((0.5 * ratio).unsqueeze(-1) * length.to(ratio.dtype)).long()
    else:
        raise ValueError(f"style must be 'timm' or 'torchvision', got {style!r}")
    before, after, length = (each.to(center.device, non_blocking=True) for each in (before, after, length))
    first, behind = (center - before).clamp(min=0), torch.minimum(center + after, length)
    return torch.cat([first, behind], -1)


def _as_lam(lam: float | Tensor) -> Tensor:
    lam = lam.cpu() if isinstance(lam, Tensor) else torch.tensor(lam, dtype=torch.float64)
    within = 0 <= lam.item() <= 1 if lam.dim() == 0 else bool(((lam >= 0) & (lam <= 1)).all())
    if not within:
        raise ValueError(f"lam must lie in [0, 1], got {lam}")
    return lam


def _boxes_wholly_inside(
    size: Sequence[int], shape: torch.Size, box_sides: tuple[float, float], generator: torch.Generator | None
) -> Tensor:
    lo, hi = box_sides
    if not 0 <= lo < hi <= 1:
        raise ValueError(f"box_sides must be 0 <= lo < hi <= 1, got {box_sides}")

    def span(length: int) -> tuple[Tensor, Tensor]:
        shortest = int(length * lo)
        longest = max(int(length * hi), shortest + 1)  # exclusive; a tiny image leaves one choice
        side = torch.randint(shortest, longest, shape, generator=generator)
        start = (torch.rand(shape, generator=generator, dtype=torch.float64) * (length - side + 1)).long()
        return start, start + side

    first, behind = zip(*(span(length) for length in size), strict=True)
    return torch.stack([*first, *behind], -1)


def box_lam(boxes: Tensor, *size: int) -> Tensor:
    """The share of an image outside its box: the weight of the own sample after `cut`.

    Source: Yun et al., "CutMix", 2019, https://arxiv.org/abs/1905.04899, eq. (2), after clipping.

    Args:
        boxes: (top, left, bottom, right) in pixels inside the image, [4] or [B, 4]; of n axes [2n] or [B, 2n].
        size: height and width of the image in pixels; the length of each axis.

    Returns:
        float32 tensor in [0, 1], 0-d or [B].

    >>> box_lam(torch.tensor([0, 2, 3, 6]), 8, 8)
    tensor(0.8125)
    """
    first, behind = boxes.chunk(2, -1)
    area = (behind - first).clamp(min=0).prod(-1)
    return (1 - area.double() / math.prod(size)).float()


def inside_boxes(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Mark the positions inside boxes, on their device and without waiting for it.

    Args:
        boxes: [2n] or [B, 2n] for n axes, see `cut_boxes`.
        size: length of each axis.

    Returns:
        bool tensor [1 or B, *size].

    >>> inside_boxes(torch.tensor([0, 1, 1, 3]), [2, 3]).long()
    tensor([[[0, 1, 1],
             [0, 0, 0]]])
    """
    n = len(size)
    first, behind = boxes.reshape(-1, 2, n).unbind(1)
    inside = torch.ones((), dtype=torch.bool, device=boxes.device)
    for axis, length in enumerate(size):
        along = positions_inside(first[:, axis], behind[:, axis], length)
        inside = inside & along.reshape(-1, *(length if other == axis else 1 for other in range(n)))
    return inside


def cut(x: Tensor, partner: Tensor, boxes: Tensor, inplace: bool = False, axes: Sequence[int] | None = None) -> Tensor:
    """Paste the partner's pixels inside the box over the sample's own: CutMix.

    Source: Yun et al., "CutMix", 2019, https://arxiv.org/abs/1905.04899, eq. (1).

    Args:
        x: tensor [B, C, H, W], or any [B, ..., H, W], of any dtype.
        partner: long tensor [B] with values in [0, B). Any map, not only a permutation.
        boxes: (top, left, bottom, right) in pixels, [4] for the whole batch or [B, 4]; an empty box changes nothing.
            For n axes [2n] or [B, 2n], see `cut_boxes`.
        inplace: overwrite x. Not differentiable.
        axes: axes of x that the box lies in, in order; the last ones by default.

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
    >>> cut(x, torch.tensor([1, 0]), torch.tensor([0, 1]), axes=[1])[0]
    tensor([[1., 1.],
            [0., 0.]])
    """
    check_partner(x, partner)
    n = 2 if axes is None else len(axes)
    _check_cut(x, boxes, axes, n)
    if inplace:
        check_inplace(x)
    last = list(range(x.ndim - n, x.ndim))
    into = last if axes is None else list(axes)
    view = x if into == last else x.movedim(into, last)
    if torch.compiler.is_compiling() or x.device.type != "cpu" or needs_graph(x):
        mixed = _cut_formula(view, partner.to(x.device), boxes.to(x.device), n)
        mixed = view.copy_(mixed) if inplace else mixed
    else:
        mixed = _cut_in_place(view if inplace else view.clone(), partner, boxes, n)
    if inplace:
        return x
    return mixed if view is x else mixed.movedim(last, into)


def _check_cut(x: Tensor, boxes: Tensor, axes: Sequence[int] | None, n: int) -> None:
    if x.ndim < 1 + n:
        expected = "[B, ..., H, W]" if n == 2 else f"[B] and {n} axes"
        raise ValueError(f"cut needs x of shape {expected}, got {list(x.shape)}")
    if axes is not None and not all(0 < axis < x.ndim for axis in axes):
        raise ValueError(f"axes must lie between 1 and {x.ndim - 1}, got {list(axes)}")
    check_boxes(x, boxes, n)


def _cut_formula(x: Tensor, partner: Tensor, boxes: Tensor, n: int) -> Tensor:
    """The definition, for autograd, torch.compile and accelerators: no value of a box is needed on the host."""
    size = x.shape[x.ndim - n :]
    inside = inside_boxes(boxes, size)
    inside = inside.reshape(len(inside), *[1] * (x.ndim - 1 - n), *size)
    return torch.where(inside, x.index_select(0, partner), x)


def _cut_in_place(x: Tensor, partner: Tensor, boxes: Tensor, n: int) -> Tensor:
    sources = partner.tolist()
    check_range(sources, len(x))
    boxes = boxes.clamp(min=0)  # a negative index would count from the far edge
    slices: list[tuple[Any, ...]] = [(..., *map(slice, box[:n], box[n:])) for box in boxes.reshape(-1, 2 * n).tolist()]
    if boxes.ndim == 1:
        region = x[slices[0]]
        if region.numel() <= SLAB:
            region.copy_(region.index_select(0, partner.to(x.device)))
            return x
        rows = region.unbind(0)
        windows: list[tuple[Any, ...]] = [(...,)] * len(x)
    else:
        rows = x.unbind(0)
        windows = slices
    stash = x.new_empty(0)
    for row, source, stash_for in write_order(sources):
        if stash_for is not None:
            stash = rows[row][windows[stash_for]].clone()
        rows[row][windows[row]].copy_(stash if source is None else rows[source][windows[row]])
    return x
