"""Methods for image-text pairs: losses, targets, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import default_data_collator

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.engine.caption_ids import caption_keys
from tests.conftest import batch_of, build, examples
from tests.methods.pairs import mixup_of, symmetric_loss
from tests.settings import PAIR_CASES, PAIR_METHODS


def test_a_batch_left_alone_has_the_plain_loss_of_pairs() -> None:
    model, batch = build("clip").eval(), batch_of("clip")
    plain = symmetric_loss(model(**batch).logits_per_image, torch.eye(6))
    for method, extra in (("m2", {"loss_weight": 0.5}), ("geodesic", {"loss_weight": 0.5}), ("geodesic", {})):
        with mixup_of(method, **extra)(model, batch, lam=1.0) as mixed:
            loss = mixed.loss(mixed.forward(model))
        assert mixed.rate == 0
        torch.testing.assert_close(loss.double(), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("method", "extra"), PAIR_CASES)
def test_every_method_trains(method: str, extra: dict[str, Any]) -> None:
    """Finite gradients in both encoders, the batch as it was, and one accuracy between 0 and 1."""
    model, batch = build("clip"), batch_of("clip", rows=5)
    before = {key: value.clone() for key, value in batch.items()}
    with mixup_of(method, **extra)(model, batch) as mixed:
        outputs = mixed.forward(model)
    mixed.loss(outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    assert model.text_projection.weight.grad.abs().sum() > 0
    assert model.visual_projection.weight.grad.abs().sum() > 0
    assert all(torch.equal(batch[key], value) for key, value in before.items())
    assert 0 <= float(mixed.accuracy()) <= 1
    torch.testing.assert_close(mixed.targets.sum(-1), torch.ones(5))


@pytest.mark.parametrize("method", PAIR_METHODS)
def test_one_pair_alone(method: str) -> None:
    model, batch = build("clip"), batch_of("clip", rows=1)
    with mixup_of(method)(model, batch) as mixed:
        outputs = mixed.forward(model)
    assert float(mixed.loss(outputs)) == pytest.approx(0, abs=1e-5)


def test_equal_captions_and_equal_ids_are_positives() -> None:
    model, batch = build("clip").eval(), batch_of("clip", rows=4)
    batch["input_ids"][2], batch["attention_mask"][2] = batch["input_ids"][0], batch["attention_mask"][0]
    batch["pair_ids"] = torch.tensor([1, 5, 2, 5])
    expected = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]) / 2
    with mixup_of("cross_modal")(model, batch, lam=1.0) as mixed:
        outputs = mixed.forward(model)
    torch.testing.assert_close(mixed.targets, expected)
    torch.testing.assert_close(mixed.loss(outputs).double(), symmetric_loss(outputs.logits_per_image, expected))
    with mixup_of("cross_modal", duplicates=False)(model, batch, lam=1.0) as mixed:
        mixed.forward(model)
    torch.testing.assert_close(mixed.targets, torch.eye(4))


def test_evaluation_keeps_embeddings_and_never_mixes(arguments: Any) -> None:
    model, data = build("clip"), examples("clip", 9)
    trainer = MixupTrainer(model, arguments(max_steps=1), train_dataset=data, eval_dataset=data, mixup="cross_modal")
    trainer.train()
    found = trainer.predict(data)
    image, text, head = found.predictions
    model.eval()
    batch = default_data_collator(data)
    outputs = model(**batch, return_loss=True)
    np.testing.assert_allclose(image, outputs.image_embeds.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(text, outputs.text_embeds.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(head, np.tile([model.logit_scale.exp().item(), 0.0], (9, 1)), rtol=1e-6)
    expected = caption_keys(batch["input_ids"], batch["attention_mask"]).numpy()
    assert np.array_equal(found.label_ids, expected)
    one_batch = MixupTrainer(model, arguments(per_device_eval_batch_size=9), eval_dataset=data, mixup="cross_modal")
    assert one_batch.evaluate()["eval_loss"] == pytest.approx(outputs.loss.item(), rel=1e-5)


def test_temperature_is_set_and_held(arguments: Any) -> None:
    model = build("clip")
    data = examples("clip", 8)
    config = MixupConfig("cross_modal", temperature=0.05, learn_temperature=False)
    MixupTrainer(model, arguments(), mixup=config, train_dataset=data).train()
    assert model.logit_scale.exp().item() == pytest.approx(20)
    model = build("clip")
    MixupTrainer(model, arguments(), mixup=MixupConfig("cross_modal", temperature=0.05), train_dataset=data).train()
    assert model.logit_scale.exp().item() != pytest.approx(20, rel=1e-6)


def test_label_smoothing_is_the_controls(arguments: Any) -> None:
    model, batch = build("clip").eval(), batch_of("clip")
    with mixup_of("cross_modal", label_smoothing=0.1)(model, batch, lam=1.0) as mixed:
        outputs = mixed.forward(model)
    expected = (
        F.cross_entropy(outputs.logits_per_image, torch.arange(6), label_smoothing=0.1)
        + F.cross_entropy(outputs.logits_per_text, torch.arange(6), label_smoothing=0.1)
    ) / 2
    torch.testing.assert_close(mixed.loss(outputs), expected)


def test_the_loss_can_be_chosen() -> None:
    model, batch = build("clip").eval(), batch_of("clip")
    with mixup_of("cross_modal", loss="sigmoid")(model, batch, lam=1.0) as mixed:
        outputs = mixed.forward(model)
    signs = 2 * torch.eye(6) - 1
    expected = -F.logsigmoid(signs * outputs.logits_per_image).sum(-1).mean()
    torch.testing.assert_close(mixed.loss(outputs), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": None}, "no captions"),
        ({"pixel_values": None}, "no image or audio or video"),
        ({"labels": torch.zeros(6, dtype=torch.long)}, "call them 'pair_ids'"),
        ({"pixel_values": torch.zeros(5, 3, 16, 16)}, r"6 captions, but pixel_values \[5, 3, 16, 16\]"),
        ({"pair_ids": torch.zeros(4, dtype=torch.long)}, r"6 captions, but pair_ids \[4\]"),
    ],
)
def test_batches_that_are_no_pairs(change: dict[str, Any], message: str) -> None:
    batch = {key: value for key, value in {**batch_of("clip"), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        mixup_of("cross_modal")(build("clip"), batch)


def test_captions_longer_than_the_encoder_takes_are_named() -> None:
    batch = batch_of("clip")
    batch["input_ids"] = torch.cat([batch["input_ids"]] * 2, dim=1)
    batch["attention_mask"] = torch.cat([batch["attention_mask"], torch.zeros(6, 10, dtype=torch.long)], dim=1)
    batch["attention_mask"][4] = 1
    with pytest.raises(ValueError, match=r"row 4 .* 20 tokens, and the text encoder of CLIPModel takes 16"):
        mixup_of("cross_modal")(build("clip"), batch)


def test_batches_of_one_pair_teach_nothing(arguments: Any) -> None:
    args = arguments(per_device_train_batch_size=1)
    with pytest.raises(ValueError, match="a pair alone has no other"):
        MixupTrainer(build("clip"), args, mixup="cross_modal", train_dataset=examples("clip", 4))


def test_methods_and_models_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="does not mix pairs: use one of cross_modal"):
        Mixup("cutmix")(build("clip"), batch_of("clip"))
    with pytest.raises(ValueError, match="ViTForImageClassification is no dual encoder"):
        Mixup("cross_modal")(build("vit"), batch_of("vit"))
    with pytest.raises(ValueError, match="has to know the tokenizer"):
        Mixup("mixgen")(build("clip"), batch_of("clip")).__enter__()
    with pytest.raises(ValueError, match="do not go together"):
        Mixup({"method": "switch", "methods": ["mixup", "cross_modal"]})
    with pytest.raises(ValueError, match="use method='cross_modal'"):
        Mixup({"method": "one_sided", "side": "both"})


def test_switch_between_methods_for_pairs() -> None:
    model, batch = build("clip"), batch_of("clip")
    mixup = mixup_of("switch", methods=["cross_modal", "geodesic", "mixgen"])
    chosen = set()
    for _ in range(12):
        with mixup(model, batch) as mixed:
            outputs = mixed.forward(model)
        assert torch.isfinite(mixed.loss(outputs))
        chosen.add(mixed.draw.method)
    assert chosen == {"cross_modal", "geodesic", "mixgen"}


def test_a_model_that_was_never_run_is_noticed() -> None:
    model, batch = build("clip"), batch_of("clip")
    outputs = copy.deepcopy(model)(**batch)
    with mixup_of("cross_modal")(model, batch) as mixed:
        pass
    with pytest.raises(RuntimeError, match="did not pass the place"):
        mixed.loss(outputs)


def test_partners_with_another_caption() -> None:
    model, batch = build("clip"), batch_of("clip")
    batch["input_ids"][1], batch["attention_mask"][1] = batch["input_ids"][0], batch["attention_mask"][0]
    keys = caption_keys(batch["input_ids"], batch["attention_mask"])
    mixup = mixup_of("cross_modal", pair_class="different")
    for _ in range(10):
        with mixup(model, batch) as mixed:
            assert (keys[mixed.partner] != keys).all()
