"""The ways to train with mixing, as functions of one shape, so that tests can hold them against each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedModel, Trainer, TrainingArguments

from hf_mixup import MixupCallback, MixupCollator, MixupConfig, MixupTrainer

EntryPoint = Callable[..., Trainer]


def trainer_entry_point(model: PreTrainedModel, args: TrainingArguments, config: MixupConfig, **kwargs: Any) -> Trainer:
    return MixupTrainer(model=model, args=args, mixup=config, **kwargs)


def collator_entry_point(
    model: PreTrainedModel, args: TrainingArguments, config: MixupConfig, **kwargs: Any
) -> Trainer:
    collator = MixupCollator(kwargs.pop("data_collator", None), config, model=model)
    return Trainer(model=model, args=args, data_collator=collator, **kwargs)


def adopted_entry_point(model: PreTrainedModel, args: TrainingArguments, config: MixupConfig, **kwargs: Any) -> Trainer:
    collator = MixupCollator(kwargs.pop("data_collator", None), config)
    return MixupTrainer(model=model, args=args, data_collator=collator, **kwargs)


def callback_entry_point(
    model: PreTrainedModel, args: TrainingArguments, config: MixupConfig, **kwargs: Any
) -> Trainer:
    callbacks = [MixupCallback(config), *kwargs.pop("callbacks", [])]
    return Trainer(model=model, args=args, callbacks=callbacks, **kwargs)


ENTRY_POINTS: dict[str, EntryPoint] = {
    "trainer": trainer_entry_point,
    "collator": collator_entry_point,
    "adopted": adopted_entry_point,
    "callback": callback_entry_point,
}
