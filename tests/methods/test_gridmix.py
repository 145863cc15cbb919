"""GridMix: how cells are drawn, and lam."""

from __future__ import annotations

import pytest
import torch

from tests.methods.images import draw


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
