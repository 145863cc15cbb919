"""ResizeMix, FMix and GridMix alike: draws, and the methods through the engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hf_mixup import Mixup, MixupConfig
from hf_mixup.methods import METHODS
from hf_mixup.methods.base import BoxDraw, Draw, MaskDraw, Request
from tests.conftest import batch_of, build
from tests.methods.images import draw, loop_paste_resized, randn, rng

REGIONS = ["resizemix", "fmix", "gridmix"]
MASKED = ["fmix", "gridmix"]


def own_masks(record: Draw, height: int, width: int) -> Tensor:
    """Which pixels stay the sample's own, bool [B, H, W], whether they are drawn as boxes or as masks."""
    rows = len(record.lam)
    if isinstance(record, MaskDraw):
        return record.mask.expand(rows, height, width)
    assert isinstance(record, BoxDraw)
    masks = torch.ones(rows, height, width, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, record.boxes.expand(rows, 4).tolist(), strict=True):
        mask[top:bottom, left:right] = False
    return masks


@pytest.mark.parametrize("method", REGIONS)
@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
@pytest.mark.parametrize("rows", [1, 2, 5, 6])
def test_the_coin_leaves_samples_alone_and_lam_is_true(method: str, lam_per: Any, rows: int) -> None:
    mixed = 0
    for seed in range(12):
        record = draw(method, rows, (12, 9), seed, lam_per=lam_per, prob=0.5, prob_per="sample", lam=0.5)
        own = own_masks(record, 12, 9)
        assert torch.equal(record.lam, own.flatten(1).double().mean(1).float())
        mixed += int((record.lam < 1).sum())
        if lam_per == "batch":  # those that are mixed are mixed alike
            alike = own.flatten(1).sum(1, keepdim=True) if method == "resizemix" else own  # its positions differ
            assert len({tuple(m.flatten().tolist()) for m in alike[record.lam < 1]}) <= 1
    # Independent tosses: also the second sample of a pair, whose draw is the first's, is mixed half of the time.
    assert abs(mixed - 6 * rows) <= 4 * (3 * rows) ** 0.5


@pytest.mark.parametrize("method", REGIONS)
def test_every_sample_may_be_given_its_own_lam(method: str) -> None:
    given = torch.tensor([1.0, 0.75, 0.5, 0.0, 0.25])
    record = draw(method, 5, (16, 16), dictated=given)
    share = own_masks(record, 16, 16).flatten(1).double().mean(1).float()
    # The sides of a box are whole pixels: what is over of either is lost.
    torch.testing.assert_close(share, given, rtol=0, atol=2 / 16 if method == "resizemix" else 0.03)
    assert torch.equal(record.lam, share)
    assert share[0] == 1
    assert share[3] == 0


@pytest.mark.parametrize("method", REGIONS)
def test_lam_is_left_as_drawn_without_the_correction(method: str) -> None:
    left, true = (draw(method, lam=0.3, correct_lam=exact).lam for exact in (False, True))
    assert (left == torch.tensor(0.3)).all()
    assert (true != left).all()
    torch.testing.assert_close(true, left, rtol=0, atol=2 / 9 if method == "resizemix" else 0.05)


@pytest.mark.parametrize("method", REGIONS)
def test_a_pair_exchanges_one_region_and_samples_draw_their_own(method: str) -> None:
    pairs = draw(method, 6, (200, 150), lam_per="pair", lam=0.9)
    own, partner = own_masks(pairs, 200, 150), pairs.partner
    assert torch.equal(own, own[partner])
    assert torch.equal(pairs.lam, pairs.lam[partner])
    for record in (pairs, draw(method, 6, (200, 150), lam_per="sample", lam=0.9)):
        different = {tuple(mask.flatten().tolist()) for mask in own_masks(record, 200, 150)}
        assert len(different) == (3 if record is pairs else 6)


@pytest.mark.parametrize("method", REGIONS)
def test_draws_use_the_generator_alone(method: str) -> None:
    first = draw(method, lam_per="sample")
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    again, other = draw(method, lam_per="sample"), draw(method, lam_per="sample", seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(own_masks(first, 12, 9), own_masks(again, 12, 9))
    assert torch.equal(first.lam, again.lam)
    assert not torch.equal(own_masks(first, 12, 9), own_masks(other, 12, 9))


@pytest.mark.parametrize("method", REGIONS)
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


@pytest.mark.parametrize("method", REGIONS)
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


@pytest.mark.parametrize("method", REGIONS)
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


@pytest.mark.parametrize("method", REGIONS)
def test_inputs_other_than_images_are_refused(method: str) -> None:
    mixing = METHODS[method]()
    with pytest.raises(ValueError, match="of 4 dimensions"):
        mixing.draw(Request(torch.nn.Identity(), {"input_values": randn(2, 9)}, torch.arange(2), 1.0, rng()))
