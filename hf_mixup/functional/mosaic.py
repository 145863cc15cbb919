"""Four images round a centre: the sample's own in one corner, those of three others in the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._rows import check_images, check_range, in_memory_format, needs_graph


def quadrants(center: Tensor, height: int, width: int) -> Tensor:
    """Return the four boxes round a centre, in reading order.

    Args:
        center: long (y, x) with 0 <= y <= height and 0 <= x <= width, [2] or [B, 2].
        height, width: image size in pixels.

    Returns:
        Long tensor (top, left, bottom, right), [4, 4] or [B, 4, 4], bottom and right exclusive. They cover the image
        and do not overlap; those of a centre on the edge are empty.

    >>> quadrants(torch.tensor([3, 1]), 4, 6).tolist()
    [[0, 0, 3, 1], [0, 1, 3, 6], [3, 0, 4, 1], [3, 1, 4, 6]]
    """
    y, x = center.unbind(-1)
    zero, bottom, right = torch.zeros_like(y), torch.full_like(y, height), torch.full_like(x, width)
    sides = [(zero, zero, y, x), (zero, x, y, right), (y, zero, bottom, x), (y, x, bottom, right)]
    return torch.stack([torch.stack(side, -1) for side in sides], -2)


def quadrant_shares(center: Tensor, height: int, width: int) -> Tensor:
    """Return the share of the image that each quadrant covers, in reading order: float32 [4] or [B, 4], sum 1.

    >>> quadrant_shares(torch.tensor([3, 1]), 4, 4)
    tensor([0.1875, 0.5625, 0.0625, 0.1875])
    """
    top, left, bottom, right = quadrants(center, height, width).double().unbind(-1)
    return ((bottom - top) * (right - left) / (height * width)).float()


def mosaic(x: Tensor, partners: Tensor, center: Tensor, shift: Tensor | None = None) -> Tensor:
    """Put four images round a centre: the sample's own top left, its partners' top right, bottom left and bottom right.

    A pixel of a quadrant stays where it is, unless `shift` moves the image under its quadrant.

    Source: Takahashi, Matsubara and Uehara 2018, "Data Augmentation using Random Image Cropping and Patching for Deep
    CNNs", https://arxiv.org/abs/1811.09030 (RICAP); as mosaic of detectors: Bochkovskiy et al. 2020, "YOLOv4",
    https://arxiv.org/abs/2004.10934, section 3.4.

    Args:
        x: tensor [B, C, H, W], or any [B, ..., H, W], of any dtype.
        partners: long tensor [B, 3] with values in [0, B).
        center: long (y, x) of the corner that all four touch, 0 <= y <= H and 0 <= x <= W: [2] for the whole batch or
            [B, 2]; (H, W) leaves the sample as it is, (0, 0) gives the third partner.
        shift: how many pixels further (down, right) the content of each quadrant is read than it is put, long [4, 2]
            or [B, 4, 2]; it must not lead out of the image.

    Returns:
        New tensor like x, in the same memory format.

    Raises:
        ValueError: an argument has the wrong shape; on the CPU also: a centre outside the image, or a shift that
            leads out of it.
        IndexError: a partner is negative or not less than B.

    >>> x = torch.arange(4).reshape(4, 1, 1).expand(4, 2, 3)
    >>> mosaic(x, torch.tensor([[1, 2, 3]] * 4), torch.tensor([1, 2]))[0]
    tensor([[0, 0, 1],
            [2, 2, 3]])
    """
    _check(x, partners, center, shift)
    if shift is None:
        shift = torch.zeros(4, 2, dtype=torch.long)
    if torch.compiler.is_compiling() or x.device.type != "cpu" or needs_graph(x):
        where = (partners.to(x.device), center.to(x.device).reshape(-1, 2), shift.to(x.device).reshape(-1, 4, 2))
        return _mosaic_formula(x, *where)
    return _mosaic_by_slices(x, partners, center, shift)


def _check(x: Tensor, partners: Tensor, center: Tensor, shift: Tensor | None) -> None:
    check_images(x, "mosaic")
    rows = len(x)
    if partners.shape != (rows, 3) or partners.dtype != torch.long:
        raise ValueError(
            f"partners must be a long tensor of shape [{rows}, 3], got {partners.dtype} of shape {list(partners.shape)}"
        )
    if center.shape not in ((2,), (rows, 2)):
        raise ValueError(f"center must have shape [2] or [{rows}, 2], got {list(center.shape)}")
    if shift is not None and shift.shape not in ((4, 2), (rows, 4, 2)):
        raise ValueError(f"shift must have shape [4, 2] or [{rows}, 4, 2], got {list(shift.shape)}")


def _mosaic_formula(x: Tensor, partners: Tensor, center: Tensor, shift: Tensor) -> Tensor:
    """The definition, for autograd, torch.compile and accelerators: one gather, whatever the samples draw."""
    (height, width), rows = x.shape[-2:], torch.arange(len(x), device=x.device)
    y, x_ = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    lower, right = (y >= center[:, :1]).long(), (x_ >= center[:, 1:]).long()
    quadrant = (2 * lower[:, :, None] + right[:, None]).expand(len(x), -1, -1)  # [B, H, W]
    sources = torch.cat([rows[:, None], partners], -1)
    shift = shift.expand(len(x), -1, -1)
    source, down, across = (
        each.gather(1, quadrant.flatten(1)).view_as(quadrant) for each in (sources, shift[..., 0], shift[..., 1])
    )
    last = x.movedim((-2, -1), (1, 2))  # the channels behind, where they are taken along
    return in_memory_format(last[source, y[:, None] + down, x_ + across].movedim((1, 2), (-2, -1)), x)


def _mosaic_by_slices(x: Tensor, partners: Tensor, center: Tensor, shift: Tensor) -> Tensor:
    boxes, shape = quadrants(center, *x.shape[-2:]), x.shape[-2:]
    _check_inside(boxes, shift, *shape)
    mixed = torch.empty_like(x)
    if center.ndim == 1 and shift.ndim == 2:
        sources = [None, *partners.unbind(1)]
        for source, to, by in zip(sources, boxes.tolist(), shift.tolist(), strict=True):
            content = x[_window(to, by)]
            mixed[_window(to, (0, 0))] = content if source is None else content.index_select(0, source)
        return mixed
    check_range(partners.flatten().tolist(), len(x))
    rows, others = x.unbind(0), partners.tolist()
    boxes, shift = boxes.expand(len(x), 4, 4), shift.expand(len(x), 4, 2)
    for row, (tos, bys) in enumerate(zip(boxes.tolist(), shift.tolist(), strict=True)):
        for source, to, by in zip((row, *others[row]), tos, bys, strict=True):
            mixed[row][_window(to, (0, 0))] = rows[source][_window(to, by)]
    return mixed


def _check_inside(boxes: Tensor, shift: Tensor, height: int, width: int) -> None:
    filled = ((boxes[..., 2:] > boxes[..., :2]).all(-1))[..., None]
    if not ((boxes >= 0) & (boxes <= torch.tensor([height, width, height, width]))).all():
        raise ValueError(f"center lies outside the image of {height} x {width} pixels")
    start, end = boxes[..., :2] + shift, boxes[..., 2:] + shift
    if not (((start >= 0) & (end <= torch.tensor([height, width]))) | ~filled).all():
        raise ValueError(f"shift leads out of the image of {height} x {width} pixels")


def _window(box: list[int], by: list[int] | tuple[int, int]) -> tuple[Any, ...]:
    (top, left, bottom, right), (down, across) = box, by
    if top == bottom or left == right:  # nothing to read, wherever the shift points
        return ..., slice(0, 0), slice(0, 0)
    return ..., slice(top + down, bottom + down), slice(left + across, right + across)
