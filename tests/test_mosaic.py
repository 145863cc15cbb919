"""Mosaic: the kernel against a loop over pixels, its labels and loss against the same by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from hf_mixup.functional.mosaic import _mosaic_formula, mosaic, quadrant_shares, quadrants


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(rows: int, height: int, width: int, one: bool, shifted: bool, seed: int = 0) -> tuple[Tensor, ...]:
    """Partners, centres (some on an edge) and shifts that stay inside."""
    g, shape = rng(seed), () if one else (rows,)
    partners = torch.randint(rows, (rows, 3), generator=g)
    center = torch.stack([torch.randint(n + 1, shape, generator=g) for n in (height, width)], -1)
    sides = quadrants(center, height, width)
    room_before, size = sides[..., :2], torch.tensor([height, width])
    spot = torch.rand(*shape, 4, 2, generator=g)
    free = size - (sides[..., 2:] - sides[..., :2])
    shift = (spot * (free + 1)).long() - room_before if shifted else torch.zeros(*shape, 4, 2, dtype=torch.long)
    return partners, center, shift


def loop_mosaic(x: Tensor, partners: Tensor, center: Tensor, shift: Tensor) -> Tensor:
    out, rows = torch.full_like(x, 77), len(x)
    center, shift = center.expand(rows, 2), shift.expand(rows, 4, 2)
    for row, i, j in itertools.product(range(rows), range(x.shape[-2]), range(x.shape[-1])):
        corner = 2 * (i >= int(center[row, 0])) + (j >= int(center[row, 1]))
        source = row if corner == 0 else int(partners[row, corner - 1])
        down, across = shift[row, corner].tolist()
        out[row, ..., i, j] = x[source, ..., i + down, j + across]
    return out


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("shape", [(5, 3, 7, 9), (1, 2, 4, 4), (4, 6, 5), (3, 2, 2, 5, 4), (2, 1, 1, 1)])
def test_mosaic_is_a_loop_over_pixels(shape: tuple[int, ...], shifted: bool, one: bool) -> None:
    rows, (height, width) = shape[0], shape[-2:]
    for seed in range(6):
        x = torch.randn(shape, generator=rng(seed))
        x = x.contiguous(memory_format=torch.channels_last) if seed % 2 and len(shape) == 4 else x
        partners, center, shift = drawn(rows, height, width, one, shifted, seed)
        expected, before = loop_mosaic(x, partners, center, shift), x.clone()
        found = mosaic(x, partners, center, shift)
        formula = _mosaic_formula(x, partners, center.reshape(-1, 2), shift.reshape(-1, 4, 2))
        assert torch.equal(found, expected)
        assert torch.equal(formula, expected)
        assert found.stride() == formula.stride() == x.stride()
        assert torch.equal(x, before)
        if not shifted:
            assert torch.equal(mosaic(x, partners, center), expected)


def test_mosaic_ends_dtypes_and_gradient() -> None:
    x, partners = torch.randn(4, 3, 6, 5, generator=rng()), torch.tensor([[1, 2, 3], [2, 3, 0], [3, 0, 1], [0, 1, 2]])
    assert torch.equal(mosaic(x, partners, torch.tensor([6, 5])), x)
    assert torch.equal(mosaic(x, partners, torch.tensor([0, 0])), x[partners[:, 2]])
    assert torch.equal(mosaic(x, partners, torch.tensor([0, 5])), x[partners[:, 1]])
    for dtype in (torch.uint8, torch.bfloat16, torch.bool):
        y = (x * 9).to(dtype)
        assert torch.equal(mosaic(y, partners, torch.tensor([2, 3])), loop_mosaic(y, partners, torch.tensor([2, 3]),
                           torch.zeros(4, 2, dtype=torch.long)))  # fmt: skip
    centers = torch.tensor([[1, 2], [0, 4], [6, 5], [3, 3]])
    small = torch.randn(4, 1, 6, 5, dtype=torch.float64, generator=rng()).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: mosaic(value, partners, centers), small)


def test_shares_are_areas() -> None:
    partners, centers, shift = drawn(40, 7, 9, False, False)
    shares = quadrant_shares(centers, 7, 9)
    counted = loop_mosaic(torch.zeros(40, 7, 9), partners, centers, shift)  # the picture is of no matter, its size is
    assert counted.shape[1:] == (7, 9)
    for row, (y, x) in enumerate(centers.tolist()):
        areas = [y * x, y * (9 - x), (7 - y) * x, (7 - y) * (9 - x)]
        assert shares[row].tolist() == pytest.approx([area / 63 for area in areas])
    torch.testing.assert_close(shares.sum(-1), torch.ones(40))


def test_bad_input_of_the_kernel_is_named() -> None:
    x, partners, center = torch.zeros(2, 3, 4, 5), torch.tensor([[1, 0, 1], [0, 1, 0]]), torch.tensor([1, 2])
    for bad, message in [
        ((x[:, 0, 0], partners, center), r"\[B, ..., H, W\], got \[2, 5\]"),
        ((x, partners[:, :2], center), r"shape \[2, 3\], got torch.int64 of shape \[2, 2\]"),
        ((x, partners.int(), center), "torch.int32"),
        ((x, partners, center.expand(3, 2)), r"center must have shape \[2\] or \[2, 2\], got \[3, 2\]"),
        ((x, partners, torch.tensor([5, 2])), "center lies outside the picture of 4 x 5"),
        ((x, partners, center, torch.zeros(3, 2)), r"shift must have shape \[4, 2\] or \[2, 4, 2\]"),
        ((x, partners, center, torch.full((4, 2), 9)), "shift leads out of the picture of 4 x 5"),
    ]:
        with pytest.raises(ValueError, match=message):
            mosaic(*bad)
    with pytest.raises(IndexError):
        mosaic(x, partners + 1, center)
    with pytest.raises(IndexError):
        mosaic(x, partners - 1, center.expand(2, 2))
