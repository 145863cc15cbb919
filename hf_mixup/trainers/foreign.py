"""Trainers that never ask for a loss which could be mixed: they are refused by name, before they train plainly."""

from __future__ import annotations

from typing import Any

from transformers import Trainer

KNOWN = ("SFTTrainer", "RewardTrainer", "SFTConfig", "RewardConfig")
"""What of TRL can be mixed; classes that inherit from these train on something else."""


def of_trl(kind: type) -> str | None:
    """Return the name of the first class of TRL among a class and its bases, None where there is none.

    >>> of_trl(Trainer) is None
    True
    """
    return next((base.__name__ for base in kind.__mro__ if base.__module__.startswith("trl.")), None)


def refuse_foreign_trainer(trainer: type) -> None:
    """Refuse a trainer of TRL (its class, or that of its arguments) that has no labels to mix.

    Raises:
        ValueError: naming it and the way out.
    """
    name = of_trl(trainer)
    if name is None or name in KNOWN:
        return
    raise ValueError(
        f"{name.replace('Config', 'Trainer')} compares answers, or distils or generates them as it trains: it has no "
        "labels that could be mixed. Leave the mixing out here; TRL's SFTTrainer and RewardTrainer can be mixed"
    )


def refuse_unmixed_step(trainer: Any, mixin: type) -> None:
    """Refuse a training step in which nobody asked for the mixed loss.

    Raises:
        RuntimeError: naming the class that trains otherwise, and the way out.
    """
    others = [base for base in type(trainer).__mro__ if base not in (Trainer, mixin)]
    owner, name = next(
        ((base, name) for base in others for name in ("training_step", "compute_loss") if name in vars(base)),
        (type(trainer), "training_step"),
    )
    raise RuntimeError(
        f"{owner.__name__}.{name} took a training step without the mixed loss: nothing was mixed, and no weight has "
        "changed yet. Take the loss from super().compute_loss in a class before MixupTrainerMixin, or write the loop "
        "with `Mixup`"
    )
