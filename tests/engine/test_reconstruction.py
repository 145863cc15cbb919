"""Models that paint the hidden parts of images: the target is the mixed image, and nothing else is mixed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor

from hf_mixup import Mixup, MixupConfig
from tests.dense_models import PAINTERS, PARTS, VIT, build, images

PARTNER, LAM = torch.tensor([1, 3, 0, 2]), torch.tensor([0.3, 0.8, 1.0, 0.0])
CUTS = ("cutmix", "resizemix", "fmix", "gridmix", "saliencymix", "mosaic")
ENDS = torch.tensor([1, 0, 0, 2])


def seeded(model: Any, inputs: dict[str, Any]) -> Tensor:
    """Return the loss of a model that may draw what it hides, the same each time."""
    torch.manual_seed(5)
    with torch.no_grad():
        return model(**inputs)["loss"]


def mixed_loss(model: Any, batch: dict[str, Any], method: Any, lam: float) -> Tensor:
    with Mixup(method)(model, batch, partner=ENDS, lam=lam) as mixed:
        return mixed.loss({"loss": seeded(model, mixed.inputs)})


@pytest.mark.parametrize("method", ["mixup", *CUTS])
@pytest.mark.parametrize("kind", PAINTERS)
def test_at_the_ends_the_loss_is_the_samples_own_or_the_partners(kind: str, method: str) -> None:
    """Each with what is hidden of it."""
    model, batch = build(kind), images(kind)
    if kind == "videomae" and method not in ("mixup", "cutmix"):
        with pytest.raises(ValueError, match="found no floating-point input of 4 dimensions"):
            mixed_loss(model, batch, method, 0.5)
        return
    own, others = seeded(model, batch), seeded(model, {key: value[ENDS] for key, value in batch.items()})
    assert abs(own - others) > 1e-4
    torch.testing.assert_close(mixed_loss(model, batch, method, 1.0), own, rtol=1e-5, atol=0)
    torch.testing.assert_close(mixed_loss(model, batch, method, 0.0), others, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", PARTS)
def test_the_target_is_the_mixed_image_and_the_larger_share_says_what_is_hidden(kind: str) -> None:
    model, batch = build(kind), images(kind)
    kept = {key: value.clone() for key, value in batch.items()}
    with Mixup("mixup")(model, batch, partner=PARTNER, lam=LAM) as mixed, torch.no_grad():
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    for row in range(4):
        lam, other = float(LAM[row]), int(PARTNER[row])
        blend = lam * batch["pixel_values"][row] + (1 - lam) * batch["pixel_values"][other]
        torch.testing.assert_close(mixed.targets[row], blend)
        hides = batch["bool_masked_pos"][row if lam >= 0.5 else other]
        assert torch.equal(mixed.inputs["bool_masked_pos"][row], hides)
    if kind != "videomae":  # one patch after the other, in loops
        side = int(PARTS[kind] ** 0.5)
        size, terms = 32 // side, []
        error = (outputs.reconstruction.double() - mixed.targets.double()).abs()
        for row, part in mixed.inputs["bool_masked_pos"].nonzero().tolist():
            top, left = size * (part // side), size * (part % side)
            terms.append(error[row, :, top : top + size, left : left + size].mean().item())
        assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert all(torch.equal(batch[key], kept[key]) for key in kept)


@pytest.mark.parametrize("method", ["mixup", "cutmix", "mosaic"])
def test_one_sample_is_left_alone(method: str) -> None:
    for kind in ("vit", "mae"):
        model, batch = build(kind), images(kind, rows=1)
        with Mixup(method)(model, batch) as mixed:
            torch.testing.assert_close(seeded(model, mixed.inputs), seeded(model, batch), rtol=1e-6, atol=0)


def test_what_does_not_go_with_it_is_refused_with_a_way_out() -> None:
    model, batch = build("vit"), images("vit")
    for settings, message in (
        ({"method": "manifold"}, "method 'manifold' does not mix the hidden pixels that ViTFor.* use one of mixup"),
        ({"method": "gaussian"}, "method 'gaussian' does not mix the hidden pixels"),
        ({"method": "embedding"}, "method 'embedding' does not mix the hidden pixels"),
        ({"method": "attentive"}, "method 'attentive' asks a model for its classes .*: pass guide="),
        ({"loss": "bce"}, "loss='bce' does not go with the hidden pixels: ViTForMaskedImageModeling computes the loss"),
        ({"pair_class": "same"}, "pair_class='same' needs one integer label a row"),
    ):
        with pytest.raises(ValueError, match=message):
            Mixup({"method": "mixup", **settings})(model, batch)
    with Mixup("mixup")(model, {"pixel_values": batch["pixel_values"]}) as mixed:
        outputs = model(**mixed.inputs)
    with pytest.raises(ValueError, match=r"ViTForMaskedImageModeling returned no loss: run it on `mixed.inputs`"):
        mixed.loss(outputs)
    beit = tr.BeitForMaskedImageModeling(tr.BeitConfig(**VIT, vocab_size=20, use_mask_token=True)).eval()
    codes = torch.randint(0, 20, (int(batch["bool_masked_pos"].sum()),))
    with pytest.raises(ValueError, match="BeitForMaskedImageModeling learns labels of the hidden parts, an entry of a"):
        Mixup("mixup")(beit, {**batch, "labels": codes})
    with pytest.raises(ValueError, match="ViTForMaskedImageModeling learns from more than pixels: input_ids"):
        Mixup(MixupConfig("mixup"))(model, {**batch, "input_ids": torch.ones(4, 3, dtype=torch.long)})
