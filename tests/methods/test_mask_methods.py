"""ResizeMix, FMix and GridMix: kernels against loops in float64, draws, and the methods through the engine."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig
from hf_mixup.functional import box_lam
from hf_mixup.functional.masks import enlarge_cells, keep_highest, low_frequency_noise, mask_lam, paste
from hf_mixup.functional.resizing import boxes_inside, paste_resized
from hf_mixup.methods import METHODS
from hf_mixup.methods.base import BoxDraw, Draw, MaskDraw, Request
from tests.conftest import batch_of, build

NEW = ["resizemix", "fmix", "gridmix"]
MASKED = ["fmix", "gridmix"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=rng(seed)).to(dtype)


def random_boxes(rows: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Boxes of any shape inside the image, some of them empty, one of them all of it."""
    ends = [torch.randint(n + 1, (rows, 2), generator=rng(seed + n)).sort(-1).values for n in (height, width)]
    boxes = torch.stack([ends[0][:, 0], ends[1][:, 0], ends[0][:, 1], ends[1][:, 1]], -1)
    boxes[0], boxes[-1] = torch.tensor([0, 0, height, width]), torch.tensor([1, 0, 1, width])
    return boxes


def resize_along(length: int, side: int) -> Tensor:
    """What torch's antialiased resizing of `length` pixels to `side` takes from each of them, [side, length].

    One direction at a time: torch 2.14 resizes both wrongly on the CPU where the result is one pixel wide.
    """
    return F.interpolate(
        torch.eye(length, dtype=torch.float64)[None, None], (side, length), mode="bilinear", antialias=True
    )[0, 0]


def loop_paste_resized(x: Tensor, partner: Tensor, boxes: Tensor) -> Tensor:
    out, (height, width) = x.double().clone(), x.shape[-2:]
    for row, (top, left, bottom, right) in enumerate(boxes.expand(len(x), 4).tolist()):
        if bottom > top and right > left:
            down, across = resize_along(height, bottom - top), resize_along(width, right - left)
            out[row, ..., top:bottom, left:right] = down @ x[partner[row]].double() @ across.T
    return out


def draw(method: str, rows: int = 6, size: tuple[int, int] = (12, 9), seed: int = 0, **settings: Any) -> Any:
    """Draw for random images; `partner`, `lam` as a tensor and `prob` go to the request."""
    partner, lam = settings.pop("partner", None), settings.pop("dictated", None)
    config = MixupConfig(method=method, **settings)
    batch, labels = {"pixel_values": randn(rows, 3, *size)}, torch.arange(rows)
    request = Request(torch.nn.Identity(), batch, labels, config.prob, rng(seed), partner, lam)
    return config.mixing.draw(request)


def own_masks(record: Draw, height: int, width: int) -> Tensor:
    """Which pixels stay the row's own, bool [B, H, W], whether they are drawn as boxes or as masks."""
    rows = len(record.lam)
    if isinstance(record, MaskDraw):
        return record.mask.expand(rows, height, width)
    assert isinstance(record, BoxDraw)
    masks = torch.ones(rows, height, width, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, record.boxes.expand(rows, 4).tolist(), strict=True):
        mask[top:bottom, left:right] = False
    return masks


# --- the kernel of ResizeMix -----------------------------------------------------------------------------------------


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


# --- ResizeMix -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("box_sides", "low", "high"), [(None, 0.1, 0.8), ([0.3, 0.5], 0.3, 0.5)])
def test_resizemix_draws_uniform_sides(box_sides: list[float] | None, low: float, high: float) -> None:
    record = draw("resizemix", 3000, (200, 400), lam_per="sample", box_sides=box_sides, pairing="roll")
    top, left, bottom, right = record.boxes.unbind(-1)
    tall, wide = (bottom - top).double() / 200, (right - left).double() / 400
    assert (tall - wide).abs().max() <= 1 / 200 + 1e-9  # of the image's own shape, but for parts of pixels
    assert stats.kstest(wide.numpy() + 0.5 / 400, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert torch.equal(record.lam, box_lam(record.boxes, 200, 400))


def test_boxes_of_resizemix_touch_an_edge_as_often_as_the_authors_do() -> None:
    """One size a batch, a place for each row: 45 of 100 boxes touch an edge along either axis."""
    generator, theirs, ours = np.random.default_rng(0), [], []
    for seed in range(400):
        size = (64, 48)
        rate = generator.uniform(0.1, 0.8)
        for length in size:
            side = int(length * rate)
            start = np.clip(generator.integers(0, length, 16) - side // 2, 0, length)
            start = np.clip(start + side, 0, length) - side
            theirs.append((start == 0) | (start + side == length))
        boxes = draw("resizemix", 16, size, seed=seed).boxes
        assert len({(bottom - top, right - left) for top, left, bottom, right in boxes.tolist()}) == 1
        ours += [((boxes[:, axis] == 0) | (boxes[:, axis + 2] == size[axis])).numpy() for axis in (0, 1)]
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.02
    assert 0.42 < np.mean(ours) < 0.50


def test_places_of_resizemix_are_shared_by_pairs_alone() -> None:
    for lam_per, shared in (("batch", False), ("sample", False), ("pair", True)):
        record = draw("resizemix", 8, (90, 90), lam_per=lam_per, lam=0.75, pairing="match")
            assert torch.equal(record.boxes, record.boxes[record.partner]) == shared
        assert len(record.boxes.unique(dim=0)) == (4 if shared else 8)


def test_resizemix_takes_lam_from_the_caller_and_the_config() -> None:
    given = torch.tensor([1.0, 0.75, 0.0, 0.36])
    boxes = draw("resizemix", 4, (20, 10), dictated=given, partner=torch.tensor([1, 2, 3, 0])).boxes
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.tolist() == [[0, 0], [10, 5], [20, 10], [16, 8]]
    fixed = draw("resizemix", 4, (20, 10), lam=0.75)
    assert fixed.lam.tolist() == [0.75] * 4
    assert fixed.boxes.shape == (4, 4)
    rounded = {exact: draw("resizemix", 4, (5, 5), lam=0.75, correct_lam=exact).lam[0] for exact in (True, False)}
    assert rounded == {True: box_lam(torch.tensor([0, 0, 2, 2]), 5, 5), False: 0.75}


# --- the kernels of the masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (10, 7), (1, 5), (9, 1)])
@pytest.mark.parametrize("decay", [0.0, 3.0])
def test_low_frequency_noise_is_the_sum_of_its_waves(height: int, width: int, decay: float) -> None:
    field = low_frequency_noise(2, height, width, decay, rng(1))
    columns = width // 2 + 1
    noise = torch.randn(2, height, columns, 2, generator=rng(1)).double().numpy()
    noise = noise[..., 0] + 1j * noise[..., 1]
    expected = np.zeros((2, height, width))
    y, x = np.mgrid[:height, :width]
    for j, k in itertools.product(range(height), range(columns)):
        down = (j if 2 * j < height else j - height) / height
        amplitude = max(np.hypot(down, k / width), 1 / max(height, width)) ** -decay
        wave = np.exp(2j * np.pi * (down * y + k / width * x))
        both = 1 if k == 0 or 2 * k == width else 2  # the other half of the spectrum is its mirror image
        if both == 2:
            expected += 2 * (noise[:, j, k, None, None] * amplitude * wave).real
        else:  # of these columns only the part that a real image can have counts
            mirrored = noise[:, (height - j) % height, k].conj()
            expected += ((noise[:, j, k] + mirrored)[:, None, None] / 2 * amplitude * wave).real
    expected /= height * width
    np.testing.assert_allclose(field.numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_larger_decay_is_smoother() -> None:
    def roughness(decay: float) -> float:
        field = low_frequency_noise(8, 32, 32, decay, rng())
        return float(field.diff(dim=-1).std() / field.std())

    assert roughness(3.0) < 0.35 < roughness(1.0) < roughness(0.0)


@pytest.mark.parametrize("values", ["distinct", "equal"])
def test_keep_highest_counts_exactly(values: str) -> None:
    field = randn(5, 7, 3) if values == "distinct" else torch.randint(3, (5, 7, 3), generator=rng()).float()
    for share in (torch.rand(5, generator=rng(2)), torch.tensor([0.0, 1.0, 0.5, 1 / 21, 0.99]), torch.tensor([0.3])):
        mask = keep_highest(field, share)
        for row in range(5):
            own, kept = float(share.expand(5)[row]), mask[row]
            assert int(kept.sum()) == round(own * 21)
            if 0 < int(kept.sum()) < 21:
                assert field[row][kept].min() >= field[row][~kept].max()
    assert keep_highest(field[:1], torch.tensor([0.0, 0.4, 1.0])).sum((1, 2)).tolist() == [0, 8, 21]


@pytest.mark.parametrize(("height", "width", "grid"), [(8, 8, 4), (7, 10, 3), (5, 9, 5), (4, 6, 1)])
def test_enlarged_cells_share_the_image_evenly(height: int, width: int, grid: int) -> None:
    numbers = enlarge_cells(torch.arange(grid * grid).reshape(1, grid, grid), height, width)[0]
    for i, j in itertools.product(range(height), range(width)):
        assert numbers[i, j] == (i * grid // height) * grid + j * grid // width
    tall, wide = numbers[:, 0].unique(return_counts=True)[1], numbers[0].unique(return_counts=True)[1]
    assert len(tall) == len(wide) == grid
    assert tall.max() - tall.min() <= 1
    assert wide.max() - wide.min() <= 1


@pytest.mark.parametrize("dtype", [*DTYPES, torch.uint8])
def test_paste_is_a_loop_over_pixels(dtype: torch.dtype) -> None:
    x = (randn(5, 3, 6, 4) * 50).to(dtype)
    partner, masks = torch.tensor([1, 0, 0, 4, 4]), randn(5, 6, 4, seed=2) > 0
    for mask in (masks, masks[:1]):
        expected = x.clone()
        for row, i, j in itertools.product(range(5), range(6), range(4)):
            if not mask[row if len(mask) > 1 else 0, i, j]:
                expected[row, :, i, j] = x[partner[row], :, i, j]
        assert torch.equal(paste(x, partner, mask), expected)
        copy = x.clone()
        assert paste(copy, partner, mask, inplace=True) is copy
        assert torch.equal(copy, expected)


# --- FMix and GridMix ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
@pytest.mark.parametrize("size", [(12, 9), (7, 7), (4, 16)])
def test_fmix_keeps_the_share_that_was_drawn(lam_per: str, size: tuple[int, int]) -> None:
    pixels, seen = size[0] * size[1], set()
    for seed in range(10):
        record, asked = (draw("fmix", 7, size, seed, lam_per=lam_per, correct_lam=exact) for exact in (True, False))
                assert torch.equal(record.mask, asked.mask)
        expected = (asked.lam.double() * pixels).round() / pixels
        assert torch.equal(record.lam, expected.float())
        assert torch.equal(record.lam, mask_lam(record.mask).expand(7))
        seen.add(record.mask.shape[0])
    assert seen == ({1} if lam_per == "batch" else {7})


def test_gridmix_draws_every_cell_as_often() -> None:
    record = draw("gridmix", 4000, (8, 8), lam_per="sample", lam=0.5, pairing="roll")
    cells = record.mask[:, ::2, ::2]
    assert torch.equal(record.mask, cells.repeat_interleave(2, 1).repeat_interleave(2, 2))  # 4 x 4 cells of 2 x 2
    assert (cells.sum((1, 2)) == 8).all()
    assert (record.lam == 0.5).all()
    often = cells.float().mean(0)
    assert (often - 0.5).abs().max() < 4 * 0.5 / 4000**0.5
    both = (cells[:, 0, 0] & cells[:, 2, 1]).float().mean()
    assert abs(both - 8 / 16 * 7 / 15) < 0.03  # without replacement, and else independent


@pytest.mark.parametrize(("height", "width", "grid"), [(9, 14, 4), (7, 7, 7), (10, 10, 3), (5, 5, 1)])
def test_gridmix_lam_is_the_share_of_pixels(height: int, width: int, grid: int) -> None:
    record = draw("gridmix", 9, (height, width), lam_per="sample", grid=grid)
    for row in range(9):
        own = sum(bool(record.mask[row, i, j]) for i in range(height) for j in range(width))
        assert record.lam[row] == torch.tensor(own / (height * width), dtype=torch.float32)
        runs = record.mask[row].int()
        assert (runs.diff(dim=0) != 0).any(1).sum() <= grid - 1
        assert (runs.diff(dim=1) != 0).any(0).sum() <= grid - 1


@pytest.mark.parametrize(("height", "width", "patch"), [(16, 16, 8), (13, 20, 4), (12, 9, (4, 3)), (8, 8, 8)])
def test_patchmix_takes_whole_patches(height: int, width: int, patch: Any) -> None:
    model = torch.nn.Identity()
    model.config = SimpleNamespace(patch_size=patch)
    down, across = patch if isinstance(patch, tuple) else (patch, patch)
    cells = (height // down) * (width // across)
    batch, given, seen = {"pixel_values": randn(9, 3, height, width)}, torch.rand(9, generator=rng(5)), set()
    mixing = MixupConfig(method="patchmix", lam_per="sample").mixing
    record = mixing.draw(Request(model, batch, torch.arange(9), 1.0, rng(), lam=given))
    for row in range(9):
        kept = {}
        for i, j in itertools.product(range(height), range(width)):
            cell = (min(i // down, height // down - 1), min(j // across, width // across - 1))
            assert kept.setdefault(cell, bool(record.mask[row, i, j])) == bool(record.mask[row, i, j])
        assert sum(kept.values()) == round(float(given[row]) * cells)
        assert record.lam[row] == record.mask[row].double().mean().float()
        seen.add(tuple(sorted(cell for cell in kept if kept[cell])))
    assert len(seen) > 4 or cells == 1
    with pytest.raises(ValueError, match=r"Identity tells no patch_size.*use 'gridmix'"):
        mixing.draw(Request(torch.nn.Identity(), batch, torch.arange(9), 1.0, rng()))
    with pytest.raises(ValueError, match="2 x 9 pixels hold no patch"):
        mixing.draw(Request(model, {"pixel_values": randn(2, 3, 2, 9)}, torch.arange(2), 1.0, rng()))


# --- all three -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", NEW)
@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
@pytest.mark.parametrize("rows", [1, 2, 5, 6])
def test_the_coin_leaves_rows_alone_and_lam_is_true(method: str, lam_per: Any, rows: int) -> None:
    mixed = 0
    for seed in range(12):
        record = draw(method, rows, (12, 9), seed, lam_per=lam_per, prob=0.5, prob_per="sample", lam=0.5)
        own = own_masks(record, 12, 9)
        assert torch.equal(record.lam, own.flatten(1).double().mean(1).float())
        mixed += int((record.lam < 1).sum())
        if lam_per == "batch":  # those that are mixed are mixed alike
            alike = own.flatten(1).sum(1, keepdim=True) if method == "resizemix" else own  # its places differ
            assert len({tuple(m.flatten().tolist()) for m in alike[record.lam < 1]}) <= 1
    # Independent tosses: also the second row of a pair, whose draw is the first's, is mixed half of the time.
    assert abs(mixed - 6 * rows) <= 4 * (3 * rows) ** 0.5


@pytest.mark.parametrize("method", NEW)
def test_every_row_may_be_given_its_own_lam(method: str) -> None:
    given = torch.tensor([1.0, 0.75, 0.5, 0.0, 0.25])
    record = draw(method, 5, (16, 16), dictated=given)
    share = own_masks(record, 16, 16).flatten(1).double().mean(1).float()
    # The sides of a box are whole pixels: what is over of either is lost.
    torch.testing.assert_close(share, given, rtol=0, atol=2 / 16 if method == "resizemix" else 0.03)
    assert torch.equal(record.lam, share)
    assert share[0] == 1
    assert share[3] == 0


@pytest.mark.parametrize("method", NEW)
def test_lam_is_left_as_drawn_without_the_correction(method: str) -> None:
    left, true = (draw(method, lam=0.3, correct_lam=exact).lam for exact in (False, True))
    assert (left == torch.tensor(0.3)).all()
    assert (true != left).all()
    torch.testing.assert_close(true, left, rtol=0, atol=2 / 9 if method == "resizemix" else 0.05)


@pytest.mark.parametrize("method", NEW)
def test_a_pair_exchanges_one_region_and_rows_draw_their_own(method: str) -> None:
    pairs = draw(method, 6, (200, 150), lam_per="pair", lam=0.9)
    own, partner = own_masks(pairs, 200, 150), pairs.partner
    assert torch.equal(own, own[partner])
    assert torch.equal(pairs.lam, pairs.lam[partner])
    for record in (pairs, draw(method, 6, (200, 150), lam_per="sample", lam=0.9)):
        different = {tuple(mask.flatten().tolist()) for mask in own_masks(record, 200, 150)}
        assert len(different) == (3 if record is pairs else 6)


@pytest.mark.parametrize("method", NEW)
def test_draws_use_the_generator_alone(method: str) -> None:
    first = draw(method, lam_per="sample")
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    again, other = draw(method, lam_per="sample"), draw(method, lam_per="sample", seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(own_masks(first, 12, 9), own_masks(again, 12, 9))
    assert torch.equal(first.lam, again.lam)
    assert not torch.equal(own_masks(first, 12, 9), own_masks(other, 12, 9))


@pytest.mark.parametrize("method", NEW)
@pytest.mark.parametrize("name", ["resnet", "vit"])
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_through_the_engine(method: str, name: str, lam_per: Any, dtype: torch.dtype) -> None:
    model, batch = build(name).to(dtype), batch_of(name, rows=5)
    batch["pixel_values"] = batch["pixel_values"].to(dtype, memory_format=torch.channels_last)
    before = batch["pixel_values"].clone()
    with Mixup(MixupConfig(method=method, lam_per=lam_per))(model, batch) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.equal(batch["pixel_values"], before)
    pixels, own = mixed.inputs["pixel_values"], own_masks(mixed.draw, 16, 16)
    assert pixels.dtype == dtype
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(mixed.lam, own.flatten(1).float().mean(1))
    expected = loop_paste_resized(before, mixed.partner, mixed.draw.boxes) if method == "resizemix" else (
        torch.where(own[:, None], before, before[mixed.partner]).double()
    )  # fmt: skip
    torch.testing.assert_close(pixels.double(), expected, rtol=2e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
    assert torch.equal(pixels.where(own[:, None], 0), before.where(own[:, None], 0))


@pytest.mark.parametrize("method", NEW)
def test_the_ends_of_lam(method: str) -> None:
    model, batch = build("resnet").eval(), batch_of("resnet")
    partner, own = torch.tensor([3, 4, 5, 0, 2, 1]), torch.arange(6)
    pixels = batch["pixel_values"]
    mixup = Mixup(MixupConfig(method=method))
    for lam, expected in ((1.0, pixels), (0.0, pixels[partner])):
        with mixup(model, batch, partner=partner, lam=lam) as mixed:
            assert torch.equal(mixed.inputs["pixel_values"], expected)
            assert (mixed.lam == lam).all()
    if method in MASKED:
        with mixup(model, batch, partner=own, lam=0.3) as mixed:
            assert torch.equal(mixed.inputs["pixel_values"], pixels)


@pytest.mark.parametrize("method", NEW)
def test_in_place_writes_into_the_batch(method: str) -> None:
    model = build("resnet")
    results = []
    for inplace in (False, True):
        batch = batch_of("resnet")
        config = MixupConfig(method=method, lam_per="sample")
        request = Request(model, batch, batch["labels"], 1.0, rng(3))
        mixing = config.mixing
        inputs = mixing.apply(model, batch, mixing.draw(request), inplace)
        assert (inputs["pixel_values"] is batch["pixel_values"]) == inplace
        results.append(inputs["pixel_values"])
    assert torch.equal(*results)


@pytest.mark.parametrize("method", NEW)
def test_inputs_other_than_images_are_refused(method: str) -> None:
    mixing = METHODS[method]()
    with pytest.raises(ValueError, match="of 4 dimensions"):
        mixing.draw(Request(torch.nn.Identity(), {"input_values": randn(2, 9)}, torch.arange(2), 1.0, rng()))
