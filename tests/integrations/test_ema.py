"""The moving average of the weights: against the same by hand, and what evaluation, checkpoints and resuming see."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Trainer, TrainerCallback

from hf_mixup import EMACallback, MixupTrainer
from hf_mixup.integrations.ema import EMA_NAME
from tests.conftest import build, examples


class Recorder(TrainerCallback):
    """Keeps the weights after each optimizer step, before the average sees them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.steps.append({name: value.clone() for name, value in weights(model).items()})


def weights(model: Any) -> dict[str, Tensor]:
    """Parameters, and the statistics of batch normalisation."""
    return {name: value for name, value in model.state_dict(keep_vars=False).items() if value.is_floating_point()}


def by_hand(steps: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    average = {name: value.double() for name, value in steps[0].items()}
    for step in steps[1:]:
        average = {name: decay * value + (1 - decay) * step[name].double() for name, value in average.items()}
    return average


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], **close: Any) -> None:
    assert set(found) == set(expected)
    for name, value in found.items():
        torch.testing.assert_close(value.double(), expected[name].double(), **close)


class Watching(MixupTrainer):
    """Remembers the weights that each evaluation used."""

    def prediction_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        held = {name: value.detach().clone() for name, value in model.named_parameters()}
        self.__dict__.setdefault("used", []).append(held)
        return super().prediction_step(model, *args, **kwargs)


def test_evaluation_sees_the_average_and_training_the_raw_weights(arguments: Any) -> None:
    rows = examples("resnet", 16)
    settings = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    plain, mixup = build("resnet"), {"method": "mixup", "refresh_batch_norm": False}  # see test_batch_norm.py
    MixupTrainer(plain, arguments(**settings), mixup=mixup, train_dataset=rows, eval_dataset=rows[:4]).train()
    seen = {step: weights(type(plain).from_pretrained(arguments().output_dir + f"/checkpoint-{step}"))
            for step in (2, 4)}  # fmt: skip
    recorder, ema, model = Recorder(), EMACallback(decay=0.7), build("resnet")
    args = arguments(**settings)
    sets = {"one": rows[:4], "two": rows[4:8]}  # two datasets: two evaluations at each of two steps
    trainer = Watching(model, args, mixup=mixup, train_dataset=rows, eval_dataset=sets, callbacks=[recorder, ema])
    trainer.train()
    average = by_hand(recorder.steps, 0.7)
    close = {"rtol": 1e-5, "atol": 1e-6}
    for step in (2, 4):
        folder = Path(args.output_dir) / f"checkpoint-{step}"
        assert_same(weights(type(model).from_pretrained(folder)), seen[step], rtol=0, atol=0)  # the run is the same
        assert_same(load_file(folder / EMA_NAME), by_hand(recorder.steps[:step], 0.7), **close)
    assert_same(weights(model), average, **close)  # what training leaves
    assert len(trainer.used) == 4
    for number, used in enumerate(trainer.used):
        expected = by_hand(recorder.steps[: 2 if number < 2 else 4], 0.7)
        assert_same(used, {name: expected[name] for name in used}, **close)
    assert_same(weights(model), ema.average, rtol=0, atol=0)
    assert not model._state_dict_pre_hooks


@pytest.mark.parametrize("method", ["mixup", "manifold"])
def test_a_resumed_run_has_the_same_bits(method: str, arguments: Any) -> None:
    rows, found = examples("resnet", 24), []
    for resume in (False, True):
        ema, model = EMACallback(decay=0.8), build("resnet")
        args = arguments(save_strategy="steps", save_steps=3, max_steps=6, eval_strategy="steps", eval_steps=2)
        if resume:
            model = build("resnet", seed=5)
        trainer = MixupTrainer(model, args, mixup=method, train_dataset=rows, eval_dataset=rows[:4], callbacks=[ema])
        trainer.train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-3" if resume else None)
        assert int(ema._average.n_averaged) == 6
        found.append((ema.average, weights(model)))
    for one, other in zip(*found):
        assert_same(one, other, rtol=0, atol=0)


def test_the_average_of_the_best_checkpoint_is_loaded(arguments: Any) -> None:
    class Worse(TrainerCallback):
        """Makes the first evaluation the best one."""

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
            metrics["eval_loss"] = float(state.global_step)

    args = arguments(
        save_strategy="steps", save_steps=1, max_steps=3, eval_strategy="steps", eval_steps=1,
        load_best_model_at_end=True, metric_for_best_model="eval_loss", greater_is_better=False,
    )  # fmt: skip
    recorder, model, rows = Recorder(), build("resnet"), examples("resnet", 12)
    callbacks = [recorder, EMACallback(decay=0.5), Worse()]
    trainer = Trainer(model, args, train_dataset=rows, eval_dataset=rows[:4], callbacks=callbacks)
    trainer.train()
    assert str(trainer.state.best_model_checkpoint).endswith("checkpoint-1")
    assert_same(weights(model), by_hand(recorder.steps[:1], 0.5), rtol=1e-5, atol=1e-6)


def test_low_precision_is_averaged_in_float32_and_frozen_weights_are_left(arguments: Any) -> None:
    """In bfloat16 a decay of 0.999 would not move at all."""
    recorder, ema, model = Recorder(), EMACallback(decay=0.999), build("vit").bfloat16()
    model.vit.requires_grad_(False)
    args = arguments(max_steps=5, learning_rate=0.1)
    rows = [{**row, "pixel_values": row["pixel_values"].bfloat16()} for row in examples("vit", 8)]
    Trainer(model, args, train_dataset=rows, callbacks=[recorder, ema]).train()
    expected = by_hand(recorder.steps, 0.999)
    assert set(ema.average) == {"classifier.weight", "classifier.bias"}
    assert_same(ema.average, {name: expected[name] for name in ema.average}, rtol=1e-6, atol=1e-7)
    assert ema.average["classifier.weight"].dtype == torch.float32
    assert bool((ema.average["classifier.weight"] != recorder.steps[0]["classifier.weight"]).any())
    assert model.classifier.weight.dtype == torch.bfloat16


def test_refusals(arguments: Any) -> None:
    with pytest.raises(ValueError, match="decay=2: expected a number in"):
        EMACallback(decay=2)
    with pytest.raises(RuntimeError, match="no average before training"):
        EMACallback().average  # noqa: B018
    rows, model = examples("resnet", 12), build("resnet")
    args = arguments(save_strategy="steps", save_steps=1, max_steps=2)
    Trainer(model, args, train_dataset=rows).train()
    trainer = Trainer(deepcopy(model), args, train_dataset=rows, callbacks=[EMACallback()])
    with pytest.raises(
        FileNotFoundError, match=r"resumed at step 1, and there is no ema\.safetensors in .*checkpoint-1"
    ):
        trainer.train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-1")
