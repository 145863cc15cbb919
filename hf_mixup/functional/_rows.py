"""What blending and cutting share: checks, and the order in which rows may be overwritten."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Write(NamedTuple):
    """One step of an in-place pass: overwrite ``row``, reading ``source``."""

    row: int
    source: int | None  # None: read the stash
    stash_for: int | None  # before writing, stash ``row`` for the row named here, which comes last in the cycle


def write_order(partner: list[int]) -> list[Write]:
    """Order the rows so that each is overwritten only once nobody still needs its old content.

    Any map is a set of cycles with trees hanging from them. Leaves come first; then each cycle is walked once, its
    first row stashed for its last. One stashed row is all the extra memory that is ever needed.

    Raises:
        IndexError: a partner is negative or not less than the number of rows.

    >>> [tuple(write) for write in write_order([1, 0, 1])]
    [(2, 1, None), (0, 1, 1), (1, None, None)]
    """
    n = len(partner)
    check_range(partner, n)
    readers = [0] * n
    for source in partner:
        readers[source] += 1
    order: list[Write] = []
    written = [False] * n

    free = [row for row in range(n) if not readers[row]]
    while free:
        row = free.pop()
        source = partner[row]
        order.append(Write(row, source, None))
        written[row] = True
        readers[source] -= 1
        if not readers[source]:
            free.append(source)

    for start in range(n):
        if written[start]:
            continue
        cycle = [start]
        while partner[cycle[-1]] != start:
            cycle.append(partner[cycle[-1]])
        for row in cycle:
            last = row == cycle[-1]
            order.append(Write(row, None if last else partner[row], cycle[-1] if row == start else None))
            written[row] = True
    return order


def check_range(partner: list[int], rows: int) -> None:
    """Raise an IndexError for a partner that is no row."""
    for source in partner:
        if not 0 <= source < rows:
            raise IndexError(f"partner {source} is outside [0, {rows})")


def check_partner(x: Tensor, partner: Tensor) -> None:
    """Raise a ValueError unless ``partner`` is a long tensor with one entry per row of ``x``."""
    if x.ndim == 0 or partner.shape != x.shape[:1] or partner.dtype != torch.long:
        raise ValueError(
            f"partner must be a long tensor of shape [B] for a batch of shape {list(x.shape)}, "
            f"got {partner.dtype} of shape {list(partner.shape)}"
        )


def check_images(x: Tensor, name: str) -> None:
    """Raise a ValueError unless ``x`` has a batch dimension and two of an image."""
    if x.ndim < 3:
        raise ValueError(f"{name} needs x of shape [B, ..., H, W], got {list(x.shape)}")


def check_boxes(x: Tensor, boxes: Tensor, axes: int = 2) -> None:
    """Raise a ValueError unless ``boxes`` holds both ends along the axes, for the whole batch or for each sample."""
    if boxes.shape not in ((2 * axes,), (len(x), 2 * axes)):
        raise ValueError(f"boxes must have shape [{2 * axes}] or [{len(x)}, {2 * axes}], got {list(boxes.shape)}")


def check_floats(x: Tensor, name: str) -> None:
    """Raise a TypeError unless ``x`` is floating point."""
    if not x.is_floating_point():
        raise TypeError(f"{name} needs a floating-point x, got {x.dtype}: convert it first, for example x.float()")


def positions_inside(start: Tensor, end: Tensor, length: int) -> Tensor:
    """Return which of the positions along an axis lie in [start, end): bool [B, length] for ends [B]."""
    position = torch.arange(length, device=start.device)
    return (position >= start.unsqueeze(-1)) & (position < end.unsqueeze(-1))


def in_memory_format(mixed: Tensor, x: Tensor) -> Tensor:
    """Return ``mixed`` in the memory format of ``x``, whose shape it has."""
    return mixed if mixed.stride() == x.stride() else torch.empty_like(x).copy_(mixed)


def check_inplace(x: Tensor) -> None:
    """Raise a RuntimeError if overwriting ``x`` would break autograd or write the same memory twice."""
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("inplace=True would overwrite a tensor that requires grad: use inplace=False")
    if any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape, strict=True)):
        raise RuntimeError("inplace=True on an expanded tensor, whose elements share memory: use inplace=False")


def needs_graph(*tensors: Tensor) -> bool:
    """Whether autograd has to see the operations on these tensors."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
