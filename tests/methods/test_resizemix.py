"""ResizeMix: how sizes and positions of its boxes are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from hf_mixup.functional import box_lam
from tests.methods.images import draw


@pytest.mark.parametrize(("box_sides", "low", "high"), [(None, 0.1, 0.8), ([0.3, 0.5], 0.3, 0.5)])
def test_resizemix_draws_uniform_sides(box_sides: list[float] | None, low: float, high: float) -> None:
    record = draw("resizemix", 3000, (200, 400), lam_per="sample", box_sides=box_sides, pairing="roll")
    top, left, bottom, right = record.boxes.unbind(-1)
    tall, wide = (bottom - top).double() / 200, (right - left).double() / 400
    assert (tall - wide).abs().max() <= 1 / 200 + 1e-9  # of the image's own shape, but for parts of pixels
    assert stats.kstest(wide.numpy() + 0.5 / 400, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert torch.equal(record.lam, box_lam(record.boxes, 200, 400))


def test_boxes_touch_an_edge_as_often_as_the_authors_do() -> None:
    """One size a batch, a position for each sample: 45 of 100 boxes touch an edge along either axis."""
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


def test_positions_of_resizemix_are_shared_by_pairs_alone() -> None:
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
