"""SpecMix: bands of time and frequency, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_mixup import MixupConfig
from hf_mixup.functional import inside_bands
from tests.methods.inputs import drawn


def bands_by_hand(spots: Any, count: int, width: float, length: int, apart: bool) -> list[bool]:
    used = sorted(float(spot) for spot in spots[:count])
    free = 1 - width * (count if apart else 1)
    starts = [spot * free + (number * width if apart else 0) for number, spot in enumerate(used)]
    edges = [(int(start * length + 0.5 + 1e-9), int((start + width) * length + 0.5 + 1e-9)) for start in starts]
    return [any(first <= place < behind for first, behind in edges) for place in range(length)]


@pytest.mark.parametrize("apart", [False, True])
def test_bands_by_hand(apart: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    spots, count = torch.rand(200, 3, generator=rng, dtype=torch.float64), torch.randint(4, (200,), generator=rng)
    width = torch.rand(200, generator=rng, dtype=torch.float64) / (count.clamp(min=1) if apart else 1)
    for length in (1, 7, 40):
        found = inside_bands(spots, count, width, length, apart)
        expected = [
            bands_by_hand(*row, length, apart) for row in zip(spots, count.tolist(), width.tolist(), strict=True)
        ]
        assert found.tolist() == expected
    for full in range(1, 8):  # bands that together are the whole axis, at any length
        for length in range(1, 30):
            assert inside_bands(torch.rand(5, full), torch.tensor([full]), torch.tensor([1 / full]), length, True).all()


def test_specmix_draws_bands_as_the_paper_says() -> None:
    """Over many samples: 15 kinds alike often, whole bands of time or of frequency, each of the given width."""
    batch = {"input_values": torch.zeros(3000, 40, 20)}
    draw, _ = drawn("specmix", batch, lam_per="sample", band_share=0.1)
    taken = ~draw.mask
    in_time, in_frequency = taken.all(2), taken.all(1)
    assert torch.equal(taken, in_time[:, :, None] | in_frequency[:, None])
    assert (in_time.sum(1) <= 12).all()
    assert (in_frequency.sum(1) <= 6).all()
    none = [(~inside.any(1)).float().mean() for inside in (in_time, in_frequency)]
    assert all(abs(share - 3 / 15) < 0.04 for share in none)  # none along time: 1, 2 or 3 along frequency
    assert (taken.any(-1).any(-1)).all()
    torch.testing.assert_close(draw.lam, 1 - taken.float().mean((1, 2)))


@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
def test_specmix_meets_a_lam_that_is_given(lam_per: Any) -> None:
    batch = {"input_values": torch.randn(8, 400, 300)}
    for given in (0.0, 0.2, 0.5, 0.9, 1.0):
        draw, mixed = drawn("specmix", batch, lam_per=lam_per, lam=given)
        torch.testing.assert_close(draw.lam, torch.full((8,), given), atol=0.02 if 0 < given < 1 else 0, rtol=0)
        expected = torch.where(draw.mask, batch["input_values"], batch["input_values"][draw.partner])
        assert torch.equal(mixed["input_values"], expected)
        kept = drawn("specmix", batch, lam_per=lam_per, lam=given, correct_lam=False)[0].lam
        assert (kept == torch.tensor(given)).all()
    masks = {tuple(mask.flatten().tolist()) for mask in drawn("specmix", batch, lam_per=lam_per)[0].mask}
    assert len(masks) == {"batch": 1, "pair": 4, "sample": 8}[lam_per] or lam_per == "pair"


def test_specmix_tosses_the_coin_and_is_off_with_lam_1() -> None:
    batch = {"input_values": torch.randn(64, 20, 10)}
    draw, _ = drawn("specmix", batch, prob=0.5, prob_per="sample")
    assert 16 < int((draw.lam == 1).sum()) < 48
    assert (drawn("specmix", batch, lam=1.0)[0].lam == 1).all()
    for settings, message in (({"num_bands": 0}, "num_bands=0"), ({"band_share": 1.5}, r"band_share=1.5: .* \[0, 1\]")):
        with pytest.raises(ValueError, match=message):
            MixupConfig("specmix", **settings)
