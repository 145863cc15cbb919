"""Label smoothing with every form of target, against sums over classes in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BertForQuestionAnswering,
    BertForTokenClassification,
    BertLMHeadModel,
)

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from tests.conftest import CLASSES, CONFIGS, batch_of, build, examples
from tests.entry_points import ENTRY_POINTS
from tests.streams import llava

PARTNER, LAM, SMOOTHING = torch.tensor([3, 4, 5, 0, 2, 1]), torch.tensor([0.9, 0.2, 1.0, 0.7, 0.35, 0.6]), 0.3


def smoothed_loss(scores: Tensor, label: int, bce: bool = False) -> Tensor:
    """The loss of one place against its smoothed label: s / C on each class, 1 - s more on the label."""
    count, scores = len(scores), scores.double()
    total = torch.zeros((), dtype=torch.float64)
    for c in range(count):
        target = SMOOTHING / count + (1 - SMOOTHING) * (c == label)
        if bce:
            total = total - target * scores[c].sigmoid().log() - (1 - target) * (1 - scores[c].sigmoid()).log()
        else:
            total = total - target * (scores[c] - scores.logsumexp(0))
    return total


def text_model(form: str) -> tuple[Any, dict[str, Tensor]]:
    kinds = {"tokens": BertForTokenClassification, "spans": BertForQuestionAnswering, "next": BertLMHeadModel}
    torch.manual_seed(0)
    config = CONFIGS["bert"](is_decoder=form == "next")
    config.num_labels = 2 if form == "spans" else CLASSES
    model, batch = kinds[form](config).eval(), batch_of("bert")
    del batch["labels"]
    places = torch.randint(0, CLASSES, (6, 10))
    if form == "spans":
        return model, {**batch, "start_positions": places[:, 0], "end_positions": places[:, 1]}
    return model, {**batch, "labels": places.where(torch.rand(6, 10) < 0.7, -100)}


@pytest.mark.parametrize("form", ["rows", "bce", "tokens", "spans", "next"])
def test_both_labels_of_a_mixed_row_are_smoothed(form: str) -> None:
    if form in ("rows", "bce"):
        model, batch = build("vit").eval(), batch_of("vit")
    else:
        model, batch = text_model(form)
    settings = {"loss": "bce"} if form == "bce" else {}
    method = "mixup" if form in ("rows", "bce") else "embedding"
    mixup = Mixup({"method": method, "label_smoothing": SMOOTHING, **settings})
    with mixup(model, batch, partner=PARTNER, lam=LAM) as mixed:
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    if form == "spans":
        labels = torch.stack([batch["start_positions"], batch["end_positions"]], 1)
        scores = torch.stack([outputs.start_logits, outputs.end_logits], 1)
    else:
        labels, scores = batch["labels"], outputs.logits
        labels, scores = (labels[:, 1:], scores[:, :-1]) if form == "next" else (labels, scores)
    labels, scores = labels.reshape(6, -1), scores.reshape(6, -1, scores.shape[-1])
    total = torch.zeros((), dtype=torch.float64)
    for row in range(6):
        for place in range(labels.shape[1]):
            for label, share in ((labels[row, place], LAM[row]), (labels[PARTNER[row], place], 1 - LAM[row])):
                if label != -100:
                    total = total + float(share) * smoothed_loss(scores[row, place], int(label), form == "bce")
    items = (labels != -100).sum() * (CLASSES if form == "bce" else 1)
    torch.testing.assert_close(loss.double(), total / items, rtol=1e-5, atol=1e-6)


def test_several_labels_a_row_are_smoothed_each_by_itself_and_numbers_are_refused() -> None:
    model, batch = build("vit").eval(), batch_of("vit")
    batch["labels"] = torch.rand(6, CLASSES).round()
    mixup = Mixup({"method": "mixup", "label_smoothing": SMOOTHING})
    with mixup(model, batch, partner=PARTNER, lam=LAM) as mixed:
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    probability, total = outputs.logits.double().sigmoid(), 0.0
    for row in range(6):
        for c in range(CLASSES):
            own, other = (float(batch["labels"][r, c]) * (1 - SMOOTHING) + SMOOTHING / 2 for r in (row, PARTNER[row]))
            target = float(LAM[row]) * own + (1 - float(LAM[row])) * other
            assert float(mixed.targets[row, c]) == pytest.approx(target, abs=1e-6)
            total = total - target * probability[row, c].log() - (1 - target) * (1 - probability[row, c]).log()
    torch.testing.assert_close(loss.double(), total / (6 * CLASSES), rtol=1e-5, atol=1e-6)
    model.config.problem_type = "regression"
    with mixup(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    with pytest.raises(ValueError, match=r"label_smoothing=0\.3 does not go with labels for regression"):
        mixed.loss(outputs)


def several(
    arguments: Any, entry_point: str, declared: bool, mixup: dict[str, Any] | None = None, **settings: Any
) -> Any:
    """Train on several labels a sample, each a choice of its own; the loss of the first step is logged."""
    kind = {"problem_type": "multi_label_classification"} if declared else {}
    model = build("resnet", **kind)
    rows, g = examples("resnet", 4), torch.Generator().manual_seed(0)
    for row in rows:
        row["labels"] = torch.rand(CLASSES, generator=g).round()
    args = arguments(max_steps=1, logging_strategy="steps", logging_steps=1, **settings)
    config = MixupConfig("mixup", lam=0.0, pairing="roll", **(mixup or {}))
    return ENTRY_POINTS[entry_point](model, args, config, train_dataset=rows, eval_dataset=rows)


def smoothed_by_hand() -> float:
    model = build("resnet").train()
    g, rows = torch.Generator().manual_seed(0), examples("resnet", 4)
    logits = model(torch.stack([row["pixel_values"] for row in rows])).logits.detach().double()
    total = 0.0
    for scores in logits:
        for score, label in zip(scores, torch.rand(CLASSES, generator=g).round()):
            target = SMOOTHING / 2 + (1 - SMOOTHING) * label
            total -= float(target * score.sigmoid().log() + (1 - target) * (-score).sigmoid().log())
    return total / logits.numel()


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("entry_point", ["trainer", "adopted", "callback"])
def test_the_trainers_smoothing_of_several_labels(entry_point: str, declared: bool, arguments: Any) -> None:
    """As MixupConfig.label_smoothing; evaluation has the model's own loss, which the Trainer's smoother cannot take."""
    trainer = several(arguments, entry_point, declared, label_smoothing_factor=SMOOTHING)
    if entry_point == "callback" and not declared:
        with pytest.raises(ValueError, match=r"label_smoothing_factor=0.3: .*Set label_smoothing=0.3 in MixupConfig"):
            trainer.train()
        return
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(smoothed_by_hand(), rel=1e-5)
    plain = several(arguments, "trainer", declared)
    plain.model.load_state_dict(trainer.model.state_dict())
    assert trainer.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]
    assert (trainer.label_smoother is None) == declared


@pytest.mark.parametrize("entry_point", ["trainer", "adopted", "callback"])
def test_two_smoothings_that_differ(entry_point: str, arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"label_smoothing_factor=0.3 and MixupConfig.label_smoothing=0.1 differ"):
        several(arguments, entry_point, True, {"label_smoothing": 0.1}, label_smoothing_factor=SMOOTHING).train()


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_the_mixup_configs_smoothing_of_several_labels(entry_point: str, arguments: Any) -> None:
    trainer = several(arguments, entry_point, True, {"label_smoothing": SMOOTHING})
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(smoothed_by_hand(), rel=1e-5)


def test_the_trainers_smoothing_of_next_tokens_behind_an_image(arguments: Any) -> None:
    """The plain Trainer shifts the labels of language models alone, by their names, and not those of a LLaVA."""
    model, batch = llava()
    trainer = MixupTrainer(model, arguments(label_smoothing_factor=SMOOTHING), mixup=MixupConfig("mixup", alpha=0))
    logits = model.eval()(**batch).logits
    places = [(row, place) for row in range(len(logits)) for place in range(logits.shape[1] - 1)]
    counted = [each for each in places if batch["labels"][each[0], each[1] + 1] != -100]
    expected = sum(smoothed_loss(logits[row, place], int(batch["labels"][row, place + 1])) for row, place in counted)
    for training in (True, False):
        loss = trainer.compute_loss(model.train(training), dict(batch))
        torch.testing.assert_close(loss.double(), expected / len(counted), rtol=1e-5, atol=0)
