"""Trainers that compute loss and logs themselves from what the model returns: what is mixed for them, and what not.

A class in the bases is all a user writes; which kind of batch a trainer needs is read from its arguments:

    class MixupSFTTrainer(MixupTrainerMixin, SFTTrainer): ...
    class MixupRewardTrainer(MixupTrainerMixin, RewardTrainer): ...
"""

from __future__ import annotations

from typing import Any

from transformers import Trainer

from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.conflicts import refuse_beside_own
from hf_mixup.integrations.foreign import base_from
from hf_mixup.integrations.running import SETTINGS, owner_of, refuse_sentences
from hf_mixup.integrations.trl.batch import OwnLossBatch
from hf_mixup.integrations.trl.reward import HalvesBatch
from hf_mixup.integrations.trl.sft import FusedBatch

BATCH_TYPES: dict[str, type[OwnLossBatch]] = {"SFTConfig": FusedBatch, "RewardConfig": HalvesBatch}


def batch_type_for(args: Any) -> type[OwnLossBatch] | None:
    """Return the kind of batch that the trainer with these arguments needs, None where the Trainer's own loss is mixed.

    >>> from transformers import TrainingArguments
    >>> batch_type_for(TrainingArguments(use_cpu=True)) is None
    True
    """
    return BATCH_TYPES.get(base_from("trl", type(args)) or "")


def refuse_foreign_loss(trainer: Any, mixin: type) -> None:
    """Refuse a trainer behind the mixin that computes a loss of its own, which mixing would pass over.

    Raises:
        ValueError: naming the class and the way out.
    """
    refuse_sentences(type(trainer))
    owner = owner_of(trainer, behind=mixin)
    # Of TRL, only those that can be mixed come here.
    if owner is Trainer or owner.__name__ == base_from("trl", type(trainer)):
        return
    raise ValueError(
        f"{owner.__name__}.compute_loss computes a loss that knows no mixed labels: leave it out ({SETTINGS}), let a "
        "class before MixupTrainerMixin change what super().compute_loss(...) returns, or write the loop with `Mixup`"
    )


def refuse_settings(batch_type: type[OwnLossBatch], args: Any, config: MixupConfig) -> None:
    """Refuse settings that change a loss which the outer trainer computes itself.

    Raises:
        ValueError: naming the setting.
    """
    trainer = type(args).__name__.replace("Config", "Trainer")
    own = {
        "loss": config.loss != "auto",
        "class_weights": config.class_weights is not None,
        "label_smoothing": bool(config.label_smoothing),
        "distill_weight": bool(config.distill_weight),
        "label_smoothing_factor": bool(args.label_smoothing_factor),
        "loss_type": getattr(args, "loss_type", "nll") != "nll",
    }
    found = next((name for name, is_set in own.items() if is_set), None)
    if found is not None:
        raise ValueError(f"{found} does not go with mixing in {trainer}, which computes the loss itself: leave it out")
    refuse_own_loss(config, trainer)
    if getattr(config.mixing, "pair_class", "any") != "any" and batch_type is HalvesBatch:
        raise ValueError(f"pair_class={config.pair_class!r} needs classes, and {trainer} has none: leave it out")
    for name in ("packing", "padding_free"):
        if getattr(args, name, False):
            raise ValueError(
                f"{name}=True puts several sequences into one row, which leaves no rows to mix: set it to False"
            )


def take_smoothing(config: MixupConfig, factor: float) -> None:
    """Smooth mixed labels as the Trainer's `label_smoothing_factor` says.

    Raises:
        ValueError: if the settings say otherwise.

    >>> config = MixupConfig("mixup")
    >>> take_smoothing(config, 0.1)
    >>> config.label_smoothing
    0.1
    """
    if factor and config.label_smoothing and factor != config.label_smoothing:
        raise ValueError(
            f"label_smoothing_factor={factor} and MixupConfig.label_smoothing={config.label_smoothing} differ: give "
            "one of them"
        )
    config.losses.label_smoothing = factor or config.label_smoothing
    refuse_beside_own(config.mixing, config.losses)


def take_smoothing_of_labels_left(config: MixupConfig, model: Any, factor: float) -> None:
    """Take the smoothing of a plain Trainer, which leaves labels in the batch only where a sample has several.

    Raises:
        ValueError: where the Trainer keeps the labels back, so that nobody could mix them.
    """
    several = getattr(getattr(model, "config", None), "problem_type", None) == "multi_label_classification"
    if factor and not several:
        raise ValueError(
            f"label_smoothing_factor={factor}: with it the plain Trainer keeps the labels back, so that they cannot be "
            f"mixed. Set label_smoothing={factor} in MixupConfig and leave it out, or use MixupTrainer"
        )
    take_smoothing(config, factor)


def refuse_own_loss(config: MixupConfig, trainer: str) -> None:
    """Refuse methods whose loss is more than that of row and partner, where somebody else computes it.

    Raises:
        ValueError: naming the method.
    """
    for method in config.mixing.choices():
        if method.own_loss and not config.off:
            raise ValueError(
                f"method {method.name!r} has a loss of its own, and {trainer} computes the loss itself: use "
                "MixupTrainer, or 'embedding', 'manifold' or 'features' here"
            )
