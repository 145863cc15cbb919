"""Soft labels that a model scores by a loss of its own: it is given the blended ones, in one pass."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.engine.labelled import LabelBatch
from hf_mixup.engine.soft_labels import SoftLabelBatch
from hf_mixup.testing.batches import tiny
from tests import heads, streams
from tests.engine.test_own_loss import OWN, PARTNER, arguments, doubled, losses_of, samples
from tests.entry_points import ENTRY_POINTS


class Scorer(nn.Module):
    """Scores answers, by any loss."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.head, self.loss, self.config = nn.Linear(4, 3), loss, SimpleNamespace(num_labels=3)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head(pixel_values)
        return {"logits": logits} if labels is None else {"loss": self.loss(logits, labels), "logits": logits}


def scores(samples: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"pixel_values": torch.randn(samples, 4), "labels": torch.rand(samples, 3).softmax(-1)}


def divergence(logits: Tensor, labels: Tensor) -> Tensor:
    return F.kl_div(logits.log_softmax(-1), labels, reduction="batchmean")


def many(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels) * labels.shape[1]


def brier(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.softmax(-1) - labels).square().sum(-1).mean()


@pytest.mark.parametrize("loss", [divergence, many, brier, F.cross_entropy])
def test_each_sample_has_its_own_lam(loss: Any) -> None:
    """Against the loss of explicit blends, in float64; the gradient is that of lam of each sample's losses."""
    model, batch = doubled(Scorer(loss), scores())
    lam = torch.tensor([0.0, 0.25, 0.5, 1.0])
    with Mixup("mixup")(model, batch, PARTNER, lam) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    share = lam.double()[:, None]
    blend = {key: share * each + (1 - share) * each[PARTNER] for key, each in batch.items()}
    torch.testing.assert_close(mixed.targets, blend["labels"])
    torch.testing.assert_close(found, model(**blend)["loss"])
    logits = model(blend["pixel_values"])["logits"]
    parts = [
        lam[i].double() * loss(logits[i : i + 1], batch["labels"][i : i + 1])
        + (1 - lam[i].double()) * loss(logits[i : i + 1], batch["labels"][PARTNER[i]][None])
        for i in range(4)
    ]
    one, two = (torch.autograd.grad(each, model.head.weight, retain_graph=True)[0]
                for each in (found, torch.stack(parts).mean()))  # fmt: skip
    torch.testing.assert_close(one, two)


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    return (
        (logits.sigmoid() - labels).abs() ** 2 * F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    ).mean()


def largest(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels.argmax(-1))


def by_positives(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / labels.square().sum()


@pytest.mark.parametrize("loss", [focal, largest, by_positives])
def test_a_loss_that_is_not_linear_in_the_labels_is_refused(loss: Any) -> None:
    model, batch = Scorer(loss), scores()
    with pytest.raises(RuntimeError, match=r"Scorer scores labels \[4, 3\] by a loss of its own.* With loss='own'"):
        Mixup("mixup")(model, batch)
    with Mixup({"method": "mixup", **OWN})(model, batch, PARTNER, 0.3) as mixed:
        found = mixed.loss(model(**mixed.inputs))
    images = 0.3 * batch["pixel_values"] + 0.7 * batch["pixel_values"][PARTNER]
    own, partners = (model(images, each)["loss"] for each in (batch["labels"], batch["labels"][PARTNER]))
    torch.testing.assert_close(found, 0.3 * own + 0.7 * partners)


def test_the_plain_rule_stays_where_it_is_the_models() -> None:
    batch = scores()
    with Mixup("mixup")(Scorer(F.binary_cross_entropy_with_logits), batch) as mixed:
        assert isinstance(mixed, LabelBatch)
    with Mixup("mixup")(Scorer(many), batch) as mixed:
        assert isinstance(mixed, SoftLabelBatch)
    for wish in ({"self_check": False}, {"label_smoothing": 0.1}):
        with Mixup({"method": "mixup", **wish})(Scorer(many), batch) as mixed:
            assert isinstance(mixed, LabelBatch)  # whose loss is asked for


def test_equal_labels_show_whether_it_is_linear() -> None:
    batch = {**scores(), "labels": torch.tensor([[1.0, 0.0, 0.0]]).expand(4, -1)}
    assert Mixup("mixup")(Scorer(many), batch)
    with pytest.raises(RuntimeError, match="With loss='own'"):
        Mixup("mixup")(Scorer(by_positives), {**batch, "labels": 2 * batch["labels"]})


def test_one_sample_is_its_own() -> None:
    model, batch = Scorer(many), scores(1)
    with Mixup("mixup")(model, batch) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    torch.testing.assert_close(loss, model(**batch)["loss"])


def test_methods_with_a_rule_of_their_own_are_refused() -> None:
    with pytest.raises(ValueError, match="method 'regmixup' has a rule of its own for labels"):
        Mixup("regmixup")(Scorer(many), scores())


def test_the_batch_is_left_as_it_is_and_the_configuration_too() -> None:
    model, batch = streams.make(streams.vilt_answers)
    before = {key: value.clone() for key, value in batch.items()}
    with Mixup("manifold")(model, batch) as mixed:
        mixed.loss(model(**mixed.inputs))
    assert all(torch.equal(value, before[key]) for key, value in batch.items())
    assert model.config.problem_type is None


class Blended(nn.Module):
    """Blends the answers of the flipped batch, as the mixed model does, and nothing else."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixel_values: Tensor, labels: Tensor) -> Any:
        return self.inner(*(0.3 * each + 0.7 * each.flip(0) for each in (pixel_values, labels)))


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_entry_point_ends_where_explicit_blends_end(entry_point: str, tmp_path: Path) -> None:
    batch = scores()
    mixed = Scorer(many)
    plain = Blended(deepcopy(mixed))
    config = MixupConfig("mixup", lam=0.3, pairing="flip")
    args = arguments(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    trainer = ENTRY_POINTS[entry_point](mixed, args, config, train_dataset=samples(batch), eval_dataset=samples(batch))
    trainer.train()
    other = Trainer(plain, args, train_dataset=samples(batch))
    other.train()
    assert losses_of(trainer) == pytest.approx(losses_of(other), rel=1e-5)
    torch.testing.assert_close(mixed.state_dict(), plain.inner.state_dict())
    mixed.eval()
    clean = float(mixed(**batch)["loss"])
    assert trainer.evaluate()["eval_loss"] == pytest.approx(clean, rel=1e-5)  # evaluation is not mixed


def test_the_loss_of_visual_question_answering_falls(tmp_path: Path) -> None:
    model, batch = streams.make(streams.vilt_answers)
    args = arguments(tmp_path, max_steps=12, optim="adamw_torch")
    trainer = MixupTrainer(model, args, mixup=MixupConfig("manifold", alpha=0.2), train_dataset=samples(batch))
    trainer.train()
    assert losses_of(trainer)[-1] < losses_of(trainer)[0]


def test_several_labels_of_a_classifier_keep_their_rule() -> None:
    model, batch = tiny("sequence-classification", "bert")
    model.config.problem_type = "multi_label_classification"
    labels = torch.rand(4, model.config.num_labels).round()
    with Mixup("embedding")(model, {**batch, "labels": labels}) as mixed:
        assert isinstance(mixed, LabelBatch)


def test_heads_with_soft_labels_run_once() -> None:
    model, batch = streams.make(heads.visual_bert_answers)
    mixup = Mixup("embedding")
    mixup(model, batch)  # the model is looked at once
    calls: list[Any] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    with mixup(model, batch) as mixed:
        mixed.loss(model(**mixed.inputs))
    assert len(calls) == 1
