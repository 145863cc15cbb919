"""Trainers that never ask for a loss which could be mixed: they are refused by name, before they train plainly."""

from __future__ import annotations

from functools import cache

KNOWN = ("SFTTrainer", "RewardTrainer", "SFTConfig", "RewardConfig")
"""What of TRL can be mixed; classes that inherit from these train on something else."""


def base_from(package: str, kind: type) -> str | None:
    """Return the name of the first class of a package among a class and its bases, None where there is none.

    >>> from torch.nn import Linear
    >>> base_from("torch", Linear), base_from("trl", Linear)
    ('Linear', None)
    """
    return _base_from(package, kind)


@cache  # asked at every batch
def _base_from(package: str, kind: type) -> str | None:
    return next((base.__name__ for base in kind.__mro__ if base.__module__.startswith(f"{package}.")), None)


def refuse_foreign_trainer(trainer: type) -> None:
    """Refuse a trainer of TRL (its class, or that of its arguments) that has no labels to mix.

    Raises:
        ValueError: naming it and the way out.
    """
    name = base_from("trl", trainer)
    if name is None or name in KNOWN:
        return
    raise ValueError(
        f"{name.replace('Config', 'Trainer')} compares answers, or distils or generates them as it trains: it has no "
        "labels that could be mixed. Leave the mixing out here; TRL's SFTTrainer and RewardTrainer can be mixed"
    )
