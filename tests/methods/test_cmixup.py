"""C-Mixup: rows blended with rows near in label, for texts, images and tables."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

from hf_mixup import Mixup, MixupConfig
from hf_mixup.methods.base import Request
from tests.methods.inputs import Named, table


def test_cmixup_swaps_categories_between_rows_near_in_label() -> None:
    batch = {**table(), "labels": torch.tensor([0.0, 0.1, 5.0, 5.1, 9.0, 9.1])}
    labels = batch.pop("labels")
    mixing = MixupConfig("cmixup", label_bandwidth=0.2, lam=0.5).mixing
    draw = mixing.draw(Request(Named(), batch, labels, 1.0, torch.Generator().manual_seed(0)))
    assert draw.partner.tolist() == [1, 0, 3, 2, 5, 4]
    mixed = mixing.apply(Named(), batch, draw, False)
    near = torch.arange(6) // 2
    assert (mixed["categorical_values"] // 2 == near[:, None]).all()
    assert not torch.equal(mixed["categorical_values"], batch["categorical_values"])


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "num_labels": 1}
SCORES = torch.tensor([0.0, 9.0, 5.0, 9.1, 0.1, 5.1])
NEAREST = [4, 3, 5, 1, 0, 2]


def text() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=40, max_position_embeddings=16, **SMALL))
    ids = torch.randint(5, 40, (6, 7))
    return model.eval(), {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": SCORES}


def images() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, **SMALL))
    return model.eval(), {"pixel_values": torch.randn(6, 3, 8, 8), "labels": SCORES[:, None]}


@pytest.mark.parametrize(("task", "same"), [(text, "embedding"), (images, "mixup")])
def test_it_blends_as_the_plain_method_with_near_partners(task: Any, same: str) -> None:
    model, batch = task()
    with Mixup(MixupConfig(method="cmixup", label_bandwidth=0.5, lam=0.3))(model, batch) as mixed:
        assert mixed.partner.tolist() == NEAREST
        outputs = model(**mixed.inputs)
    with Mixup(same)(model, batch, partner=torch.tensor(NEAREST), lam=0.3) as plain:
        torch.testing.assert_close(outputs.logits, model(**plain.inputs).logits)
    expected = 0.3 * SCORES + 0.7 * SCORES[NEAREST]
    torch.testing.assert_close(mixed.loss(outputs), (outputs.logits[:, 0] - expected).square().mean())
    for inplace in (False, True):
        copy = {key: value.clone() for key, value in batch.items()}
        with Mixup(MixupConfig(method="cmixup", label_bandwidth=50.0))(model, copy, inplace=inplace) as mixed:
            mixed.loss(model(**mixed.inputs))
        if not inplace:
            assert all(torch.equal(copy[key], batch[key]) for key in batch)


def test_a_switch_may_choose_it() -> None:
    model, batch = images()
    config = MixupConfig(method="switch", methods=["cmixup"], label_bandwidth=0.5)
    with Mixup(config)(model, batch) as mixed:
        assert mixed.partner.tolist() == NEAREST


def test_it_refuses_classes_and_pairs() -> None:
    model, batch = images()
    method = Mixup(MixupConfig(method="cmixup")).method
    request = Request(model, batch, torch.zeros(6, dtype=torch.long), 1.0, torch.Generator())
    with pytest.raises(ValueError, match=r"int64.*regression.*'manifold'"):
        method.draw(request)
    for knobs in ({"pairing": "flip"}, {"pair_class": "same"}, {"lam_per": "pair"}):
        with pytest.raises(ValueError, match=next(iter(knobs))):
            Mixup(MixupConfig(method="cmixup", **knobs))
