"""Labels of odd shapes and types: taken if the model's own loss takes them, else refused in plain words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Trainer

from hf_mixup import Mixup, MixupConfig
from hf_mixup.testing.batches import tiny, tiny_pairs
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS

CONFIG = MixupConfig("mixup", lam=0.3, pairing="roll")
MULTI, SINGLE = "multi_label_classification", "single_label_classification"


def logged(trainer: Trainer) -> float:
    trainer.train()
    return float(trainer.state.log_history[0]["loss"])


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_an_axis_for_the_one_label(entry_point: str, arguments: Any) -> None:
    """transformers' own losses flatten integers [B, 1]."""
    flat, losses = examples("vit", 4), []
    for rows in (flat, [{**row, "labels": [row["labels"]]} for row in flat]):
        args = arguments(max_steps=1, logging_strategy="steps", logging_steps=1)
        losses.append(logged(ENTRY_POINTS[entry_point](build("vit"), args, CONFIG, train_dataset=rows)))
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("labels", "problem_type", "message"),
    [
        (torch.ones(4, dtype=torch.int32), None, r"torch.int32 \[4\], and class numbers are torch.int64: use"),
        (torch.ones(4, dtype=torch.bool), None, r"torch.bool \[4\], and class numbers are torch.int64: use"),
        (torch.ones(4), SINGLE, r"torch.float32 \[4\], and class numbers are torch.int64"),
        (torch.ones(4, dtype=torch.long), MULTI, r"problem_type='multi_label.*takes floats \[B, C\].*or change"),
        (torch.ones(4, dtype=torch.long), "regression", r"problem_type='regression' and num_labels=4: leave"),
        (torch.ones(4, 4), SINGLE, r"torch.float32 \[4, 4\], but .*takes class numbers"),
        (torch.ones(4, 1), MULTI, r"labels of shape \[2, 1\] do not fit logits of shape \[2, 4\]: one number for each"),
        (torch.ones(4, 3), MULTI, r"labels of shape \[2, 3\] do not fit logits of shape \[2, 4\]"),
        (torch.ones(4, 3), "regression", r"labels of shape \[2, 3\] do not fit logits of shape \[2, 4\]"),
        (torch.tensor(2), None, "labels=2: one number, where each sample needs a label"),
        ([0, 1, 2, 3], None, "are no tensor but list: make them one"),
    ],
)
@pytest.mark.parametrize("name", ["vit", "bert"])
def test_labels_that_no_loss_takes(name: str, labels: Any, problem_type: str | None, message: str) -> None:
    model = build(name, **({} if problem_type is None else {"problem_type": problem_type}))
    with pytest.raises((ValueError, RuntimeError), match=message):
        Mixup(CONFIG)(model, {**batch_of(name, rows=4), "labels": labels})


@pytest.mark.parametrize("method", ["mixup", "manifold", "embedding"])
@pytest.mark.parametrize("count", [3, 5])
def test_more_or_fewer_labels_than_samples(method: str, count: int) -> None:
    batch = {**batch_of("bert", rows=4), "labels": torch.zeros(count, dtype=torch.long)}
    message = (
        rf"{count} labels \(of shape \[{count}\]\) for 4 samples \(input_ids \[4, 10\]\): each sample needs its own"
    )
    with pytest.raises(ValueError, match=message):
        Mixup(method)(build("bert"), batch)
    if method == "mixup":
        with pytest.raises(ValueError, match=rf"{count} labels .* for 4 samples \(pixel_values"):
            Mixup(method)(build("vit"), {**batch_of("vit", rows=4), "labels": batch["labels"]})


@pytest.mark.parametrize("weights", [2, 5])
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_weight_for_each_class(entry_point: str, weights: int, arguments: Any) -> None:
    config = CONFIG.replace(class_weights=[1.0] * weights)
    trainer = ENTRY_POINTS[entry_point](build("vit"), arguments(), config, train_dataset=examples("vit", 4))
    with pytest.raises(ValueError, match=f"class_weights has {weights} numbers, but ViT.* has 4 classes: give one"):
        trainer.train()


@pytest.mark.parametrize(
    ("end", "found"),
    [(None, "NoneType"), ([1, 2, 3, 4], "list"), (torch.arange(3), r"\[3\]"), (torch.ones(4, 2), r"\[4, 2\]")],
)
def test_answers_need_both_ends(end: Any, found: str) -> None:
    model, batch = tiny("question-answering", "bert")
    with pytest.raises(ValueError, match=rf"\[B\] for each end: start_positions is \[4\], end_positions {found}"):
        Mixup("embedding")(model, {**batch, "end_positions": end})


def test_a_language_model_has_a_label_a_token() -> None:
    model, batch = tiny("causal-lm", "gpt2")
    with pytest.raises(
        ValueError, match=r"labels of shape \[4\], where GPT2LMHeadModel learns the next tokens: expected"
    ):
        Mixup("embedding")(model, {**batch, "labels": batch["labels"][:, 0]})


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("pair_ids", ["a", "b", "c", "d"], r"pair_ids .* are a list: expected a tensor \[B\]"),
        ("pair_ids", torch.zeros(4, 1), r"pair_ids .* are \[4, 1\]: expected a tensor \[B\]"),
        ("pixel_values", torch.zeros(4, 3, 64, 64, dtype=torch.uint8), r"pixel_values holds torch.uint8: convert"),
    ],
)
def test_pairs_that_are_none(entry: str, value: Any, message: str) -> None:
    model, batch = tiny_pairs()
    with pytest.raises((ValueError, TypeError), match=message):
        Mixup("cross_modal")(model, {**batch, entry: value})
