"""Masks of pixels that stay the sample's own, and pasting the partner's over the others."""

from __future__ import annotations

import torch
from torch import Tensor

from ._rows import check_images, check_inplace, check_partner, needs_graph


def low_frequency_noise(
    size: int, height: int, width: int, decay: float = 3.0, generator: torch.Generator | None = None
) -> Tensor:
    """Draw smooth random fields: complex Gaussian noise whose amplitude falls as frequency ** -decay, transformed back.

    The frequency is that of the cycle in pixels, at least one cycle over the longer side. All fields are transformed
    at once.

    Source: Harris et al. 2020, "FMix: Enhancing Mixed Sample Data Augmentation", https://arxiv.org/abs/2002.12047,
    section 4.

    Args:
        size: number of fields.
        height, width: their size in pixels.
        decay: larger is smoother; 0 is white noise.
        generator: CPU source of randomness; None for torch's global one.

    Returns:
        float32 CPU tensor [size, height, width].

    >>> low_frequency_noise(2, 5, 6, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 5, 6])
    """
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
    amplitude = frequency.clamp(min=1 / max(height, width)) ** -decay
    noise = torch.randn(size, *amplitude.shape, 2, generator=generator)
    return torch.fft.irfft2(torch.view_as_complex(noise) * amplitude, s=(height, width))


def top_cells(scores: Tensor, count: Tensor) -> Tensor:
    """Return which cells of each grid are among its `count` largest; of equal ones the first in reading order.

    Args:
        scores: floats [b, h, w].
        count: long [B] in [0, h * w]; either of b and B may be 1, and is then used for all.

    Returns:
        bool [max(b, B), h, w] with exactly count[i] True in row i.

    >>> top_cells(torch.tensor([[[3.0, 1.0], [2.0, 4.0]]]), torch.tensor([2])).long()
    tensor([[[1, 0],
             [0, 1]]])
    """
    order = scores.flatten(1).argsort(dim=-1, descending=True, stable=True)
    chosen = torch.arange(order.shape[1], device=order.device) < count[:, None]
    order, chosen = torch.broadcast_tensors(order, chosen)
    return torch.zeros_like(chosen).scatter(1, order, chosen).unflatten(1, scores.shape[1:])


def keep_highest(field: Tensor, share: Tensor) -> Tensor:
    """Mark the highest values of each field, exactly round(share * N) of its N.

    Args:
        field: [b, H, W].
        share: in [0, 1], [B]; either of b and B may be 1, and is then used for all.

    Returns:
        bool tensor [max(b, B), H, W]. Of values that are equal at the threshold the first in reading order are taken.

    >>> keep_highest(torch.tensor([[[0.1, 0.4], [0.3, 0.2]]]), torch.tensor([0.5, 1.0])).long()
    tensor([[[0, 1],
             [1, 0]],
    <BLANKLINE>
            [[1, 1],
             [1, 1]]])
    """
    values, count = field.flatten(1), (share.double() * field[0].numel()).round().long()
    size = values.shape[1]
    if len(values) != len(count):
        values, count = values.expand(max(len(values), len(count)), -1), count.expand(max(len(values), len(count)))
    # The least kept value is the (size + 1 - count)-th from below; behind `count` more, the same one for all rows.
    below = torch.arange(size, device=values.device) < count[:, None].to(values.device)
    filled = torch.where(below, -torch.inf, torch.inf).to(values.dtype)
    least = torch.cat([values, filled], 1).kthvalue(size + 1, dim=-1, keepdim=True).values
    kept, above = values >= least, values > least
    spare = count.to(values.device)[:, None] - above.sum(-1, keepdim=True)  # room for those that equal the least
    equal = kept ^ above
    if bool((equal.sum(-1, keepdim=True) > spare).any()):
        kept = above | (equal & (equal.cumsum(-1) <= spare))
    return kept.unflatten(1, field.shape[1:])


def enlarge_cells(cells: Tensor, height: int, width: int) -> Tensor:
    """Spread a grid of cells [b, g, g] over an image: each pixel takes the value of its cell.

    Sides that g does not divide give cells that differ by one pixel.

    Raises:
        ValueError: the image has fewer pixels than cells in one of its sides.

    >>> enlarge_cells(torch.tensor([[[1, 2], [3, 4]]]), 2, 5)
    tensor([[[1, 1, 1, 2, 2],
             [3, 3, 3, 4, 4]]])
    """
    down, across = cells.shape[-2:]
    if down > height or across > width:
        raise ValueError(
            f"a grid of {down} x {across} cells is finer than the image of {height} x {width} pixels: set a smaller one"
        )
    row = torch.arange(height, device=cells.device) * down // height
    column = torch.arange(width, device=cells.device) * across // width
    return cells.index_select(-1, column).index_select(-2, row)  # the small one first: whole rows are copied then


def mask_lam(mask: Tensor) -> Tensor:
    """The share of an image that stays its own: float32 [b] for bool [b, H, W].

    >>> mask_lam(torch.tensor([[[True, False], [False, False]]]))
    tensor([0.2500])
    """
    return (mask.flatten(1).sum(1).double() / mask[0].numel()).float()


def inside_bands(spots: Tensor, count: Tensor, width: Tensor, length: int, apart: bool = False) -> Tensor:
    """Mark bands along an axis, all of one width.

    Source: Kim et al. 2021, "SpecMix", https://arxiv.org/abs/2108.03020, section 2.2.

    Args:
        spots: start of each band as a share of the possible starts, [b, n] in [0, 1).
        count: how many of the n are used, long [b].
        width: of a band, as a share of the axis, [b]; with `apart` at most 1 / count.
        length: of the axis; the ends of bands are rounded to its positions.
        apart: whether bands do not overlap, so that they cover count * width.

    Returns:
        bool [b, length].

    >>> spots, width = torch.tensor([[0.9, 0.0, 0.5]]), torch.tensor([0.25])
    >>> inside_bands(spots, torch.tensor([2]), width, 8).long()
    tensor([[1, 1, 0, 0, 0, 1, 1, 0]])
    """
    number = torch.arange(spots.shape[1])
    used, width = number < count[:, None], width.double()[:, None]
    spots = spots.double().where(used, 1.0).sort(-1).values
    free = 1 - width * (count[:, None] if apart else 1)
    start = spots * free + (number * width if apart else 0)
    # What is added keeps a band's end and the next one's start, a third and two thirds, from rounding apart.
    first, behind = ((edge * length + 0.5 + 1e-9).floor()[..., None] for edge in (start, start + width))
    position = torch.arange(length)
    return ((position >= first) & (position < behind) & used[..., None]).any(1)


def swap_columns(x: Tensor, partner: Tensor, own: Tensor) -> Tensor:
    """Take each column from the row itself or from its partner.

    Args:
        x: tensor [B, K] of any dtype.
        partner: long [B].
        own: which columns stay the row's own, bool [B, K].

    Raises:
        ValueError: for other shapes.

    >>> own = torch.tensor([[True, False], [False, False]])
    >>> swap_columns(torch.tensor([[1, 2], [3, 4]]), torch.tensor([1, 0]), own)
    tensor([[1, 4],
            [1, 2]])
    """
    check_partner(x, partner)
    if own.shape != x.shape or own.dtype != torch.bool:
        raise ValueError(f"own must be bool {list(x.shape)}, got {own.dtype} {list(own.shape)}")
    return torch.where(own.to(x.device), x, x.index_select(0, partner.to(x.device)))


def seen_lam(kept: Tensor, seen: Tensor, partner: Tensor) -> Tensor:
    """The share of a sample's own content in what is seen of it and of its partner.

    Args:
        kept: where a sample stays its own, bool [1 or B, ...].
        seen: where samples have content, no padding, bool [B, ...], in a shape that goes with `kept`.
        partner: long [B], on their device.

    Returns:
        float32 [B]; NaN where nothing is seen of either.

    >>> kept, seen = torch.tensor([[True, True, False, False]]), torch.tensor([[True, False, False, False], [True] * 4])
    >>> seen_lam(kept, seen, torch.tensor([1, 0]))
    tensor([0.3333, 1.0000])
    """
    own = (kept & seen).flatten(1).sum(1, dtype=torch.float64)
    other = (~kept & seen.index_select(0, partner)).flatten(1).sum(1, dtype=torch.float64)
    return (own / (own + other)).float()


def paste(x: Tensor, partner: Tensor, mask: Tensor, inplace: bool = False) -> Tensor:
    """Keep the sample's own pixels where the mask is True, and take the partner's elsewhere.

    Args:
        x: tensor [B, C, H, W], or any [B, ..., H, W], of any dtype.
        partner: long tensor [B] with values in [0, B). Any map, not only a permutation.
        mask: bool [B, H, W], or [1, H, W] for the whole batch.
        inplace: overwrite x. Not differentiable.

    Returns:
        Tensor like x (x itself if ``inplace``), in the same memory format.

    Raises:
        ValueError: ``x``, ``partner`` or ``mask`` has the wrong shape or dtype.
        IndexError: a partner is negative or not less than B.
        RuntimeError: ``inplace`` on a tensor that requires grad.

    >>> x = torch.stack([torch.zeros(1, 3), torch.ones(1, 3)])
    >>> paste(x, torch.tensor([1, 0]), torch.tensor([[[True, True, False]]]))
    tensor([[[0., 0., 1.]],
    <BLANKLINE>
            [[1., 1., 0.]]])
    """
    check_partner(x, partner)
    check_images(x, "paste")
    size = tuple(x.shape[-2:])
    if mask.dtype != torch.bool or mask.shape not in ((1, *size), (len(x), *size)):
        raise ValueError(
            f"mask must be bool of shape [1, {size[0]}, {size[1]}] or [{len(x)}, {size[0]}, {size[1]}], "
            f"got {mask.dtype} of shape {list(mask.shape)}"
        )
    if inplace:
        check_inplace(x)
    own = mask.to(x.device).reshape(len(mask), *[1] * (x.ndim - 3), *size)
    other = x.index_select(0, partner.to(x.device))
    if torch.compiler.is_compiling() or needs_graph(x) or other.stride() != x.stride():
        mixed = torch.where(own, x, other)
        return x.copy_(mixed) if inplace else mixed
    return torch.where(own, x, other, out=x if inplace else other)
