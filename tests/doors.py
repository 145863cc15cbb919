"""The ways to train with mixing, as functions of one shape, so that tests can hold them against each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel, Trainer, TrainingArguments

from hf_mixup import MixupCallback, MixupCollator, MixupConfig, MixupTrainer

Door = Callable[..., Trainer]


def trainer_door(model: PreTrainedModel, args: TrainingArguments, config: MixupConfig, **kwargs: Any) -> Trainer:
    return MixupTrainer(model=model, args=args, mixup=config, **kwargs)


def collator_door(model: PreTrainedModel, args: TrainingArguments, config: MixupConfig, **kwargs: Any) -> Trainer:
    return Trainer(model=model, args=args, data_collator=MixupCollator(mixup=config, model=model), **kwargs)


def adopted_door(model: PreTrainedModel, args: TrainingArguments, config: MixupConfig, **kwargs: Any) -> Trainer:
    return MixupTrainer(model=model, args=args, data_collator=MixupCollator(mixup=config), **kwargs)


def callback_door(model: PreTrainedModel, args: TrainingArguments, config: MixupConfig, **kwargs: Any) -> Trainer:
    callbacks = [MixupCallback(config), *kwargs.pop("callbacks", [])]
    return Trainer(model=model, args=args, callbacks=callbacks, **kwargs)


DOORS: dict[str, Door] = {
    "trainer": trainer_door,
    "collator": collator_door,
    "adopted": adopted_door,
    "callback": callback_door,
}
