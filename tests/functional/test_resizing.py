"""Pasting resized images: the kernel against torch's antialiased interpolation in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_mixup.functional.masks import enlarge_cells, paste
from hf_mixup.functional.resizing import boxes_inside, paste_resized
from tests.methods.images import DTYPES, loop_paste_resized, randn, rng


def random_boxes(rows: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Boxes of any shape inside the image, some of them empty, one of them all of it."""
    ends = [torch.randint(n + 1, (rows, 2), generator=rng(seed + n)).sort(-1).values for n in (height, width)]
    boxes = torch.stack([ends[0][:, 0], ends[1][:, 0], ends[0][:, 1], ends[1][:, 1]], -1)
    boxes[0], boxes[-1] = torch.tensor([0, 0, height, width]), torch.tensor([1, 0, 1, width])
    return boxes


@pytest.mark.parametrize("shape", [(5, 3, 12, 9), (1, 2, 7, 7), (4, 6, 5), (3, 2, 2, 5, 8), (4, 3, 1, 1)])
@pytest.mark.parametrize("one", [False, True])
def test_paste_resized_is_interpolate_with_antialiasing(shape: tuple[int, ...], one: bool) -> None:
    rows, (height, width) = shape[0], shape[-2:]
    for seed in range(4):
        x = randn(*shape, dtype=torch.float64, seed=seed)
        partner = torch.randint(rows, (rows,), generator=rng(seed))
        boxes = random_boxes(rows, height, width, seed)
        boxes = boxes[seed % rows] if one else boxes
        expected, before = loop_paste_resized(x, partner, boxes), x.clone()
        torch.testing.assert_close(paste_resized(x, partner, boxes), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(x, before, rtol=0, atol=0)
        assert paste_resized(x, partner, boxes, inplace=True) is x
        torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_paste_resized_rounds_once(dtype: torch.dtype) -> None:
    x, partner = randn(6, 3, 12, 9, dtype=dtype), torch.tensor([1, 2, 3, 4, 5, 0])
    boxes = random_boxes(6, 12, 9)
    mixed = paste_resized(x, partner, boxes)
    assert mixed.dtype == dtype
    torch.testing.assert_close(mixed.double(), loop_paste_resized(x, partner, boxes), rtol=torch.finfo(dtype).eps,
                               atol=1e-14 if dtype == torch.float64 else 1e-6)  # fmt: skip
    assert torch.equal(mixed[0], x[1])  # the box is the whole image
    assert torch.equal(mixed[-1], x[-1])  # the box is empty


def test_paste_resized_is_as_precise_under_autocast() -> None:
    x, partner, boxes = randn(6, 3, 12, 9), torch.arange(6).roll(1), random_boxes(6, 12, 9)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = paste_resized(x, partner, boxes)
    assert torch.equal(mixed, paste_resized(x, partner, boxes))


@pytest.mark.parametrize("kernel", ["boxes", "box", "masks", "mask"])
def test_kernels_keep_the_memory_format_and_pass_gradients(kernel: str) -> None:
    partner, boxes, masks = torch.tensor([1, 0, 1]), random_boxes(3, 6, 5, 3), randn(3, 6, 5) > 0

    def run(x: Tensor) -> Tensor:
        if kernel.startswith("box"):
            return paste_resized(x, partner, boxes if kernel == "boxes" else torch.tensor([1, 1, 4, 3]))
        return paste(x, partner, masks if kernel == "masks" else masks[:1])

    x = randn(3, 2, 6, 5, dtype=torch.float64)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert run(x.contiguous(memory_format=layout)).is_contiguous(memory_format=layout)
    assert torch.autograd.gradcheck(run, x.clone().requires_grad_())


def test_bad_input_of_the_kernels_is_named() -> None:
    x, partner, box = randn(2, 3, 4, 4), torch.tensor([1, 0]), torch.tensor([0, 0, 2, 2])
    with pytest.raises(TypeError, match="int64"):
        paste_resized(x.long(), partner, box)
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        paste_resized(x[:, :, 0, 0], partner, box)
    with pytest.raises(ValueError, match=r"boxes must have shape \[4\] or \[2, 4\], got \[3, 4\]"):
        paste_resized(x, partner, box.expand(3, 4))
    with pytest.raises(ValueError, match=r"lam must lie in \[0, 1\]"):
        boxes_inside(torch.zeros(2), 4, 4, 1.5)
    with pytest.raises(ValueError, match=r"\[1, 4, 4\] or \[2, 4, 4\], got torch.bool of shape \[2, 4, 3\]"):
        paste(x, partner, torch.ones(2, 4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="got torch"):
        paste(x, partner, torch.ones(2, 4, 4))
    with pytest.raises(ValueError, match="5 x 5 cells is finer than the image of 4 x 9"):
        enlarge_cells(torch.zeros(1, 5, 5), 4, 9)
    for kernel, where in ((paste, torch.ones(2, 4, 4, dtype=torch.bool)), (paste_resized, box)):
        with pytest.raises(RuntimeError, match="requires grad"):
            kernel(x.clone().requires_grad_(), partner, where, inplace=True)  # type: ignore[operator]
        with pytest.raises(ValueError, match="partner"):
            kernel(x, partner[:1], where)  # type: ignore[operator]


@pytest.mark.parametrize(("height", "width"), [(12, 7), (5, 5), (1, 9)])
def test_boxes_lie_round_their_spots_and_are_pushed_inside(height: int, width: int) -> None:
    rows = 400
    spot, lam = torch.rand(rows, 2, generator=rng(), dtype=torch.float64), torch.rand(rows, generator=rng(1))
    lam[0], lam[1] = 0.0, 1.0
    boxes = boxes_inside(spot, height, width, lam)
    assert boxes[:2].tolist() == [[0, 0, height, width], [0, 0, 0, 0]]
    for row in range(2, rows):
        expected = []
        for axis, length in enumerate((height, width)):
            side = max(1, int((1 - float(lam[row])) ** 0.5 * length))
            # The authors' rule: the box begins half its side before the middle, ends a side behind it, and is clipped.
            start = min(max(int(float(spot[row, axis]) * length) - side // 2, 0), length)
            behind = min(max(start + side, 0), length)
            expected.append((min(max(behind - side, 0), length), behind))
        (top, bottom), (left, right) = expected
        assert boxes[row].tolist() == [top, left, bottom, right]


def test_sides_of_boxes_are_whole_pixels() -> None:
    for share in range(1, 101):  # lam in float32 must not cost a pixel
        boxes = boxes_inside(torch.zeros(1, 2), 100, 200, 1 - torch.tensor([share / 100], dtype=torch.float32) ** 2)
        assert boxes.tolist() == [[0, 0, share, 2 * share]]
    assert boxes_inside(torch.zeros(2), 4, 100, 0.99).tolist() == [
        0,
        0,
        1,
        10,
    ]  # not empty
