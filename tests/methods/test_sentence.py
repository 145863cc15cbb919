"""Mixup of the vectors before the last layer, against the same by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification

from hf_mixup import Mixup
from tests.conftest import batch_of, build
from tests.methods.texts import SIZES, tagged, tagger


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_sentence_is_a_blend_before_the_last_layer(name: str) -> None:
    model, batch = build(name).double().eval(), batch_of(name)
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    partner, lam = torch.tensor([2, 0, 1, 5, 3, 4]), torch.tensor([0.3, 1.0, 0.0, 0.6, 0.5, 0.9])
    with Mixup("sentence")(model, batch, partner=partner, lam=lam) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)

    def blend(module: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
        share = lam.double()[:, None]
        return share * args[0] + (1 - share) * args[0][partner]

    handle = model.classifier.register_forward_pre_hook(blend)
    logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
    handle.remove()
    labels = batch["labels"]
    pairs = (lam * F.cross_entropy(logits, labels, reduction="none"), (1 - lam) * F.cross_entropy(
        logits, labels[partner], reduction="none"))  # fmt: skip
    expected = sum(pairs).mean()
    torch.testing.assert_close(loss, expected)
    for one, other in zip(found, torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)
    mass = mixed.accuracy()
    hits = logits.argmax(-1)
    assert mass == pytest.approx(float((lam * (hits == labels) + (1 - lam) * (hits == labels[partner])).mean()))


@pytest.mark.parametrize("kind", ["regression", "multi_label_classification"])
def test_sentence_blends_other_targets_too(kind: str) -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=60, num_labels=1 if kind == "regression" else 3, **SIZES)
    model, batch = BertForSequenceClassification(config).eval(), batch_of("bert")
    batch["labels"] = torch.rand(6) if kind == "regression" else torch.rand(6, 3).round()
    with Mixup("sentence")(model, batch, lam=0.3) as mixed:
        outputs = model(**mixed.inputs)
    logits = 0.3 * outputs.logits + 0.7 * outputs.logits[mixed.partner]
    target = 0.3 * batch["labels"] + 0.7 * batch["labels"][mixed.partner]
    expected = (
        F.mse_loss(logits[:, 0], target) if kind == "regression" else F.binary_cross_entropy_with_logits(logits, target)
    )
    torch.testing.assert_close(mixed.loss(outputs), expected)


def test_sentence_refuses_labels_of_tokens() -> None:
    with pytest.raises(ValueError, match=r"one vector a row, found labels \[4, 9\].*use 'embedding'"):
        Mixup("sentence")(tagger(), tagged())
