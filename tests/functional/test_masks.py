"""Masks of noise and of cells: kernels against loops in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from hf_mixup.functional.masks import enlarge_cells, keep_highest, low_frequency_noise, paste
from tests.methods.images import DTYPES, randn, rng


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
