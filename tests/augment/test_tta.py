"""Averaging over views, against plain loops in float64."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2ForSequenceClassification, Trainer

from hf_mixup.augment.tta import (
    TestTimeAugmentation,
    View,
    dropout_passes,
    five_crops,
    flip,
    head,
    identity,
    scale,
    tail,
)
from tests.conftest import CLASSES, batch_of, build, examples

AVERAGES = ("logits", "probabilities", "log_probabilities")


def inputs_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in batch.items() if key != "labels"}


def scores_of(model: Any, batch: dict[str, Tensor], views: list[View]) -> Tensor:
    """Return the logits of each view, [V, B, C] in float64, each row by itself."""
    made = []
    for view in views:
        seen = inputs_of(batch) if view.change is None else view.change(model, inputs_of(batch))
        made.append(model(**seen).logits.detach().double())
    return torch.stack(made)


def average_by_hand(scores: Tensor, average: str, multi: bool) -> Tensor:
    """Return the average's probabilities, [B, C], in float64."""
    found = torch.zeros(scores.shape[1:], dtype=torch.float64)
    for row in range(scores.shape[1]):
        every = [scores[view, row] for view in range(len(scores))]
        probs = [each.sigmoid() if multi else each.exp() / each.exp().sum() for each in every]
        if average == "probabilities":
            found[row] = sum(probs) / len(probs)
        elif average == "logits":
            mean = sum(every) / len(every)
            found[row] = mean.sigmoid() if multi else mean.exp() / mean.exp().sum()
        else:  # the geometric mean, normalised
            root = torch.stack(probs).prod(0) ** (1 / len(probs))
            rest = torch.stack([1 - each for each in probs]).prod(0) ** (1 / len(probs))
            found[row] = root / (root + rest) if multi else root / root.sum()
    return found


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize(("name", "size"), [("resnet", (13, 22)), ("vit", (16, 16))])
def test_averages_equal_a_loop(average: Any, multi: bool, name: str, size: tuple[int, int]) -> None:
    model = build(name).double().eval()
    model.config.problem_type = "multi_label_classification" if multi else None
    batch = {"pixel_values": torch.randn(3, 3, *size, dtype=torch.float64)}
    views = [identity(), flip(), *five_crops(0.7)] + ([scale(1.6)] if name == "resnet" else [])
    scores = scores_of(model, batch, views)
    assert all((scores[0] - other).abs().max() > 1e-3 for other in scores[1:])
    expected = average_by_hand(scores, average, multi)
    found = TestTimeAugmentation(model, views, average).eval()(**batch).logits
    torch.testing.assert_close(found.sigmoid() if multi else found.softmax(-1), expected)
    if average == "logits":
        torch.testing.assert_close(found, scores.mean(0))
    elif not multi:
        torch.testing.assert_close(found.exp(), expected)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", ["resnet", "bert"])
@pytest.mark.parametrize("multi", [False, True])
def test_the_loss_is_that_of_the_averaged_scores(average: Any, name: str, multi: bool) -> None:
    model, batch = build(name).eval(), batch_of(name, rows=5)
    views = [identity(), flip()] if name == "resnet" else [identity(), head(4), tail(5)]
    labels = F.one_hot(batch["labels"], CLASSES).float() if multi else batch["labels"].clone()
    if not multi:
        labels[2] = -100
    probs = average_by_hand(scores_of(model, batch, views), average, multi)
    expected = 0.0
    for row in range(5):
        for each in range(CLASSES):
            if multi:
                expected -= math.log(probs[row, each] if labels[row, each] else 1 - probs[row, each]) / (5 * CLASSES)
            elif labels[row] == each:
                expected -= math.log(probs[row, each]) / 4
    outputs = TestTimeAugmentation(model, views, average)(**inputs_of(batch), labels=labels)
    assert float(outputs.loss) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(outputs.logits.sigmoid() if multi else outputs.logits.softmax(-1), probs.float())
    assert list(outputs) == ["loss", "logits"]


def test_a_regressions_outputs_are_averaged_as_they_are() -> None:
    model, batch = build("resnet").eval(), batch_of("resnet", rows=3)
    model.config.num_labels, model.classifier[1] = 1, torch.nn.Linear(12, 1)
    views, labels = [identity(), flip(), scale(0.5)], torch.randn(3)
    expected = scores_of(model, batch, views).mean(0).float()
    predictor = TestTimeAugmentation(model, views)
    torch.testing.assert_close(predictor(**inputs_of(batch)).logits, expected)
    loss = predictor(**inputs_of(batch), labels=labels).loss
    torch.testing.assert_close(loss, (expected[:, 0] - labels).square().mean())


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", ["resnet", "vit", "bert"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_identity_alone_is_the_model_bit_for_bit(average: Any, name: str, dtype: torch.dtype) -> None:
    model, batch = build(name).to(dtype).eval(), inputs_of(batch_of(name))
    batch = {key: value.to(dtype) if value.is_floating_point() else value for key, value in batch.items()}
    with torch.no_grad():
        expected = model(**batch).logits
    assert torch.equal(TestTimeAugmentation(model, [identity()], average)(**batch).logits, expected)


@pytest.mark.parametrize("average", AVERAGES)
def test_views_that_change_nothing(average: Any) -> None:
    model, batch = build("resnet").eval(), inputs_of(batch_of("resnet"))
    nothing = [identity(), scale(1.0), *five_crops(1.0), scale(1.01)]  # 16 pixels stay 16
    for view in nothing[1:]:
        assert torch.equal(view.change(model, batch)["pixel_values"], batch["pixel_values"])
    found = TestTimeAugmentation(model, nothing, average)(**batch).logits
    torch.testing.assert_close(found.softmax(-1), model(**batch).logits.softmax(-1))
    text, inputs = build("bert"), inputs_of(batch_of("bert", lengths=True))
    for view in (head(10), tail(10), head(40)):
        assert view.change(text, inputs) is inputs


def test_probabilities_far_apart_are_averaged_without_underflow() -> None:
    class Sure(torch.nn.Module):
        def forward(self, pixel_values: Tensor) -> Tensor:
            return pixel_values.flatten(1)

    views = [
        View(str(sign), lambda _, inputs, s=sign: {"pixel_values": s * inputs["pixel_values"]}) for sign in (1, -1)
    ]
    model = TestTimeAugmentation(Sure(), views).eval()
    found = model(pixel_values=torch.tensor([500.0, -500.0, 0.0]).reshape(1, 1, 1, 3)).logits
    torch.testing.assert_close(found, torch.tensor([[math.log(0.5), math.log(0.5), -500.0]]))


# --- views of images


@pytest.mark.parametrize("size", [(7, 12), (16, 16), (1, 5)])
def test_flip_by_hand(size: tuple[int, int]) -> None:
    pixels = torch.randn(2, 3, *size)
    found = flip().change(torch.nn.Identity(), {"pixel_values": pixels, "other": 1})
    for column in range(size[1]):
        assert torch.equal(found["pixel_values"][..., column], pixels[..., size[1] - 1 - column])
    assert found["other"] == 1


@pytest.mark.parametrize("size", [(10, 20), (11, 17), (1, 1)])
def test_five_crops_by_hand(size: tuple[int, int]) -> None:
    """Crops by slicing; torch's own interpolation brings them back to size."""
    pixels = torch.randn(2, 3, *size)
    high, wide = max(1, round(0.6 * size[0])), max(1, round(0.6 * size[1]))
    down, right = size[0] - high, size[1] - wide
    corners = [(0, 0), (0, right), (down, 0), (down, right), (round(down / 2), round(right / 2))]
    for view, (top, left) in zip(five_crops(0.6), corners, strict=True):
        cut = pixels[..., top : top + high, left : left + wide]
        expected = F.interpolate(cut, size, mode="bilinear", antialias=True, align_corners=False)
        found = view.change(torch.nn.Identity(), {"pixel_values": pixels})["pixel_values"]
        torch.testing.assert_close(found, expected, msg=view.name)


@pytest.mark.parametrize(("factor", "expected"), [(0.5, (6, 10)), (1.3, (14, 27)), (0.01, (1, 1))])
def test_scale_sizes(factor: float, expected: tuple[int, int]) -> None:
    pixels = torch.full((2, 3, 11, 21), 0.7)
    found = scale(factor).change(torch.nn.Identity(), {"pixel_values": pixels})["pixel_values"]
    assert found.shape == (2, 3, *expected)
    torch.testing.assert_close(found, torch.full_like(found, 0.7))


# --- views of texts


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("length", [2, 3, 5, 9])
def test_truncations_by_hand(left: bool, length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    counts = [12, 3, 7, 1, 5]
    rows = [torch.randint(3, 60, (count,), generator=generator).tolist() for count in counts]

    def padded(texts: list[list[int]], pad: int = 0) -> Tensor:
        width = max(map(len, texts))
        return torch.tensor([[pad] * (width - len(t)) + t if left else t + [pad] * (width - len(t)) for t in texts])

    inputs = {"input_ids": padded(rows), "attention_mask": padded([[1] * count for count in counts])}
    inputs["bbox"] = inputs["input_ids"][..., None] * torch.arange(1, 5)
    model = build("bert")
    for view, keep in (
        (head(length), lambda text: text if len(text) <= length else [*text[: length - 1], text[-1]]),
        (tail(length), lambda text: text if len(text) <= length else [text[0], *text[len(text) - length + 1 :]]),
    ):
        found, expected = view.change(model, inputs), [keep(text) for text in rows]
        assert found["input_ids"].tolist() == padded(expected).tolist()
        assert found["attention_mask"].tolist() == padded([[1] * len(text) for text in expected]).tolist()
        assert torch.equal(found["bbox"], found["input_ids"][..., None] * torch.arange(1, 5))


def test_truncation_pads_with_the_models_own_id() -> None:
    """A model that reads a row at its last token finds it."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, num_labels=CLASSES, pad_token_id=7)
    model = GPT2ForSequenceClassification(config).eval()
    ids = torch.randint(8, 60, (2, 9))
    ids[1, 4:] = 7
    batch = {"input_ids": ids, "attention_mask": (ids != 7).long()}
    found = TestTimeAugmentation(model, [tail(6)])(**batch).logits
    for row, text in enumerate([[ids[0, 0], *ids[0, 4:]], ids[1, :4].tolist()]):
        alone = model(input_ids=torch.tensor([[int(token) for token in text]])).logits[0]
        torch.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-6)


# --- dropout


def dropping(name: str) -> Any:
    model = build(name)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    return model.eval()


def test_dropout_passes_equal_a_loop_and_leave_no_trace() -> None:
    model, batch = dropping("bert"), inputs_of(batch_of("bert"))
    modes = {name: module.training for name, module in model.named_modules()}
    made = []
    for seed in (5, 6, 7):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            by_hand = copy.deepcopy(model)
            for module in by_hand.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.train()
            made.append(by_hand(**batch).logits.detach().double())
    assert (made[0] - made[1]).abs().max() > 1e-3
    state = torch.get_rng_state()
    predictor = TestTimeAugmentation(model, dropout_passes(3, seed=5))
    first = predictor(**batch).logits
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: module.training for name, module in model.named_modules()} == modes
    expected = average_by_hand(torch.stack(made), "probabilities", False)
    torch.testing.assert_close(first.exp(), expected.float())
    torch.manual_seed(99)
    assert torch.equal(predictor(**batch).logits, first)


def test_modes_come_back_after_an_error() -> None:
    model = dropping("bert")
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="input_ids"):
        TestTimeAugmentation(model, dropout_passes(2))(attention_mask=torch.ones(2, 3))
    assert not any(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_normalisation_is_untouched() -> None:
    model = build("resnet").eval()
    model.classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(12, CLASSES))
    before = copy.deepcopy(model.state_dict())
    views = [identity(), flip(), *five_crops(0.8), *dropout_passes(2)]
    TestTimeAugmentation(model, views)(**inputs_of(batch_of("resnet")))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


# --- in a Trainer


@pytest.mark.parametrize("name", ["resnet", "bert"])
def test_a_trainer_evaluates_and_predicts_with_it(name: str, arguments: Any) -> None:
    model, batch = build(name), batch_of(name, rows=7)
    views = [identity(), flip()] if name == "resnet" else [identity(), head(5)]
    predictor = TestTimeAugmentation(model, views)
    args = arguments(remove_unused_columns=False, per_device_eval_batch_size=3)
    trainer = Trainer(model=predictor, args=args)
    predicted = trainer.predict(examples(name, 7))
    model.eval()
    expected = average_by_hand(scores_of(model, batch, views), "probabilities", False)
    np.testing.assert_allclose(np.exp(predicted.predictions), expected.numpy(), rtol=1e-4, atol=1e-6)
    assert predicted.label_ids.tolist() == batch["labels"].tolist()
    loss = float(F.nll_loss(expected.log(), batch["labels"]))
    assert trainer.evaluate(examples(name, 7))["eval_loss"] == pytest.approx(loss, rel=1e-4)
    with pytest.raises(RuntimeError, match="evaluation"):
        Trainer(model=predictor, args=args, train_dataset=examples(name, 4)).train()


def test_no_graph_is_kept() -> None:
    predictor = TestTimeAugmentation(build("resnet").eval(), [identity(), flip()])
    assert not predictor(**inputs_of(batch_of("resnet"))).logits.requires_grad


# --- what is refused


def test_training_mode_is_refused() -> None:
    model, batch = build("resnet").train(), inputs_of(batch_of("resnet"))
    predictor = TestTimeAugmentation(model, [identity()])
    with pytest.raises(RuntimeError, match="evaluation"):
        predictor(**batch)
    predictor.eval()(**batch)
    model.train()  # behind its back
    with pytest.raises(RuntimeError, match="evaluation"):
        predictor(**batch)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: five_crops(0.0), "share=0.0"),
        (lambda: five_crops(1.1), "share=1.1"),
        (lambda: scale(0), "factor=0"),
        (lambda: scale(math.inf), "factor=inf"),
        (lambda: head(1), "length=1"),
        (lambda: tail(0), "length=0"),
        (lambda: dropout_passes(0), "passes=0"),
        (lambda: TestTimeAugmentation(torch.nn.Identity(), []), "leaves nothing"),
        (lambda: TestTimeAugmentation(torch.nn.Identity(), [identity()], "mean"), "average='mean'"),  # type: ignore[arg-type]
    ],
)
def test_wrong_settings(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_inputs_that_a_view_cannot_change() -> None:
    model, batch = build("bert").eval(), inputs_of(batch_of("bert"))
    with pytest.raises(ValueError, match="need pixel_values"):
        TestTimeAugmentation(model, [flip()])(**batch)
    image = inputs_of(batch_of("resnet"))
    with pytest.raises(ValueError, match="need input_ids"):
        TestTimeAugmentation(build("resnet").eval(), [head(3)])(**image)
    with pytest.raises(ValueError, match="pixel_mask"):
        TestTimeAugmentation(build("resnet").eval(), [flip()])(**image, pixel_mask=torch.ones(6, 16, 16))
    with pytest.raises(ValueError, match="no dropout layer"):
        TestTimeAugmentation(model, dropout_passes(1))(**batch)  # built with p = 0
    with pytest.raises(ValueError, match="remove_unused_columns"):
        TestTimeAugmentation(model, [identity()])(labels=torch.zeros(2))


def test_positions_that_move_are_refused() -> None:
    class Dense(torch.nn.Module):
        def forward(self, pixel_values: Tensor) -> Tensor:
            return pixel_values

    with pytest.raises(ValueError, match="'flip' moves positions"):
        TestTimeAugmentation(Dense(), [flip()]).eval()(pixel_values=torch.rand(2, 3, 4, 4))
