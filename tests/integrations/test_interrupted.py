"""Nothing of an interrupted step stays: evaluation is clean, other batches fit, copies are plain, training goes on."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainerCallback

from hf_mixup import Mixup, MixupCollator, MixupConfig
from hf_mixup.engine.active import active_hooks
from hf_mixup.models.hooks import hooks_of
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS

FAMILIES = [("mixup", "resnet"), ("manifold", "bert"), ("embedding", "bert")]


@contextmanager
def interrupted(model: nn.Module, at: str, error: type[BaseException]) -> Iterator[None]:
    """Raise in the second training pass through the model's head: before it, after it, or when its gradient comes."""
    head: Any = list(model.modules())[-1] if not hasattr(model, "classifier") else model.classifier
    passes = [0]

    def stop(*given: Any) -> None:
        raise error("stop")

    def before(module: nn.Module, given: Any) -> None:
        passes[0] += module.training
        if at == "forward" and passes[0] == 2:
            stop()

    def after(module: nn.Module, given: Any, output: Any) -> None:
        if module.training and passes[0] == 2 and at == "output":
            stop()
        if module.training and passes[0] == 2 and at == "backward":
            output.register_hook(stop)

    handles = [head.register_forward_pre_hook(before), head.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def logits(model: nn.Module, rows: int = 5) -> torch.Tensor:
    """Return what the model says of some rows in evaluation mode, with gradients, as a loop of one's own might ask."""
    name = "bert" if "Bert" in type(model).__name__ else "resnet"
    batch = batch_of(name, rows)
    return model.eval()(**batch).logits.detach()


def plain_copy(model: PreTrainedModel) -> PreTrainedModel:
    made = type(model)(copy.deepcopy(model.config)).eval()
    made.load_state_dict(model.state_dict())
    return made


def saved(model: nn.Module) -> Any:
    """Return a model that torch.save wrote and torch.load read back."""
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved,
}


@pytest.mark.parametrize(
    ("at", "error"), [(at, KeyboardInterrupt) for at in ("forward", "output", "backward")] + [("output", RuntimeError)]
)
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(("method", "name"), FAMILIES[:2])
def test_nothing_stays_of_an_interrupted_step(
    method: str, name: str, entry_point: str, at: str, error: type[BaseException], arguments: Any
) -> None:
    # An interrupted run, too, is evaluated with statistics of clean samples, which are not those that a copy has.
    rows, config = examples(name, 12), MixupConfig(method, lam=0.3, refresh_batch_norm=False)
    model = build(name)
    trainer = ENTRY_POINTS[entry_point](model, arguments(), config, train_dataset=rows, eval_dataset=examples(name, 6))
    with interrupted(model, at, error), pytest.raises(error):
        trainer.train()
    plain = plain_copy(model)
    for each in COPIES.values():
        assert torch.equal(logits(each(model)), logits(plain))
    expected = Trainer(plain, arguments(), eval_dataset=examples(name, 6)).evaluate()["eval_loss"]
    assert trainer.evaluate()["eval_loss"] == expected
    assert torch.equal(logits(model, rows=3), logits(plain, rows=3))
    if entry_point != "collator":
        assert active_hooks(model) is None
    assert not any(hook.on or hook.partner is not None for hook in hooks_of(model).active)
    assert trainer.train().global_step == 3


@pytest.mark.parametrize("entry_point", ["collator", "callback"])
def test_a_part_of_the_model_is_plain_after_an_error(entry_point: str, arguments: Any) -> None:
    model, rows = build("bert"), examples("bert", 8)
    trainer = ENTRY_POINTS[entry_point](
        model, arguments(), MixupConfig("manifold", layers=[1], lam=0.3), train_dataset=rows
    )
    with interrupted(model, "forward", RuntimeError), pytest.raises(RuntimeError, match="stop"):
        trainer.train()
    batch = {key: value for key, value in batch_of("bert", 4).items() if key != "labels"}
    found = model.eval().bert(**batch).last_hidden_state
    assert torch.equal(found, plain_copy(model).bert(**batch).last_hidden_state)


def test_a_model_whose_callback_was_interrupted_trains_plainly(arguments: Any) -> None:
    rows, model = examples("resnet", 8), build("resnet")
    trainer = ENTRY_POINTS["callback"](model, arguments(), MixupConfig("mixup"), train_dataset=rows)
    with interrupted(model, "forward", KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        trainer.train()
    outputs = model.train()(**batch_of("resnet"))
    expected = nn.functional.cross_entropy(outputs.logits, batch_of("resnet")["labels"])
    assert torch.equal(outputs.loss, expected)
    assert active_hooks(model) is None


@pytest.mark.parametrize("interrupt", ["on_step_end", "on_step_begin", "on_evaluate"])
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_an_interruption_between_steps(entry_point: str, interrupt: str, arguments: Any) -> None:
    class Stop(TrainerCallback):
        stopped = False

    def stop(self: Stop, *given: Any, **kwargs: Any) -> None:
        if not self.stopped:
            self.stopped = True
            raise KeyboardInterrupt

    setattr(Stop, interrupt, stop)
    model, rows = build("bert"), examples("bert", 8)
    args = arguments(eval_strategy="steps", eval_steps=1)
    trainer = ENTRY_POINTS[entry_point](
        model, args, MixupConfig("embedding"), train_dataset=rows, eval_dataset=rows, callbacks=[Stop()]
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert torch.equal(logits(copy.deepcopy(model)), logits(plain_copy(model)))
    assert torch.equal(logits(model), logits(plain_copy(model)))
    assert trainer.train().global_step == 2


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize(("method", "name"), FAMILIES)
def test_a_copy_of_a_model_with_hooks_is_plain(way: str, method: str, name: str) -> None:
    model = build(name).train()
    MixupCollator(mixup=MixupConfig(method, lam=0.3), model=model)
    batch = batch_of(name)
    model(**batch).loss.backward()
    copied = COPIES[way](model)
    assert active_hooks(copied) is None
    assert active_hooks(model) is not None
    outputs = copied.train()(**batch)
    torch.testing.assert_close(outputs.loss, nn.functional.cross_entropy(outputs.logits, batch["labels"]))
    with Mixup(MixupConfig(method, lam=0.3))(copied, batch) as mixed:  # which can be mixed on its own
        mixed.loss(copied(**mixed.inputs))


def test_ctrl_c_while_a_method_enters_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a loop of one's own, before the context is entered in full."""
    model, batch = build("bert").train(), batch_of("bert")
    mixup = Mixup({"method": "embedding", "lam": 0.3})
    with mixup(model, batch):
        pass
    track = type(hooks_of(model)).track

    def stop(hooks: Any, *given: Any) -> None:
        track(hooks, *given)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(hooks_of(model)), "track", stop)
    with pytest.raises(KeyboardInterrupt):
        mixup(model, batch).__enter__()
    assert torch.equal(logits(model), logits(plain_copy(model)))
