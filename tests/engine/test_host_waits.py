"""How often a step waits for the device: each time that it reads there what only the device knows, or a copy blocks.

There is no device here, see `tests/fake_device.py`. What is looked at once, with the first batches, is over before the
step that is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import TrainingArguments

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.engine.exchange import LOOKS
from hf_mixup.engine.stats import MixStats
from hf_mixup.methods import METHODS
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.ragged import layouts
from hf_mixup.testing.batches import tiny
from tests import fake_device, ragged_models
from tests.conftest import build
from tests.fake_device import DEVICE, FakeDevice, OnDevice, to_device
from tests.methods.pairs import Tokenizer
from tests.methods.test_settings_table import HELD, known, other_value, place_of, scene

Values = dict[str, Any]
STEPS = LOOKS + 3
ON_THE_HOST = {  # what these choose is counted out in loops on the host, which need to see labels, tokens or scores
    "puzzlemix": "cpu in _on_cpu",
    "span_cut": "cpu in on_cpu",
    "ssmix": "cpu in on_cpu",
    "intra": "cpu in draw",
    "cmixup": "cpu in pair_by_label_distance",
    "sftmix": "nonzero in side_by_side",
    "mixgen": "__int__ in join_captions",  # how long the longest caption is
}
PAIRED_BY_CLASS = {"cpu in _pair": 1}
# They name inputs or an axis that these batches lack, or are for several processes, or a scale that is out of range.
NOT_HERE = {"keys", "modules", "swap_keys", "cut_along", "time_axis", "chunk_size", "local_loss", "max_logit_scale"}


def test_the_device_refuses_what_devices_refuse() -> None:
    here, away = torch.ones(2).as_subclass(OnDevice), torch.ones(2)
    with FakeDevice():
        assert here.device == (here + 1).device == away.to(here.device).device == DEVICE
        assert torch.ones(2, device=DEVICE).device == DEVICE
        assert here.cpu().device.type == away.device.type == "cpu"
        with pytest.raises(RuntimeError, match="all tensors on one device"):
            here + away
        with pytest.raises(RuntimeError, match="expected a generator of"):
            torch.rand(2, device=DEVICE, generator=torch.Generator())


def waits(method: str, settings: Values, place: str) -> Mapping[str, int]:
    """Return what a step waits for that mixes something, after several."""
    model, batch = scene(place)
    mixup = Mixup(MixupConfig(method, **settings), tokenizer=Tokenizer())
    buffers = [dict(each._buffers) for each in model.modules()]
    fake_device.move(model)
    try:
        mixup.prepare(model)
        model.train()
        for step in count():
            with FakeDevice() as fake, mock.patch.object(torch, "Generator", fake_device.generator):
                with mixup(model, to_device(batch)) as mixed:
                    outputs = mixed.forward(model)
                mixed.loss(outputs).backward()
                mixed.statistics()
            if step >= STEPS and mixed.rate:
                return dict(fake.waits)
        raise AssertionError("nothing was mixed")
    finally:
        for module, own in zip(model.modules(), buffers):
            module._buffers.update(own)
        hooks_of(model).forget()
        hooks_of(model).checked.clear()
        model.zero_grad()
        model.eval().requires_grad_(True)


def must(method: str) -> dict[str, int]:
    return {ON_THE_HOST[method]: 1} if method in ON_THE_HOST else {}


@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_for_the_device_no_more_than_it_must(method: str) -> None:
    assert waits(method, {}, place_of(method)) == must(method)


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("mixup", {"loss": "own"}, {}),
        ("mixup", {"loss": "bce", "label_smoothing": 0.1, "class_weights": [1.0, 2.0, 0.5, 1.0]}, {}),
        ("cutmix", {"prob_per": "sample", "prob": 0.5, "lam_per": "sample"}, {}),
        ("mixup", {"pair_class": "different"}, PAIRED_BY_CLASS),  # partners are counted out on the host
        ("attentive", {"loss": "own"}, {"tolist in one_lam": 1}),  # whose lam only the device knows
        ("adversarial", {"attack": "network"}, {}),
        ("adversarial", {"attack": "pgd", "prob_per": "sample", "prob": 0.5}, {}),
        ("saliencymix", {"saliency": "gradient", "lam_per": "sample", "correct_lam": False}, {}),
    ],
    ids=str,
)
def test_settings_wait_no_more(method: str, settings: Values, expected: Mapping[str, int]) -> None:
    assert waits(method, settings, place_of(method)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_no_setting_of_a_method_makes_it_wait(method: str) -> None:
    for name in sorted(known(method) - HELD - NOT_HERE):
        value, beside = other_value(method, name)
        asked = {"cpu in _pair": 3 if method == "mosaic" else 1} if name == "pair_class" else {}
        assert waits(method, {**beside, name: value}, place_of(method, name)) == must(method) | asked, name


def test_texts_without_a_mask_are_not_looked_at_again() -> None:
    model, batch = tiny("sequence-classification", "fnet")
    assert "attention_mask" not in batch
    fake_device.move(model)
    mixup = Mixup("embedding")
    for _ in range(2):
        with FakeDevice() as fake, mixup(model, to_device(batch)) as mixed:
            mixed.loss(mixed.forward(model))
    assert not fake.waits


@pytest.mark.parametrize(
    ("batches", "weights", "expected"),
    [(1, None, {}), (2, [1.0, 2.0, 0.5, 1.0], {}), (2, None, {"__bool__ in _masses_ahead": 1})],
    ids=["one batch", "weighed", "several"],
)
def test_a_step_of_the_trainer_waits_once_at_most(
    batches: int, weights: Any, expected: Values, arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where several batches have to be counted together, it looks once whether labels are missing."""
    model, batch = tiny("sequence-classification", "bert")
    args = arguments(gradient_accumulation_steps=batches, logging_steps=100)
    trainer = MixupTrainer(model, args, mixup=MixupConfig("embedding", class_weights=weights))
    trainer.current_gradient_accumulation_steps = batches
    fake_device.move(model)
    monkeypatch.setattr(TrainingArguments, "device", DEVICE)
    monkeypatch.setattr(trainer.accelerator.state, "device", DEVICE)
    for step in range(STEPS):
        trainer.state.global_step = step
        with FakeDevice() as fake:
            given, items = trainer.get_batch_samples(iter([to_device(batch)] * batches), batches, DEVICE)
            for each in given:
                trainer.compute_loss(model.train(), each, num_items_in_batch=items).backward()
    assert dict(fake.waits) == expected


@pytest.mark.parametrize("name", ragged_models.BUILD)
@pytest.mark.parametrize("settings", [{}, {"method": "cross_modal", "image_mix": "latent"}], ids=str)
def test_a_step_over_images_of_several_sizes_waits_once(name: str, settings: Values) -> None:
    """Where the images lie and how large they are is read together; after a while nothing else is looked at."""
    model, mixup = build(name), Mixup({"method": "mixup", **settings})
    batch = ragged_models.collate(ragged_models.rows(name, 4))
    fake_device.move(model)
    for _ in range(STEPS):
        with FakeDevice() as fake, mixup(model, to_device(batch)) as mixed:
            mixed.loss(model(**mixed.inputs))
    assert fake.waits == {"cpu in _on_host": 1}


def test_a_buffer_that_is_filled_anew_is_read_anew() -> None:
    model, batch = build("siglip2"), ragged_models.collate(ragged_models.rows("siglip2", 4))
    assert layouts(model, batch, tokens=True) is not None
    batch["spatial_shapes"].fill_(2)
    assert layouts(model, batch, tokens=True) is None


def test_shares_that_only_the_device_knows_are_logged_as_others_are() -> None:
    torch.manual_seed(0)
    model, batch = tiny("image-classification", "vit")
    fake_device.move(model)
    logs = []
    for place in (dict, to_device):
        stats = MixStats()
        mixup = Mixup(MixupConfig("saliencymix", prob=0.6, prob_per="sample", self_check=False))
        for _ in range(4):
            with FakeDevice() as fake, mixup(model, place(batch)) as mixed:
                stats.add(**mixed.statistics())
            assert not fake.waits
        logs.append(stats.pop())
    assert isinstance(mixed.lam, OnDevice)
    assert logs[0] == pytest.approx(logs[1])
    assert 0 < logs[0]["mixup_rate"] < 1
