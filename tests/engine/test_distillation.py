"""Distillation: the teacher's scores on the same mixed batch, against the same by hand."""

from __future__ import annotations

import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BertForMaskedLM,
    BertForTokenClassification,
    DistilBertForMaskedLM,
    DistilBertForTokenClassification,
)

from hf_mixup import EMACallback, Mixup, MixupCollator, MixupConfig, MixupTrainer
from hf_mixup.integrations.trl import BATCH_TYPES, refuse_settings
from tests.conftest import CLASSES, CONFIGS, batch_of, build, examples
from tests.entry_points import ENTRY_POINTS

PARTNER = torch.tensor([3, 4, 5, 0, 2, 1])
LAM = torch.tensor([0.9, 0.2, 1.0, 0.7, 0.35, 0.6])


def distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of two vectors of logits, in double precision."""
    p = (teacher.double() / temperature).softmax(-1)
    q = (student.double() / temperature).softmax(-1)
    return temperature**2 * sum(a * (a / b).log() for a, b in zip(p, q))


def blended_distance(student: Tensor, own: Tensor, other: Tensor, lam: float, temperature: float) -> Tensor:
    p = lam * (own.double() / temperature).softmax(-1) + (1 - lam) * (other.double() / temperature).softmax(-1)
    q = (student.double() / temperature).softmax(-1)
    return temperature**2 * sum(a * (a / b).log() for a, b in zip(p, q))


class Spied(nn.Module):
    """A teacher that remembers what it was given."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config, self.seen = model, model.config, []

    def forward(self, pixel_values: Tensor) -> Any:
        self.seen.append(pixel_values.clone())
        return self.model(pixel_values=pixel_values)


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_both_models_see_the_same_mixed_images(method: str, weight: float) -> None:
    model, teacher, batch = build("vit").eval(), Spied(build("resnet", seed=3).train()), batch_of("vit")
    batch["labels"][1] = -100  # no label: nothing counts of it
    settings = {"distill_weight": weight, "distill_temperature": 3.0, "label_smoothing": 0.2, "self_check": False}
    mixup = Mixup({"method": method, **settings}, teacher=teacher)
    with mixup(model, batch, partner=PARTNER, lam=LAM) as mixed:
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    assert torch.equal(teacher.seen[0], mixed.inputs["pixel_values"])
    taught, total = teacher.model(teacher.seen[0]).logits, torch.zeros((), dtype=torch.float64)
    for row in range(6):
        own, other, lam = batch["labels"][row], batch["labels"][PARTNER[row]], float(mixed.lam[row])
        mass = lam * float(own != -100) + (1 - lam) * float(other != -100)
        for label, share in ((own, lam), (other, 1 - lam)):
            if label != -100:  # smoothing is the labels' alone
                ce = F.cross_entropy(outputs.logits[row].double(), label, label_smoothing=0.2)
                total = total + (1 - weight) * share * ce
        total = total + weight * mass * distance(outputs.logits[row], taught[row], 3.0)
    torch.testing.assert_close(loss.double(), total / 5, rtol=1e-5, atol=1e-6)
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert mixed.targets.shape == (6, CLASSES)  # of the labels, as ever


def test_blends_inside_the_model_blend_what_the_teacher_says_of_both_rows() -> None:
    model, teacher, batch = build("vit").eval(), build("resnet", seed=3), batch_of("vit")
    mixup = Mixup({"method": "manifold", "distill_weight": 1.0, "distill_temperature": 2.0}, teacher=teacher)
    with mixup(model, batch, partner=PARTNER, lam=LAM) as mixed:
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    taught = teacher.eval()(batch["pixel_values"]).logits
    rows = [blended_distance(outputs.logits[r], taught[r], taught[PARTNER[r]], float(LAM[r]), 2.0) for r in range(6)]
    torch.testing.assert_close(loss.double(), sum(rows) / 6, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", ["tokens", "vocabulary"])
def test_each_labelled_token_is_distilled(head: str) -> None:
    """The teacher is another architecture, which takes no token_type_ids; rows differ in length and in labels."""
    made = {
        "tokens": (BertForTokenClassification, DistilBertForTokenClassification),
        "vocabulary": (BertForMaskedLM, DistilBertForMaskedLM),
    }
    torch.manual_seed(0)
    model, teacher = (kind(CONFIGS[name]()) for kind, name in zip(made[head], ("bert", "distilbert")))
    batch = batch_of("bert", lengths=True)
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    labels = torch.randint(4, (6, 10)).where(batch["attention_mask"].bool(), -100)
    labels[:, 2] = -100
    batch["labels"] = labels
    mixup = Mixup({"method": "embedding", "distill_weight": 0.5}, teacher=teacher)
    with mixup(model, batch, partner=PARTNER, lam=LAM) as mixed:
        scores = model(**mixed.inputs).logits
        loss = mixed.loss(scores)
    plain = {key: batch[key] for key in ("input_ids", "attention_mask")}
    taught, total = teacher(**plain).logits, torch.zeros((), dtype=torch.float64)
    for row in range(6):
        for place in range(10):
            own, other = labels[row, place], labels[PARTNER[row], place]
            a, b = float(LAM[row] * (own != -100)), float((1 - LAM[row]) * (other != -100))
            if a + b > 0:
                pair = taught[row, place], taught[PARTNER[row], place]
                total = total + 0.5 * (a + b) * blended_distance(scores[row, place], *pair, a / (a + b), 2.0)
            for label, share in ((own, a), (other, b)):
                if share:
                    total = total + 0.5 * share * F.cross_entropy(scores[row, place].double(), label)
    torch.testing.assert_close(loss.double(), total / (labels != -100).sum(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["multi_label", "bce", "regression", "class_weights"])
def test_other_problem_types(kind: str) -> None:
    settings: dict[str, Any] = {"loss": "bce"} if kind == "bce" else {}
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    if kind == "class_weights":
        settings["class_weights"] = weights.tolist()
    model, teacher, batch = build("vit").eval(), build("vit", seed=3), batch_of("vit")
    if kind == "multi_label":
        batch["labels"] = torch.rand(6, CLASSES).round()
    if kind == "regression":
        model.config.problem_type, batch["labels"] = "regression", torch.rand(6, CLASSES)
    mixup = Mixup({"method": "mixup", "distill_weight": 1.0, "self_check": False, **settings}, teacher=teacher)
    with mixup(model, batch, partner=PARTNER, lam=LAM) as mixed:
        scores = model(**mixed.inputs).logits
        loss = mixed.loss(scores)
    taught = teacher(**mixed.inputs).logits.double()
    p, q = (taught / 2).sigmoid(), (scores.double() / 2).sigmoid()
    if kind == "regression":
        expected = (scores - taught).square().mean()
    elif kind == "class_weights":
        mass = LAM * weights[batch["labels"]] + (1 - LAM) * weights[batch["labels"][PARTNER]]
        each = torch.stack([distance(scores[row], taught[row], 2.0) for row in range(6)])
        expected = (mass * each).sum() / weights[batch["labels"]].sum()
    else:
        expected = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    torch.testing.assert_close(loss.double(), expected.double(), rtol=1e-5, atol=1e-6)


def test_regmixup_is_distilled_on_clean_and_mixed_rows() -> None:
    model, teacher, batch = build("vit").eval(), build("vit", seed=3), batch_of("vit")
    mixup = Mixup({"method": "regmixup", "distill_weight": 1.0, "loss_weight": 0.5}, teacher=teacher)
    with mixup(model, batch, partner=PARTNER, lam=LAM) as mixed:
        scores = model(**mixed.inputs).logits
        loss = mixed.loss(scores)
    taught = teacher(**mixed.inputs).logits
    each = torch.stack([distance(*pair, 2.0) for pair in zip(scores, taught)])
    torch.testing.assert_close(loss.double(), (each[:6].sum() + 0.5 * each[6:].sum()) / 6, rtol=1e-5, atol=1e-6)


def test_a_teacher_that_agrees_costs_nothing_and_takes_low_precision() -> None:
    model, batch = build("vit").eval(), batch_of("vit")
    for teacher, limit in ((deepcopy(model), 1e-6), (deepcopy(model).bfloat16(), 0.05)):
        mixup = Mixup({"method": "mixup", "distill_weight": 1.0}, teacher=teacher)
        with mixup(model, batch) as mixed:
            assert mixed.loss(model(**mixed.inputs)).item() < limit


def test_accumulated_batches_are_one_batch(arguments: Any) -> None:
    """Unmixed rows (prob = 0) are distilled too, and two batches of four are one of eight."""
    found = []
    for size, steps in ((8, 1), (4, 2)):
        args = arguments(
            per_device_train_batch_size=size, gradient_accumulation_steps=steps, optim="sgd", learning_rate=0.1
        )
        config = MixupConfig(prob=0.0, distill_weight=0.7)
        model = build("vit")
        MixupTrainer(
            model, args, mixup=config, teacher=build("resnet", seed=3), train_dataset=examples("vit", 16)
        ).train()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    plain = torch.cat([p.detach().flatten() for p in build("vit").parameters()])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=2e-6)
    assert (found[0] - plain).abs().max() > 1e-4


@pytest.mark.parametrize("entry_point", ["trainer", "collator", "callback"])
def test_every_entry_point_asks_the_teacher_in_training_only(
    entry_point: str, arguments: Any, monkeypatch: Any
) -> None:
    """The teacher stays as it was (batch statistics, mode) and is in no checkpoint; the run's random state, too."""
    teacher = Spied(build("resnet", seed=3).train())
    before = deepcopy(teacher.state_dict())
    wanted = {"callback": "MixupCallback", "collator": "MixupCollator"}.get(entry_point)
    if wanted is not None:
        import tests.entry_points as entry_points

        kind = getattr(entry_points, wanted)
        monkeypatch.setattr(entry_points, wanted, lambda *a, **k: kind(*a, **k, teacher=teacher))
    kwargs = {"teacher": teacher} if wanted is None else {}
    args = arguments(save_strategy="epoch", eval_strategy="epoch", label_names=["labels"])
    model, rows = build("resnet"), examples("resnet", 8)
    trainer = ENTRY_POINTS[entry_point](
        model, args, MixupConfig("cutmix"), train_dataset=rows, eval_dataset=rows, **kwargs
    )
    trainer.train()
    assert len(teacher.seen) == 2  # two steps; none in evaluation
    assert not teacher.training
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    checkpoint = Path(args.output_dir) / "checkpoint-2"
    if entry_point != "collator":  # which saves no settings
        assert MixupConfig.from_pretrained(checkpoint).distill_weight == 0.5
    fresh = type(model).from_pretrained(checkpoint)
    assert set(fresh.state_dict()) == set(build("resnet").state_dict())


def test_weight_0_is_training_without_a_teacher(arguments: Any) -> None:
    found = []
    for settings in ({}, {"teacher": Spied(build("resnet", seed=3))}):
        model = build("resnet")
        config = MixupConfig("mixup", distill_weight=0.0)
        MixupTrainer(model, arguments(), mixup=config, train_dataset=examples("resnet", 8), **settings).train()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        if settings:
            assert not settings["teacher"].seen
    assert torch.equal(*found)


def test_a_worker_is_sent_no_teacher() -> None:
    collator = MixupCollator(mixup="mixup", teacher=build("resnet"), model=build("vit"))
    assert pickle.loads(pickle.dumps(collator)).mixup.teacher is None
    assert collator.mixup.teacher is not None


def test_what_cannot_teach_is_refused_before_the_first_step(arguments: Any) -> None:
    def train(model: Any, teacher: Any, rows: str = "resnet", **settings: Any) -> None:
        MixupTrainer(model, arguments(), mixup=settings or None, teacher=teacher, train_dataset=examples(rows, 8))

    model = build("resnet")
    with pytest.raises(TypeError, match="teacher=str: expected a model"):
        train(model, "resnet-50")
    with pytest.raises(ValueError, match="are one object"):
        train(model, model)
    other = build("resnet")
    other.config.num_labels = 7
    with pytest.raises(ValueError, match="the model ResNetForImageClassification score 7 and 4 classes"):
        train(model, other)
    other = build("resnet")
    other.config.id2label = {0: "LABEL_1", 1: "LABEL_0", 2: "LABEL_2", 3: "LABEL_3"}
    with pytest.raises(ValueError, match="another order \\(class 0 is 'LABEL_1' and 'LABEL_0'\\)"):
        train(model, other)
    with pytest.raises(ValueError, match="CLIPModel is a dual encoder, whose pairs take no teacher"):
        train(build("clip"), build("clip", seed=1), "clip", method="cross_modal")
    with pytest.raises(ValueError, match="method 'intra' blends inside the model by a rule of its own"):
        train(build("bert"), build("bert", seed=1), "bert", method="intra")
    with pytest.raises(ValueError, match="distill_weight=0\\.5 needs a teacher"):
        train(model, None, distill_weight=0.5)
    with pytest.raises(ValueError, match="distill_weight does not go with mixing in SFTTrainer"):
        refuse_settings(
            BATCH_TYPES["SFTConfig"],
            type("SFTConfig", (), {"label_smoothing_factor": 0})(),
            MixupConfig(distill_weight=0.5),
        )
    with pytest.raises(ValueError, match=r"distill_temperature=0.0: expected a number above 0"):
        MixupConfig(distill_temperature=0)
    with pytest.raises(ValueError, match="distill_weight=1\\.5"):
        MixupConfig(distill_weight=1.5)
    odd = nn.Module()
    odd.layer, odd.forward = nn.Linear(1, 1), lambda pixel_values: torch.zeros(len(pixel_values), 9)
    with Mixup("mixup", teacher=odd)(model, batch_of("resnet")) as mixed:
        outputs = model(**mixed.inputs)
    with pytest.raises(ValueError, match=r"the teacher's logits are \[6, 9\], the model's \[6, 4\]"):
        mixed.loss(outputs)


def test_smoothing_teacher_and_average_go_together(arguments: Any) -> None:
    """Smoothing is the labels' alone, the teacher's scores stay as sharp as they are, the average follows both."""
    found = {}
    for smoothing in (0.0, 0.3):
        for weight in (0.4, 1.0):
            model, average = build("vit"), EMACallback(decay=0.5)
            trainer = MixupTrainer(
                model,
                arguments(max_steps=2, label_smoothing_factor=smoothing),
                mixup={"method": "cutmix", "distill_weight": weight},
                teacher=build("resnet", seed=3),
                train_dataset=examples("vit", 8),
                callbacks=[average],
            )
            trainer.train()
            assert trainer.mixup.config.label_smoothing == smoothing
            found[smoothing, weight] = torch.cat([value.flatten() for value in average.average.values()])
    assert torch.equal(found[0.0, 1.0], found[0.3, 1.0])
    assert not torch.equal(found[0.0, 0.4], found[0.3, 0.4])
