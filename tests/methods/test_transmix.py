"""TransMix: labels weighed by attention, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig
from hf_mixup.methods.transmix import own_attention
from tests.conftest import build
from tests.methods.images import images, looking, own_pixels


@pytest.mark.parametrize(
    "settings", [{}, {"lam_per": "sample"}, {"prob": 0.5, "prob_per": "sample"}, {"box_sides": [0.2, 0.9]}]
)
def test_transmix_weighs_labels_by_hand(settings: dict[str, Any]) -> None:
    model, batch = looking(), images(6)
    mixup = Mixup(MixupConfig(method="transmix", draw_seed=5, self_check=False, **settings))
    with Mixup(MixupConfig(method="cutmix", draw_seed=5, self_check=False, **settings))(model, batch) as cut:
        pixels, area = cut.inputs["pixel_values"], cut.lam
    with mixup(model, batch) as mixed:
        assert torch.equal(mixed.inputs["pixel_values"], pixels)
        assert torch.equal(mixed.lam, area)
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    attentions = model(pixels, output_attentions=True).attentions[-1].detach()
    kept = own_pixels(mixed, 16, 16)
    logits, labels, parts = model(pixels).logits, batch["labels"], []
    for row, other in enumerate(mixed.partner.tolist()):
        own = total = 0.0
        for y in range(2):
            for x in range(2):
                paid = float(attentions[row, :, 0, 1 + 2 * y + x].double().mean())
                own, total = own + paid * bool(kept[row, 8 * y + 4, 8 * x + 4]), total + paid
        weight = (float(area[row]) + own / total) / 2
        assert float(mixed.label_lam[row]) == pytest.approx(weight, abs=1e-6)
        scores = -logits[row].log_softmax(-1)
        parts.append(weight * scores[labels[row]] + (1 - weight) * scores[labels[other]])
    expected = torch.stack(parts).mean()
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, list(model.parameters()))
    for one, other in zip(found, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mixed.targets.sum(-1), torch.ones(6))
    dense = -(mixed.targets * outputs.logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(dense, loss)


def test_own_attention_by_hand_and_as_the_authors_count() -> None:
    generator = torch.Generator().manual_seed(0)
    paid = torch.rand(7, 3, 4, generator=generator)
    corners = torch.stack([torch.randint(0, 31, (7,), generator=generator) for _ in range(4)], -1)
    boxes = torch.cat([corners[:, :2].minimum(corners[:, 2:]), corners[:, :2].maximum(corners[:, 2:])], -1)
    found = own_attention(paid, boxes, 30, 36)
    for row, (top, left, bottom, right) in enumerate(boxes.tolist()):
        own = sum(
            float(paid[row, y, x])
            for y in range(3)
            for x in range(4)
            if not (top <= 10 * y + 5 < bottom and left <= 9 * x + 4.5 < right)
        )
        assert float(found[row]) == pytest.approx(own / float(paid[row].sum()), abs=1e-6)
    box = torch.tensor([10, 9, 30, 27])
    pixels = torch.zeros(1, 1, 30, 36)
    pixels[..., 10:30, 9:27] = 1
    pasted = F.interpolate(pixels, (3, 4), mode="nearest")[0]
    share = 1 - (pasted * paid).sum((1, 2)) / paid.sum((1, 2))
    torch.testing.assert_close(own_attention(paid, box, 30, 36), share)


def test_transmix_says_what_it_needs() -> None:
    batch = images(4)
    fused = build("vit").train()
    fused.set_attn_implementation("sdpa")
    for model in (fused, build("resnet").train()):
        with (
            Mixup(MixupConfig(method="transmix", self_check=False))(model, batch, lam=0.5) as mixed,
            pytest.raises(RuntimeError, match=r"returned no attention.*attn_implementation='eager'.*'cutmix'"),
        ):
            model(**mixed.inputs)
    model = looking()
    with Mixup(MixupConfig(method="transmix", self_check=False))(model, batch, lam=0.5) as mixed:
        logits = build("vit")(batch["pixel_values"])
        with pytest.raises(RuntimeError, match="did not pass the place where method 'transmix'"):
            mixed.loss(logits)


def test_transmix_leaves_plain_batches_alone() -> None:
    model, batch = looking(), images(4)
    mixup = Mixup(MixupConfig(method="transmix", self_check=False))
    with mixup(model, batch, lam=1.0) as plain:
        assert "output_attentions" not in plain.inputs
        loss = plain.loss(model(**plain.inputs))
    torch.testing.assert_close(loss, model(**batch).loss)
    for step in range(3):  # one batch after another, and the model by itself in between
        with mixup(model, images(4 + step, seed=step), lam=0.4) as mixed:
            mixed.loss(model(**mixed.inputs)).backward()
        assert model(batch["pixel_values"]).attentions is None


def test_transmix_in_a_compiled_model() -> None:
    model, batch = looking(), images(4)
    mixup = Mixup(MixupConfig(method="transmix", self_check=False, draw_seed=1))
    mixup.prepare(model)
    compiled = torch.compile(model, backend="eager")
    losses = []
    for run in (model, compiled):
        again = Mixup(MixupConfig(method="transmix", self_check=False, draw_seed=1))
        with again(run, batch) as mixed:
            losses.append(mixed.loss(run(**mixed.inputs)))
    torch.testing.assert_close(losses[0], losses[1])
