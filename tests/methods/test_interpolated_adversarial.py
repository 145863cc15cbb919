"""Interpolated adversarial training, against an attack and a blend sample by sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_mixup import Mixup, MixupConfig
from tests.conftest import batch_of, build
from tests.methods.attacks import climb, logits, start_of


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"prob": 0.5, "prob_per": "sample", "by": {"method": "mixup", "lam_per": "sample"}},
        {"clean_weight": 0.0},
        {"epsilon": 0.0},
    ],
)
def test_interpolated_mixes_both_halves_alike(rows: int, extra: dict[str, Any]) -> None:
    model, batch = build("vit").eval(), batch_of("vit", rows=rows)
    mixup = Mixup({"method": "interpolated_adversarial", "epsilon": 0.2, **extra})
    weight, eps, pixels = extra.get("clean_weight", 0.5), extra.get("epsilon", 0.2), batch["pixel_values"]
    adversary = climb(model, batch, "fgsm", eps, 1, eps, 0)[-1]
    for _ in range(3):
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        total = 0.0
        for row, (partner, lam) in enumerate(zip(mixed.partner.tolist(), mixed.lam.tolist(), strict=True)):
            for source, share in ((pixels, weight if lam < 1 else 1.0), (adversary, 1 - weight if lam < 1 else 0.0)):
                blended = lam * source[row] + (1 - lam) * source[partner]
                scores = model(pixel_values=blended[None]).logits[0].log_softmax(-1)
                own, other = batch["labels"][row], batch["labels"][partner]
                total = total - share * (lam * scores[own] + (1 - lam) * scores[other])
        torch.testing.assert_close(mixed.loss(outputs), total / rows, rtol=1e-4, atol=1e-5)
        assert mixed.rate == sum(lam < 1 for lam in mixed.lam.tolist()) / rows
    if "epsilon" in extra:
        assert len(outputs.logits) == rows


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"attack": "freelb"},
        {"clean_weight": 0.0},
        {"clean_weight": 0.0, "prob": 0.5, "prob_per": "sample", "by": {"method": "embedding", "lam_per": "sample"}},
    ],
)
@pytest.mark.parametrize("rows", [1, 5])
def test_interpolated_embeddings_are_blended_with_their_shifts(extra: dict[str, Any], rows: int) -> None:
    model, batch = build("bert").eval(), batch_of("bert", rows=rows, lengths=True)
    mixup = Mixup({"method": "interpolated_adversarial", "by": "embedding", "epsilon": 0.8, **extra})
    attack = extra.get("attack", "fgm")
    weight = extra.get("clean_weight", 0.0 if attack == "freelb" else 0.5)
    steps, size = (2, 2.5 * 0.8 / 3) if attack == "freelb" else (1, 0.8)
    plain, table = logits(model, batch), start_of(model, batch)[0]
    for _ in range(3):
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        adversaries = climb(model, batch, attack, 0.8, steps, size, mixed.draw.seed)
        adversaries = adversaries if attack == "freelb" else adversaries[1:]
        total = 0.0
        for row, (partner, lam) in enumerate(zip(mixed.partner.tolist(), mixed.lam.tolist(), strict=True)):
            own_mask, other_mask = (batch["attention_mask"][each].bool() for each in (row, partner))
            share = torch.where(own_mask & other_mask, lam, own_mask.float())[:, None]
            seen = (own_mask | other_mask) if lam < 1 else own_mask
            sources = [(table, weight if lam < 1 else 1.0)]
            sources += [(each, (1 - weight) / len(adversaries) if lam < 1 else 0.0) for each in adversaries]
            for source, part in sources:
                blended = share * source[row] + (1 - share) * source[partner] if lam < 1 else source[row]
                scores = model(inputs_embeds=blended[None], attention_mask=seen[None].long()).logits[0].log_softmax(-1)
                own, other = batch["labels"][row], batch["labels"][partner]
                total = total - part * (lam * scores[own] + (1 - lam) * scores[other])
        torch.testing.assert_close(mixed.loss(outputs), total / rows, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(logits(model, batch), plain)  # no hook stays active


@pytest.mark.parametrize("by", ["cutmix", "manifold"])
def test_by_other_methods(by: str) -> None:
    """The clean half is what the method alone gives for the same draw; so is the other, of moved samples."""
    model, batch = build("vit").eval(), batch_of("vit")
    adversary = {**batch, "pixel_values": climb(model, batch, "fgsm", 0.2, 1, 0.2, 0)[-1]}
    inner = {"method": by, **({"layers": [1]} if by == "manifold" else {})}
    with Mixup({"method": "interpolated_adversarial", "by": inner, "epsilon": 0.2, "draw_seed": 5})(
        model, batch
    ) as mixed:
        outputs = model(**mixed.inputs)
    losses = []
    for each in (batch, adversary):
        with Mixup({**inner, "draw_seed": 5})(model, each) as alone:
            losses.append(alone.loss(model(**alone.inputs)))
        assert torch.equal(alone.lam, mixed.lam)
    torch.testing.assert_close(mixed.loss(outputs), sum(losses) / 2)
    assert losses[1] > losses[0]


def test_takes_partner_and_lam_and_refuses_what_does_not_fit() -> None:
    model, batch = build("resnet").eval(), batch_of("resnet")
    partner, lam = torch.tensor([1, 2, 3, 4, 5, 0]), 0.3
    with Mixup("interpolated_adversarial")(model, batch, partner=partner, lam=lam) as mixed:
        pixels = mixed.inputs["pixel_values"]
    torch.testing.assert_close(pixels[:6], lam * batch["pixel_values"] + (1 - lam) * batch["pixel_values"][partner])
    assert (pixels[6:] - pixels[:6]).abs().max() == pytest.approx(0.1, rel=1e-3)
    with pytest.raises(ValueError, match="set by='embedding'"):
        Mixup("interpolated_adversarial")(build("bert"), batch_of("bert"))
    with pytest.raises(ValueError, match="needs tokens to move"):
        Mixup({"method": "interpolated_adversarial", "by": "embedding"})(model, batch)
    with pytest.raises(ValueError, match="did you mean 'manifold'"):
        MixupConfig(method="interpolated_adversarial", by="manifol")
    text, unrun = {"method": "interpolated_adversarial", "by": "embedding"}, build("bert").eval()
    outputs = unrun(**{key: value for key, value in batch_of("bert").items() if key != "labels"})
    with Mixup(text)(unrun, batch_of("bert")) as mixed, pytest.raises(RuntimeError, match="did not pass the place"):
        mixed.loss(outputs)
