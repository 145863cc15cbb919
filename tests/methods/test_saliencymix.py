"""SaliencyMix: the box lies round the partner's most salient pixel."""

from __future__ import annotations

import math

import pytest
import torch

from hf_mixup import Mixup, MixupConfig
from hf_mixup.functional.saliency import most_salient, spectral_residual
from tests.conftest import build
from tests.methods.images import images, mixed_by, own_pixels


@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
@pytest.mark.parametrize("size", [(16, 16), (17, 23)])
def test_the_box_lies_round_the_partners_most_salient_pixel(lam_per: str, size: tuple[int, int]) -> None:
    height, width = size
    batch = images(5, height, width)
    mixed = mixed_by("saliencymix", batch, lam_per=lam_per, draw_seed=3)
    x, out, kept = batch["pixel_values"], mixed.inputs["pixel_values"], own_pixels(mixed, height, width)
    where = most_salient(spectral_residual(x))
    drawn = Mixup(MixupConfig(method="mixup", lam_per=lam_per, draw_seed=3))
    with drawn(build("resnet"), batch) as plain:
        lam, partner = plain.lam, plain.partner
    assert torch.equal(mixed.partner, partner)
    for row, other in enumerate(partner.tolist()):
        (y, x_), share = where[other].tolist(), math.sqrt(1 - float(lam[row]))
        top, left, bottom, right = mixed.draw.boxes[row].tolist()
        sides = int(height * share), int(width * share)
        assert (top, bottom) == (max(0, y - sides[0] // 2), min(height, y + (sides[0] + 1) // 2))
        assert (left, right) == (max(0, x_ - sides[1] // 2), min(width, x_ + (sides[1] + 1) // 2))
        expected = torch.where(kept[row], x[row], x[other])
        assert torch.equal(out[row], expected)
        assert float(mixed.lam[row]) == pytest.approx(float(kept[row].double().mean()), abs=1e-7)


def test_saliencymix_leaves_alone_what_it_should() -> None:
    batch = images(6)
    before = batch["pixel_values"].clone()
    mixed = mixed_by("saliencymix", batch, lam=torch.tensor([1.0, 0.5, 1.0, 0.0, 1.0, 0.7]))
    assert torch.equal(mixed.inputs["pixel_values"][::2], before[::2])
    assert mixed.lam[::2].tolist() == [1, 1, 1]
    assert torch.equal(batch["pixel_values"], before)
    assert bool((mixed.lam[[1, 3, 5]] < 1).all())
    untouched = mixed_by("saliencymix", batch, lam=1.0)
    assert untouched.inputs["pixel_values"] is batch["pixel_values"]
    kept = mixed_by("saliencymix", batch, lam=0.3, correct_lam=False)
    assert kept.lam.tolist() == pytest.approx([0.3] * 6)
    single = mixed_by("saliencymix", images(1), lam=0.3)
    assert torch.equal(single.inputs["pixel_values"], images(1)["pixel_values"])
    written = mixed_by("saliencymix", batch, lam=torch.full((6,), 0.5), inplace=True)
    assert written.inputs["pixel_values"] is batch["pixel_values"]
    assert not torch.equal(batch["pixel_values"], before)


def test_half_the_samples_by_the_coin() -> None:
    batch = images(200, 8, 8)
    mixed = mixed_by("saliencymix", batch, prob=0.5, prob_per="sample", lam_per="sample", alpha=8.0)
    same = (mixed.inputs["pixel_values"] == batch["pixel_values"]).flatten(1).all(1)
    assert torch.equal(same, mixed.lam == 1)
    assert 70 < int(same.sum()) < 130
