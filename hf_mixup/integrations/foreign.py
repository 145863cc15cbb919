"""Trainers that never ask for a loss which could be mixed: they are refused by name, before they train plainly."""

from __future__ import annotations

KNOWN = ("SFTTrainer", "RewardTrainer", "SFTConfig", "RewardConfig")
"""What of TRL can be mixed; classes that inherit from these train on something else."""


def of_trl(kind: type) -> str | None:
    """Return the name of the first class of TRL among a class and its bases, None where there is none.

    >>> of_trl(int) is None
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
