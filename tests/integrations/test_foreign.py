"""Every trainer of TRL can be mixed or is refused by name, and so is a step that takes another loss."""

from __future__ import annotations

import inspect
import pkgutil
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, Trainer, TrainingArguments

from hf_mixup import MixupCallback, MixupConfig, MixupTrainer, MixupTrainerMixin
from hf_mixup.integrations.foreign import refuse_foreign_trainer
from hf_mixup.integrations.trl import FusedBatch, HalvesBatch, batch_type_for, refuse_foreign_loss
from tests.conftest import build, examples
from tests.integrations.parts import QUIET, same, text, tiny, tokenizer, weights

trl = pytest.importorskip("trl")
MIXED = {"SFTTrainer", "RewardTrainer"}


def classes_of(base: type) -> list[Any]:
    """Return all classes of TRL of a kind, experiments included; what needs a package that is not there is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import trl.experimental
    import trl.trainer

    found = {}
    for package in (trl.trainer, trl.experimental):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    held = vars(import_module(module.name))
            except ImportError:
                continue
            for each in held.values():
                if inspect.isclass(each) and issubclass(each, base) and each.__module__.startswith("trl."):
                    found[each.__module__, each.__qualname__] = each
    return [each for each in found.values() if not each.__name__.startswith("_")]


def test_every_trainer_of_trl_is_mixed_or_refused_by_name() -> None:
    trainers = classes_of(Trainer)
    assert {"OnlineDPOTrainer", "GKDTrainer", "GRPOTrainer", "DPOTrainer"} | MIXED <= {t.__name__ for t in trainers}
    for each in trainers:
        joined = type("Joined", (MixupTrainerMixin, each), {})
        if each.__name__ in MIXED:
            refuse_foreign_trainer(joined)
            refuse_foreign_loss(object.__new__(joined), MixupTrainerMixin)
            continue
        with pytest.raises(ValueError, match=rf"^{each.__name__} compares answers"):
            refuse_foreign_trainer(joined)


def test_every_config_of_trl_is_known_exactly_or_refused() -> None:
    expected = {"SFTConfig": FusedBatch, "RewardConfig": HalvesBatch}
    for each in classes_of(TrainingArguments):
        args = object.__new__(each)
        assert batch_type_for(args) is expected.get(each.__name__)
        if each.__name__ not in expected:
            with pytest.raises(ValueError, match=rf"^{each.__name__.replace('Config', 'Trainer')} compares answers"):
                refuse_foreign_trainer(each)
    own: Any = type("Own", (trl.SFTConfig,), {})
    assert batch_type_for(object.__new__(own)) is FusedBatch


def test_the_callback_knows_the_trainer_by_its_arguments(tmp_path: Path) -> None:
    from trl.experimental.gkd import GKDConfig

    def train(mixup: MixupConfig) -> Any:
        args = GKDConfig(str(tmp_path), **{**QUIET, "max_steps": 1, "remove_unused_columns": True})
        return Trainer(build("bert"), args, train_dataset=examples("bert", 4), callbacks=[MixupCallback(mixup)]).train()

    with pytest.raises(ValueError, match=r"^GKDTrainer compares answers"):
        train(MixupConfig("embedding"))
    train(MixupConfig("embedding", prob=0))


def sft(tmp: Path, base: Any = None, entry_point: str = "mixin", **settings: Any) -> Any:
    args = trl.SFTConfig(str(tmp), **{**QUIET, "max_steps": 1})
    g = torch.Generator().manual_seed(0)
    rows = Dataset.from_list([{"prompt": text(g) + " ", "completion": text(g)} for _ in range(8)])
    shared = {"args": args, "train_dataset": rows, "processing_class": tokenizer(), **settings}
    base = base or trl.SFTTrainer
    if entry_point == "callback":
        return base(tiny(LlamaForCausalLM), callbacks=[MixupCallback("embedding")], **shared)
    return type("Joined", (MixupTrainerMixin, base), {})(tiny(LlamaForCausalLM), mixup="embedding", **shared)


def test_a_subclass_of_sft_with_another_loss(tmp_path: Path) -> None:
    class Weighing(trl.SFTTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            return super().compute_loss(*args, **kwargs)

    with pytest.raises(ValueError, match=r"Weighing.compute_loss computes a loss"):
        sft(tmp_path, Weighing)


def test_a_loss_function_beside_sft(tmp_path: Path) -> None:
    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        return outputs.logits.float().mean()

    with pytest.raises(ValueError, match="compute_loss_func knows no mixed labels"):
        sft(tmp_path, compute_loss_func=loss)
    trainer = sft(tmp_path, entry_point="callback", compute_loss_func=loss)
    before = weights(trainer)
    with pytest.raises(ValueError, match="compute_loss_func"):
        trainer.train()
    assert same(before, weights(trainer))


class Generating(Trainer):
    def training_step(self, model: Any, inputs: Any, *args: Any) -> Any:
        loss = model(**inputs).loss
        loss.backward()
        return loss.detach()


class Counting(Trainer):
    steps = 0

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        Counting.steps += 1
        return super().training_step(*args, **kwargs)


class Plainly(MixupTrainer):
    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return model(**inputs).loss


class MixedGenerating(MixupTrainerMixin, Generating):
    pass


class MixedCounting(MixupTrainerMixin, Counting):
    pass


def test_a_training_step_that_takes_another_loss(arguments: Any) -> None:
    """Only a first step can tell: one that does more, and goes on to the Trainer's, is no other."""

    def trainer(kind: Any, **settings: Any) -> Any:
        config = MixupConfig("mixup", **settings)
        return kind(build("resnet"), arguments(max_steps=2), mixup=config, train_dataset=examples("resnet", 8))

    for kind, name in ((MixedGenerating, "Generating.training_step"), (Plainly, "Plainly.compute_loss")):
        refused = trainer(kind)
        before = [each.clone() for each in refused.model.parameters()]
        with pytest.raises(RuntimeError, match=rf"nothing was mixed.*: {name} trains without"):
            refused.train()
        assert all(torch.equal(one, other) for one, other in zip(before, refused.model.parameters()))
        trainer(kind, prob=0).train()
    trainer(MixedCounting).train()
    assert Counting.steps == 2
