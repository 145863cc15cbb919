"""Guided methods: gradients at pixels, attention rolled out, and a second model as the guide."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Trainer

from hf_mixup import Mixup, MixupCallback, MixupCollator, MixupConfig, MixupTrainer
from hf_mixup.cli import main
from hf_mixup.functional.saliency import most_salient, smooth_saliency
from hf_mixup.models.attention import attention_grid
from hf_mixup.models.saliency import input_saliency
from tests.conftest import TINY_RUN, build
from tests.methods.images import images, looking, mixed_by, same_traces, traces


@pytest.mark.parametrize("method", ["saliencymix", "attentive", "transmix"])
def test_training_with_a_guided_method(method: str, arguments: Any) -> None:
    rows = [{"pixel_values": x, "labels": int(y)} for x, y in zip(*images(8).values(), strict=True)]
    trainer = MixupTrainer(
        model=looking(), args=arguments(max_steps=3), train_dataset=rows, mixup={"method": method, "alpha": 2.0}
    )
    assert math.isfinite(trainer.train().training_loss)


GUIDED: list[dict[str, Any]] = [
    {"method": "attentive"},
    {"method": "saliencymix", "saliency": "gradient"},
    {"method": "switch", "methods": ["attentive", "cutmix"]},
]


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_input_saliency_is_each_samples_own_gradient(name: str) -> None:
    model, batch = build(name).double().train(), images(4)
    pixels = batch["pixel_values"].double()
    labels = torch.tensor([1, 3, -100, 0])
    before = traces(model)
    found = input_saliency(model, {"pixel_values": pixels}, "pixel_values", labels)
    assert same_traces(before, traces(model))
    assert found.dtype == torch.float32
    assert not found.requires_grad
    model.eval()
    step = 1e-5
    for row, (y, x) in [(0, (3, 5)), (1, (15, 0)), (3, (8, 8))]:
        squares = 0.0
        for channel in range(3):
            ends = []
            for sign in (1, -1):
                moved = pixels[row : row + 1].clone()
                moved[0, channel, y, x] += sign * step
                ends.append(float(-model(moved).logits.log_softmax(-1)[0, labels[row]].detach()))
            squares += ((ends[0] - ends[1]) / (2 * step)) ** 2
        assert float(found[row, y, x]) == pytest.approx((squares / 3) ** 0.5, rel=1e-3, abs=1e-9)
    assert bool((found[2] == 0).all())  # its label is ignored
    best = input_saliency(model, {"pixel_values": pixels}, "pixel_values", None)
    leaf = pixels[:1].clone().requires_grad_()
    model(leaf).logits.max().backward()
    torch.testing.assert_close(best[0], leaf.grad[0].square().mean(0).sqrt().float())


def test_input_saliency_takes_other_labels() -> None:
    model, batch = build("resnet"), images(3)
    several = input_saliency(model, {"pixel_values": batch["pixel_values"]}, "pixel_values", torch.rand(3, 4))
    assert several.shape == (3, 16, 16)
    assert bool((several > 0).any())
    halved = batch["pixel_values"].bfloat16()
    low = input_saliency(model.bfloat16(), {"pixel_values": halved}, "pixel_values", batch["labels"])
    assert low.dtype == torch.float32


def test_saliencymix_by_gradient_pastes_around_the_peak() -> None:
    model, batch = build("resnet").train(), images(5)
    before = traces(model)
    mixed = mixed_by("saliencymix", batch, model, saliency="gradient", lam=0.75)
    assert same_traces(before, traces(model))
    saliency = input_saliency(model, {"pixel_values": batch["pixel_values"]}, "pixel_values", batch["labels"])
    where = most_salient(smooth_saliency(saliency))
    for row, other in enumerate(mixed.partner.tolist()):
        y, x = where[other].tolist()
        expected = [max(0, y - 4), max(0, x - 4), min(16, y + 4), min(16, x + 4)]
        assert mixed.draw.boxes[row].tolist() == expected


def rollout_by_hand(layers: Any, row: int) -> Tensor:
    whole = torch.eye(5, dtype=torch.float64)
    for layer in layers:
        whole = (layer[row].double().mean(0) / 2 + torch.eye(5, dtype=torch.float64) / 2) @ whole
    return whole[0, 1:].reshape(2, 2)


def test_attention_rolled_out() -> None:
    model, batch = looking().eval(), images(3)
    pixels = batch["pixel_values"]
    found = attention_grid(model, {"pixel_values": pixels}, pixels, rollout=True)
    layers = model(pixels, output_attentions=True).attentions
    assert len(layers) == 3
    for row in range(3):
        torch.testing.assert_close(found[row].double(), rollout_by_hand(layers, row), rtol=1e-5, atol=1e-7)
    last = attention_grid(model, {"pixel_values": pixels}, pixels)
    assert not torch.allclose(found, last, atol=1e-3)
    mixed = mixed_by("attentive", batch, model, attention="rollout", lam=0.75)
    for row, other in enumerate(mixed.partner.tolist()):
        cell = int(found[other].flatten().argmax())
        taken = ~mixed.draw.mask[row]
        assert taken.nonzero().amin(0).tolist() == [8 * (cell // 2), 8 * (cell % 2)]
        assert int(taken.sum()) == 64


@pytest.mark.parametrize("settings", GUIDED)
def test_a_guide_looks_and_stays_as_it_is(settings: dict[str, Any], arguments: Any) -> None:
    guide, model, batch = looking(7), build("resnet").train(), images(4)
    before, seen = traces(guide), []
    handle = model.register_forward_pre_hook(lambda module, args: seen.append(1))
    alone = Mixup(MixupConfig(**{**settings, "lam": 0.75, "self_check": False}), guide=guide)
    for _ in range(3):
        with alone(model, batch) as mixed:
            pass
        if mixed.draw.method == "attentive":
            grid = attention_grid(guide, {"pixel_values": batch["pixel_values"]}, batch["pixel_values"])
            for row, other in enumerate(mixed.partner.tolist()):
                cell = int(grid[other].flatten().argmax())
                assert (~mixed.draw.mask[row]).nonzero().amin(0).tolist() == [8 * (cell // 2), 8 * (cell % 2)]
        if mixed.draw.method == "saliencymix":
            looked = input_saliency(guide, {"pixel_values": batch["pixel_values"]}, "pixel_values", None)
            y, x = most_salient(smooth_saliency(looked))[mixed.partner[0]].tolist()
            assert mixed.draw.boxes[0].tolist()[:2] == [max(0, y - 4), max(0, x - 4)]
    handle.remove()
    assert not seen  # the model in training is not asked
    rows = [{"pixel_values": x, "labels": int(y)} for x, y in zip(*images(8).values(), strict=True)]
    trainer = MixupTrainer(model=model, args=arguments(max_steps=2), train_dataset=rows, mixup=settings, guide=guide)
    trainer.train()
    torch.set_rng_state(before[3])  # the Trainer's own seed
    assert same_traces(before, traces(guide))
    assert trainer.mixup.guide is guide
    assert not any(name.startswith("guide") for name, _ in trainer.model.named_parameters())


@pytest.mark.parametrize("entry_point", ["collator", "callback"])
def test_a_guide_through_the_entry_points_of_a_plain_trainer(entry_point: str, arguments: Any) -> None:
    guide, model, settings, asked = looking(7), build("resnet"), {"method": "attentive", "lam": 0.75}, []
    guide.register_forward_pre_hook(lambda module, args: asked.append(module.training))
    rows = [{"pixel_values": x, "labels": int(y)} for x, y in zip(*images(8).values(), strict=True)]
    if entry_point == "collator":
        given: dict[str, Any] = {"data_collator": MixupCollator(mixup=settings, model=model, guide=guide)}
    else:
        given = {"callbacks": [MixupCallback(settings, guide=guide)]}
    Trainer(model=model, args=arguments(max_steps=2), train_dataset=rows, **given).train()
    assert asked == [False] * 3  # once for the two samples that are tried


def test_a_guide_nobody_asks_is_refused() -> None:
    for settings in ({"method": "cutmix"}, {"method": "saliencymix"}, {"method": "switch"}):
        with pytest.raises(ValueError, match="asks no model where to look: leave guide= out"):
            Mixup(MixupConfig(**settings), guide=build("vit"))
    for name, value in (("saliency", "spectrum"), ("attention", "roll")):
        with pytest.raises(ValueError, match=f"{name}='{value}' is not known: did you mean"):
            MixupConfig(**{name: value})


def test_a_guide_of_another_precision() -> None:
    guide, batch = looking(7).bfloat16(), images(4)
    with Mixup(MixupConfig(method="attentive", lam=0.75), guide=guide)(build("resnet"), batch) as mixed:
        assert mixed.lam.tolist() == [0.75] * 4
        assert mixed.inputs["pixel_values"].dtype == torch.float32


def test_the_command_line_trains_with_attention_that_is_returned(tmp_path: Any) -> None:
    vit = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = tmp_path / "run.yaml"
    config.write_text(
        json.dumps(
            {
                **TINY_RUN,
                "model_type": "vit",
                "config_overrides": {**vit, "image_size": 16, "patch_size": 8},
                "method": "switch",
                "methods": ["transmix", "patchmix"],
                "output_dir": str(tmp_path / "out"),
            }
        )
    )
    main(["train", str(config)])
    assert (tmp_path / "out" / "mixup_config.json").exists()
