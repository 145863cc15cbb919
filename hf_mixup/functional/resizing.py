"""Paste a whole image, made smaller, into a box of another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ._rows import (
    check_boxes,
    check_floats,
    check_images,
    check_inplace,
    check_partner,
    check_range,
    in_memory_format,
    needs_graph,
    positions_inside,
)
from .blending import at_least_float32


def boxes_inside(spot: Tensor, height: int, width: int, lam: float | Tensor) -> Tensor:
    """Boxes of the image's own shape that cover 1 - lam of it, around given spots and pushed wholly inside.

    Sides are sqrt(1 - lam) of the image's, whole pixels of it; where lam is below 1 at least one pixel.

    Source: Qin et al. 2020, "ResizeMix", https://arxiv.org/abs/2012.11101, as the authors' code places boxes.

    Args:
        spot: what the box lies around, (y, x) in [0, 1) as shares of the image's sides: [2] or [B, 2].
        height, width: image size in pixels.
        lam: share of the image that the sample keeps, in [0, 1]; scalar or [B].

    Returns:
        Long tensor (top, left, bottom, right), [4] or [B, 4], bottom and right exclusive; empty where lam is 1.

    Raises:
        ValueError: lam outside [0, 1].

    >>> boxes_inside(torch.tensor([0.5, 0.9]), 8, 10, 0.75)
    tensor([ 2,  5,  6, 10])
    """
    lam = torch.as_tensor(lam, dtype=torch.float64)
    if not ((lam >= 0) & (lam <= 1)).all():
        raise ValueError(f"lam must lie in [0, 1], got {lam}")
    size, cut = torch.tensor([height, width]), (1 - lam).unsqueeze(-1)
    side = (cut.sqrt() * size + 1e-3).long().clamp(min=1)  # what is added outweighs the rounding of lam
    start = ((spot.double() * size).long() - side // 2).clamp(min=0).minimum(size - side)
    return torch.cat([start, start + side], -1).where(cut > 0, 0)


def paste_resized(x: Tensor, partner: Tensor, boxes: Tensor, inplace: bool = False) -> Tensor:
    """Resize the partner's whole image into the box and paste it over the sample's own pixels: ResizeMix.

    Source: Qin et al. 2020, "ResizeMix: Mixing Data with Preserved Object Information and True Labels",
    https://arxiv.org/abs/2012.11101.

    Bilinear with antialiasing: `torch.nn.functional.interpolate(..., mode="bilinear", antialias=True)`. For autograd
    and on accelerators it is written as one product of matrices for each direction: each sample may have its own box,
    there is no loop over rows and no wait for the device, and the gradient is deterministic. 16 bits are computed in
    float32 and rounded once.

    Args:
        x: floating-point tensor [B, C, H, W], or any [B, ..., H, W].
        partner: long tensor [B] with values in [0, B). Any map, not only a permutation.
        boxes: (top, left, bottom, right) in pixels inside the image, [4] for the whole batch or [B, 4]; an empty box
            changes nothing.
        inplace: overwrite x. Not differentiable.

    Returns:
        Tensor like x (x itself if ``inplace``), in the same memory format. A box of the whole image gives x[partner].

    Raises:
        TypeError: x is not floating point.
        ValueError: ``x``, ``partner`` or ``boxes`` has the wrong shape.
        IndexError: a partner is negative or not less than B.
        RuntimeError: ``inplace`` on a tensor that requires grad.

    >>> x = torch.stack([torch.zeros(2, 4), torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 8.0]])])
    >>> paste_resized(x, torch.tensor([1, 0]), torch.tensor([0, 1, 1, 3]))[0]
    tensor([[0.0000, 1.1429, 6.8571, 0.0000],
            [0.0000, 0.0000, 0.0000, 0.0000]])
    """
    check_partner(x, partner)
    check_floats(x, "paste_resized")
    check_images(x, "paste_resized")
    check_boxes(x, boxes)
    if inplace:
        check_inplace(x)
    if torch.compiler.is_compiling() or x.device.type != "cpu" or needs_graph(x):
        mixed = _paste_formula(x, partner.to(x.device), boxes.to(x.device).reshape(-1, 4))
    else:
        mixed = _paste_slices(x, partner, boxes, x if inplace else x.clone())
    return x.copy_(mixed) if inplace and mixed is not x else mixed


def _paste_slices(x: Tensor, partner: Tensor, boxes: Tensor, out: Tensor) -> Tensor:
    """Write into `out`, which may be x: all images are made smaller before the first is written."""
    check_range(partner.tolist(), len(x))
    if boxes.ndim == 1:
        groups = [(slice(None), boxes.tolist())]
    else:
        groups = [(slice(row, row + 1), box) for row, box in enumerate(boxes.tolist())]
    groups = [(rows, box) for rows, box in groups if box[2] > box[0] and box[3] > box[1]]
    sizes = [(bottom - top, right - left) for _, (top, left, bottom, right) in groups]
    if len(set(sizes)) == 1:  # one call makes all images smaller
        whole = _shrink(x, *sizes[0])
        small = [whole.index_select(0, partner[rows]) for rows, _ in groups]
    else:
        small = [_shrink(x.index_select(0, partner[rows]), *size) for (rows, _), size in zip(groups, sizes)]
    for (rows, (top, left, bottom, right)), image in zip(groups, small, strict=True):
        out[rows, ..., top:bottom, left:right] = image
    return out


def _shrink(x: Tensor, height: int, width: int) -> Tensor:
    """Resize [B, ..., H, W]; one direction after the other where it has to be (torch 2.14 errs at a width of 1)."""
    wide = at_least_float32(x)
    flat = wide if wide.ndim == 4 else wide.reshape(len(x), -1, *x.shape[-2:])
    sizes = [(height, x.shape[-1])] * (width == 1) + [(height, width)]
    for size in sizes:
        if flat.shape[-2:] != size:
            flat = F.interpolate(flat, size, mode="bilinear", antialias=True)
    return flat.reshape(*x.shape[:-2], height, width).to(x.dtype)


def paste_nearest(labels: Tensor, partner: Tensor, boxes: Tensor) -> Tensor:
    """Paste the partner's whole segmentation mask, made smaller by nearest pixels, into a box over the sample's own.

    Each position of the box takes the label at the centre of what it covers of the partner's mask.

    Args:
        labels: integers [B, H, W].
        partner: long tensor [B] with values in [0, B).
        boxes: (top, left, bottom, right) in pixels inside the mask, [4] for the whole batch or [B, 4].

    Returns:
        New tensor like labels.

    >>> labels = torch.tensor([[[0, 0, 0, 0]], [[1, 2, 3, 4]]])
    >>> paste_nearest(labels, torch.tensor([1, 0]), torch.tensor([0, 1, 1, 3]))[0]
    tensor([[0, 2, 4, 0]])
    """
    check_partner(labels, partner)
    partner, boxes = partner.to(labels.device), boxes.to(labels.device).reshape(-1, 4)
    top, left, bottom, right = boxes.unbind(-1)
    in_rows, down = _nearest(top, bottom, labels.shape[-2])
    in_columns, across = _nearest(left, right, labels.shape[-1])
    pasted = labels[partner[:, None, None], down[:, :, None], across[:, None, :]]
    return torch.where(in_rows[:, :, None] & in_columns[:, None, :], pasted, labels)


def _nearest(start: Tensor, end: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return which positions lie between start and end, bool [b, N], and the position each one reads, long [b, N]."""
    side = (end - start).clamp(min=1).unsqueeze(-1)
    within = torch.arange(length, device=start.device) - start.unsqueeze(-1)
    source = (2 * within + 1) * length // (2 * side)
    return positions_inside(start, end, length), source.clamp(0, length - 1)


def _paste_formula(x: Tensor, partner: Tensor, boxes: Tensor) -> Tensor:
    top, left, bottom, right = boxes.unbind(-1)
    dtype = torch.promote_types(x.dtype, torch.float32)
    in_rows, down = _resize_matrix(top, bottom, x.shape[-2], dtype)
    in_columns, across = _resize_matrix(left, right, x.shape[-1], dtype)
    with torch.autocast(x.device.type, enabled=False):  # it would make the products less precise than the images
        image = x.index_select(0, partner).to(dtype)
        image = torch.einsum("bij,b...jw->b...iw", down, image)
        image = torch.einsum("bij,b...hj->b...hi", across, image)
    inside = in_rows.unsqueeze(-1) & in_columns.unsqueeze(-2)
    inside = inside.reshape(len(boxes), *[1] * (x.ndim - 3), *x.shape[-2:])
    # The products come out contiguous, and `where` may then follow them rather than x.
    return in_memory_format(torch.where(inside, image.to(x.dtype), x), x)


def _resize_matrix(start: Tensor, end: Tensor, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return which positions lie between start and end, bool [b, N], and the weights each reads with, [b, N, N]."""
    position = torch.arange(length, device=start.device)
    side = (end - start).clamp(min=1).unsqueeze(-1)
    within = position - start.unsqueeze(-1)
    # Positions outside are not used: they read as the nearest one inside does, so that no row of weights is empty.
    scale = length / side.to(dtype)
    center = (within.clamp(min=0).minimum(side - 1) + 0.5) * scale
    weights = (1 - (position + 0.5 - center.unsqueeze(-1)).abs() / scale.unsqueeze(-1)).clamp(min=0)
    return positions_inside(start, end, length), weights / weights.sum(-1, keepdim=True)
