"""One loss scale for every kind of label and weight: micro-batches give the large batch's gradients, or are refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedModel,
)

import hf_mixup.methods.base
from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.models.losses import mean_of
from tests.conftest import CLASSES, build, examples
from tests.entry_points import ENTRY_POINTS
from tests.segmenters import build_segmenter

ROWS = 8
BERT: dict[str, Any] = {
    **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 60},
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": CLASSES},
}
WEIGHTS = [0.5, 1.0, 2.0, 9.0]


class Strict(nn.Module):
    """A model whose forward takes no loss arguments: the Trainer tells it no number of labels."""

    def __init__(self, inner: PreTrainedModel) -> None:
        super().__init__()
        self.inner, self.config, self.main_input_name = inner, inner.config, inner.main_input_name

    def forward(
        self, input_ids: Tensor | None = None, pixel_values: Tensor | None = None, labels: Tensor | None = None
    ) -> Any:
        given = {"input_ids": input_ids, "pixel_values": pixel_values, "labels": labels}
        return self.inner(**{key: value for key, value in given.items() if value is not None})


def bert(kind: type[PreTrainedModel], **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return kind(BertConfig(**{**BERT, **settings}))


def segmenter() -> PreTrainedModel:
    model = build_segmenter("segformer", classifier_dropout_prob=0.0, drop_path_rate=0.0)
    model.decode_head.batch_norm = nn.Identity()  # whose statistics are those of a micro-batch
    return model


def texts(labels: Callable[[int, torch.Generator], dict[str, Any]]) -> list[dict[str, Any]]:
    rng = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(3, 60, (6,), generator=rng), **labels(row, rng)} for row in range(ROWS)]


def tagged(row: int, rng: torch.Generator) -> dict[str, Any]:
    """Label few tokens in early rows and many in later ones, so that micro-batches differ."""
    labels = torch.randint(CLASSES, (6,), generator=rng)
    return {"labels": labels.masked_fill(torch.arange(6) > row // 2 + 1, -100)}


def maps() -> list[dict[str, Any]]:
    rng, rows = torch.Generator().manual_seed(0), []
    for row in range(ROWS):
        labels = torch.randint(CLASSES, (32, 32), generator=rng)
        labels[: 4 * row] = 255
        rows.append({"pixel_values": torch.randn(3, 32, 32, generator=rng), "labels": labels})
    return rows


def spans(row: int, rng: torch.Generator) -> dict[str, Any]:
    return {"start_positions": row % 3, "end_positions": row % 3 + 2}


def numbers(row: int, rng: torch.Generator) -> dict[str, Any]:
    return {"labels": float(row) / 4}


def several(row: int, rng: torch.Generator) -> dict[str, Any]:
    return {"labels": torch.randint(2, (CLASSES,), generator=rng).float()}


Case = tuple[Callable[[], nn.Module], Callable[[], list[dict[str, Any]]], dict[str, Any], str]
CASES: dict[str, Case] = {
    "rows": (lambda: build("vit"), lambda: examples("vit", ROWS), {}, ""),
    "bce": (lambda: build("vit"), lambda: examples("vit", ROWS), {"loss": "bce"}, ""),
    "weights": (lambda: build("vit"), lambda: examples("vit", ROWS), {"class_weights": WEIGHTS}, "class_weights"),
    "bce, weights": (
        lambda: build("vit"),
        lambda: examples("vit", ROWS),
        {"class_weights": WEIGHTS, "loss": "bce"},
        "class_weights",
    ),
    "tokens": (lambda: bert(BertForTokenClassification), lambda: texts(tagged), {}, ""),
    "pixels": (segmenter, maps, {}, "numbers of labels that count"),
    "spans": (lambda: bert(BertForQuestionAnswering, num_labels=2), lambda: texts(spans), {}, ""),
    "numbers": (lambda: bert(BertForSequenceClassification, num_labels=1), lambda: texts(numbers), {}, ""),
    "several": (
        lambda: bert(BertForSequenceClassification, problem_type="multi_label_classification"),
        lambda: texts(several),
        {},
        "",
    ),
    "strict rows": (lambda: Strict(build("vit")), lambda: examples("vit", ROWS), {}, ""),
    "strict tokens": (
        lambda: Strict(bert(BertForTokenClassification)),
        lambda: texts(tagged),
        {},
        "numbers of labels that count",
    ),
}


@pytest.fixture(params=["permuted", "not permuted"])
def partners(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each row a partner among its own four rows, whatever the batch."""
    order = torch.tensor([1, 0, 3, 2] if request.param == "permuted" else [3, 2, 3, 2])

    def pair(n: int, **kwargs: Any) -> Tensor:
        rows = torch.arange(n)
        return rows // 4 * 4 + order[rows % 4]

    monkeypatch.setattr(hf_mixup.methods.base, "pair", pair)


def trained(entry_point: str, case: str, arguments: Any, rows: int) -> dict[str, Tensor]:
    make_model, make_data, settings, _ = CASES[case]
    model = make_model()
    method = "embedding" if "input_ids" in make_data()[0] else "mixup"
    args = arguments(
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=ROWS // rows,
        optim="sgd",
        num_train_epochs=2,
        train_sampling_strategy="sequential",
        max_grad_norm=0.0,
        learning_rate=0.1,
    )
    config = MixupConfig(method, lam=0.3, **settings)
    ENTRY_POINTS[entry_point](model, args, config, train_dataset=make_data()).train()
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("entry_point", ["trainer", "collator", "callback"])
@pytest.mark.usefixtures("partners")
def test_micro_batches_equal_the_large_batch_or_are_refused(
    entry_point: str, case: str, arguments: Any, request: Any
) -> None:
    refused = CASES[case][3]
    if case == "tokens" and "not permuted" in request.node.name:
        refused = "numbers of labels that count"
    if refused and entry_point != "trainer":
        with pytest.raises(ValueError, match=rf"{refused}.*use MixupTrainer"):
            trained(entry_point, case, arguments, ROWS // 2)
        return
    whole, parts = (trained(entry_point, case, arguments, rows) for rows in (ROWS, ROWS // 2))
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


class Linear(nn.Module):
    main_input_name = "x"

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, classes)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.layer(x)}


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("loss", ["auto", "bce"])
@pytest.mark.parametrize("ignored", [False, True])
def test_class_weights_with_partners_of_another_class(loss: str, per_row: bool, ignored: bool) -> None:
    """The criterion of mixup-cifar10 with weighted cross-entropies: each divided by its own labels' weights."""
    model, labels = Linear(), torch.tensor([1] * 4 + [0] * 36)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    lam = torch.rand(40, generator=torch.Generator().manual_seed(1)) if per_row else torch.full((40,), 0.4)
    partner = torch.where(labels == 1, torch.arange(40) + 4, torch.arange(40) % 4)
    if ignored:
        labels[[0, 7, 20]] = -100
    weight = torch.tensor([1.0, 9.0])
    mixup = Mixup({"method": "mixup", "class_weights": [1, 9], "self_check": False, "loss": loss})
    with mixup(model, {"x": x, "labels": labels}, partner=partner, lam=lam) as mixed:
        outputs = model(**mixed.inputs)

    def mean(share: Tensor, own: Tensor) -> Tensor:
        kept = own != -100
        each = F.cross_entropy(outputs["logits"], own, reduction="none")
        if loss == "bce":
            yes = F.one_hot(own.clamp(min=0), 2).float()
            each = F.binary_cross_entropy_with_logits(outputs["logits"], yes, reduction="none").mean(-1)
        counts = weight[own.clamp(min=0)] * kept
        return (share * counts * each).sum() / counts.sum()

    torch.testing.assert_close(mixed.loss(outputs), mean(lam, labels) + mean(1 - lam, labels[partner]))
    if not (per_row or ignored or loss == "bce"):
        criterion = nn.CrossEntropyLoss(weight)
        expected = 0.4 * criterion(outputs["logits"], labels) + 0.6 * criterion(outputs["logits"], labels[partner])
        torch.testing.assert_close(mixed.loss(outputs), expected)


def test_class_weights_with_pair_class_different_keep_their_size() -> None:
    """Four rare rows of forty are the partners of most others: the loss is the criterion's, not three times that."""
    model, labels = Linear(), torch.tensor([1] * 4 + [0] * 36)
    mixup = Mixup({"method": "mixup", "class_weights": [1, 9], "self_check": False, "pair_class": "different"})
    batch = {"x": torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), "labels": labels}
    with mixup(model, batch, lam=0.5) as mixed:
        outputs = model(**mixed.inputs)
    criterion = nn.CrossEntropyLoss(torch.tensor([1.0, 9.0]))
    expected = sum(0.5 * criterion(outputs["logits"], each) for each in (labels, labels[mixed.partner]))
    torch.testing.assert_close(mixed.loss(outputs), expected)


def test_further_rows_count_by_their_own_weights() -> None:
    """Of four images' labels in a mosaic each counts by its own mean."""
    from hf_mixup.engine.labelled import LabelBatch

    model, batch = build("vit").eval(), {key: value[:6] for key, value in _images().items()}
    mixup = Mixup({"method": "mosaic", "class_weights": WEIGHTS, "self_check": False})
    partner = torch.tensor([3, 3, 3, 0, 0, 0])
    with mixup(model, batch, partner=partner) as mixed:
        outputs = model(**mixed.inputs)
    assert isinstance(mixed, LabelBatch)
    further, shares = mixed.draw.further, mixed.draw.shares
    assert further is not None
    assert shares is not None
    weight, labels = torch.tensor(WEIGHTS), batch["labels"]
    sets = [(labels, mixed.lam), (labels[partner], 1 - mixed.lam - shares.sum(1))]
    sets += [(labels[further[:, k]], shares[:, k]) for k in range(2)]
    expected = sum(
        (share * weight[own] * F.cross_entropy(outputs.logits, own, reduction="none")).sum() / weight[own].sum()
        for own, share in sets
    )
    torch.testing.assert_close(mixed.loss(outputs), expected)


def _images() -> dict[str, Tensor]:
    rows = examples("vit", ROWS)
    labels = torch.tensor([0, 3, 1, 2, 3, 0, 1, 1])
    return {"pixel_values": torch.stack([row["pixel_values"] for row in rows]), "labels": labels}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("batch", [4, 8])
def test_a_step_whose_labels_weigh_nothing_changes_nothing(entry_point: str, batch: int, arguments: Any) -> None:
    rows = [{**row, "labels": 0 if number < 4 else 1} for number, row in enumerate(examples("vit", ROWS))]
    rows = rows[:batch]
    model = build("vit")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    config = MixupConfig("mixup", class_weights=[0.0, 1.0, 1.0, 1.0])
    logs = {"logging_strategy": "steps", "logging_steps": 1}
    args = arguments(max_steps=1, optim="sgd", train_sampling_strategy="sequential", **logs)
    trainer = ENTRY_POINTS[entry_point](model, args, config, train_dataset=rows)
    with (
        pytest.warns(UserWarning, match="no label since the last log counts") if entry_point != "collator" else _quiet()
    ):
        trainer.train()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def _quiet() -> Any:
    return warnings.catch_warnings()


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(ValueError, match=r"class_weights=\[0.0, 0.0\] are all 0"):
        MixupConfig(class_weights=[0, 0])


def test_nothing_of_nothing_is_nothing() -> None:
    logits = torch.zeros(2, requires_grad=True)
    mean_of((0 * logits).sum(), torch.tensor(0.0)).backward()
    assert torch.equal(logits.grad, torch.zeros(2))  # type: ignore[arg-type]
    assert mean_of(torch.tensor(0.0) * torch.tensor(0), torch.tensor(0)) == 0


def test_evaluation_counts_labels_as_the_plain_trainer_does(arguments: Any) -> None:
    from transformers import Trainer

    losses = []
    for kind, extra in ((Trainer, {}), (MixupTrainer, {"mixup": MixupConfig(class_weights=WEIGHTS)})):
        trainer = kind(build("vit"), arguments(per_device_eval_batch_size=3), eval_dataset=examples("vit", 8), **extra)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[1] == pytest.approx(losses[0])
