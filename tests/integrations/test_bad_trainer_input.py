"""What no trainer can learn from is refused at the entry point, with one error that names it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DataCollatorWithPadding, Trainer

from hf_mixup import Mixup, MixupCollator, MixupConfig, MixupTrainer, MixupTrainerMixin
from tests.conftest import build, examples
from tests.entry_points import ENTRY_POINTS
from tests.integrations.parts import same, tokenizer
from tests.integrations.test_others import sequences, t5


def without_padding() -> Any:
    made = tokenizer()
    made.pad_token = None
    return made


def test_a_tokenizer_without_padding_is_refused_before_training(arguments: Any) -> None:
    rows = examples("bert", 8)
    with pytest.raises(ValueError, match="has no padding token"):
        MixupTrainer(
            build("bert"), arguments(), mixup="embedding", train_dataset=rows, processing_class=without_padding()
        )
    with pytest.raises(ValueError, match="has no padding token"):
        MixupCollator(DataCollatorWithPadding(without_padding()), "embedding")
    MixupCollator(DataCollatorWithPadding(without_padding()), "embedding", prob=0)  # plain training is not our business
    MixupCollator(DataCollatorWithPadding(without_padding(), padding=False), "embedding")


def ignored(name: str, rows: int, count: int) -> tuple[Any, list[dict[str, Any]]]:
    """Make a model, and rows of which the first few have labels that are ignored."""
    model, made = (t5(), sequences(rows)) if name == "t5" else (build("bert"), examples("bert", rows))
    for row in made[:count]:
        row["labels"] = torch.full_like(row["labels"], -100) if name == "t5" else -100
    return model, made


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("name", ["bert", "t5"])
@pytest.mark.parametrize("entry_point", ["trainer", "adopted", "callback"])
def test_labels_that_are_all_ignored(entry_point: str, name: str, accumulated: int, arguments: Any) -> None:
    model, rows = ignored(name, 16, 16)
    args = arguments(gradient_accumulation_steps=accumulated)
    trainer = ENTRY_POINTS[entry_point](model, args, MixupConfig("embedding"), train_dataset=rows)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"all \d+ labels of the first batch are -100"):
        trainer.train()
    assert same(before, model.state_dict())


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_a_collator_alone_waits_until_it_is_no_chance(name: str, arguments: Any) -> None:
    model, rows = ignored(name, 120, 120)
    trainer = ENTRY_POINTS["collator"](model, arguments(), MixupConfig("embedding"), train_dataset=rows)
    with pytest.raises(ValueError, match="labels of the first batch are -100"):
        trainer.train()


@pytest.mark.parametrize("name", ["bert", "t5"])
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_first_step_is_all_its_batches(entry_point: str, name: str, arguments: Any) -> None:
    model, rows = ignored(name, 8, 4)
    args = arguments(gradient_accumulation_steps=2, train_sampling_strategy="sequential")
    ENTRY_POINTS[entry_point](model, args, MixupConfig("embedding"), train_dataset=rows).train()


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_prediction_needs_no_labels(entry_point: str, arguments: Any) -> None:
    model, rows = ignored("bert", 8, 8)
    trainer = ENTRY_POINTS[entry_point](model, arguments(), MixupConfig("embedding"), train_dataset=rows)
    assert trainer.predict(rows).predictions.shape == (8, 4)


def test_a_later_batch_without_labels_trains_on(arguments: Any) -> None:
    rows = sequences(8)
    for row in rows[4:]:
        row["labels"] = torch.full_like(row["labels"], -100)
    model = t5()
    collator = MixupCollator(mixup="embedding", model=model)
    assert (collator(rows[:4])["labels"] != -100).any()
    assert (collator(rows[4:])["labels"] == -100).all()
    args = arguments(train_sampling_strategy="sequential", max_steps=2)
    MixupTrainer(model, args, data_collator=collator, train_dataset=rows).train()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_token_labels_outside_the_vocabulary(arguments: Any) -> None:
    rows = sequences(4)
    rows[1]["labels"][2] = 60
    with pytest.raises(ValueError, match="label 60 is outside the model's 60 classes"):
        MixupTrainer(t5(), arguments(), mixup="embedding", train_dataset=rows).train()


def test_a_trainer_with_a_loss_of_its_own(arguments: Any) -> None:
    class Weighing(Trainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            return super().compute_loss(*args, **kwargs)

    class Mixed(MixupTrainerMixin, Weighing):
        pass

    with pytest.raises(ValueError, match=r"Weighing.compute_loss computes a loss that knows no mixed labels"):
        Mixed(build("resnet"), arguments(), mixup="mixup")
    Mixed(build("resnet"), arguments(), mixup=MixupConfig("mixup", prob=0))

    class Scaled(MixupTrainer):  # in front of the mixin, a class may do with the mixed loss what it likes
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            return 2 * super().compute_loss(*args, **kwargs)

    Scaled(build("resnet"), arguments(max_steps=1), mixup="mixup", train_dataset=examples("resnet", 4)).train()


def test_the_name_of_a_checkpoint_is_no_model() -> None:
    for entry_point in (
        lambda: MixupCollator(mixup="mixup", model="bert-base-uncased"),  # type: ignore[arg-type]
        lambda: Mixup("mixup")("bert-base-uncased", {}),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=r"model=.bert-base-uncased.: expected a torch\.nn\.Module; AutoModelFor"):
            entry_point()


def test_labels_of_multiple_choice_count_the_choices() -> None:
    """num_labels says nothing about how many choices a question has."""
    model = build("bert")
    collator = MixupCollator(mixup="embedding", model=model)
    rows = [{"input_ids": torch.ones(6, 3, dtype=torch.long), "labels": label} for label in (5, 0)]
    assert collator(rows)["labels"].tolist() == [5, 0]
    with pytest.raises(ValueError, match="label 6 is outside the model's 6 classes"):
        collator([*rows, {**rows[0], "labels": 6}])


@pytest.mark.parametrize("entry_point", ["trainer", "adopted"])
def test_a_collator_that_gives_no_names(entry_point: str, arguments: Any) -> None:
    def collate(rows: list[dict[str, Any]]) -> Any:
        return torch.stack([row["pixel_values"] for row in rows]), torch.tensor([row["labels"] for row in rows])

    trainer = ENTRY_POINTS[entry_point](
        build("resnet"), arguments(), MixupConfig("mixup"), train_dataset=examples("resnet", 4), data_collator=collate
    )
    with pytest.raises(TypeError, match="the batch is a tuple: make it a mapping in the collator"):
        trainer.train()
