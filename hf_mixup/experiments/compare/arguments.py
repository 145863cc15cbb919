"""What to compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_mixup.utils.values import convert, convert_fields, setting

AUTO = "auto"
FIRST_LOOK = 5
"""Seeds after which `seeds: auto` looks for the first time."""
MAX_SEEDS = 20
SelectBy = Literal[
    "nll",
    "accuracy",
    "mean_recall",
    "f1_entity",
    "f1_macro",
    "exact_match",
    "wer",
    "cer",
    "mse",
    "mae",
    "r2",
    "spearman",
]
"""Validation metrics that can decide between runs; each task has some of them."""


@dataclass
class CompareArguments:
    """Methods, seeds, settings of the data, and the choice of the best model; in a file, the mapping `compare:`.

    Raises:
        ValueError: for a number of seeds below 1, `max_seeds` beside such a number, or a share that is none or is
            given twice.

    >>> CompareArguments(fractions=[0.1, 2.0])
    Traceback (most recent call last):
    ...
    ValueError: fractions=2.0: expected a number in (0, 1]
    """

    methods: list[str] = setting(
        lambda: ["none", "smoothing", "mixup", "cutmix"],
        "Mixing methods, and the controls none and smoothing; with settings: mixup:alpha=0.2",
    )
    seeds: int | str = setting(
        1,
        "Runs a method, with seeds seed, seed + 1, ...; auto: as many as settle the differences to the controls",
        at_least=1,
    )
    max_seeds: int | None = setting(
        None, f"seeds=auto: the last look comes after at most so many seeds [{MAX_SEEDS}]", at_least=FIRST_LOOK
    )
    fractions: list[float] = setting(
        lambda: [1.0],
        "Compare on these shares of the training rows; smaller ones are parts of larger ones",
        above=0,
        at_most=1,
    )
    noises: list[float] | None = setting(
        None,
        "Compare with these shares of wrong training labels (image-text: of captions in the wrong place; "
        "default: `label_noise`).",
        at_least=0,
        below=1,
    )
    select_by: SelectBy | None = setting(None, "Validation metric that picks the best model (default: nll, or mse).")

    def __post_init__(self) -> None:
        self.seeds = _number_or_auto(self.seeds)
        convert_fields(self)
        if self.max_seeds is not None and self.seeds != AUTO:
            raise ValueError(
                f"max_seeds={self.max_seeds} is for seeds=auto, and seeds={self.seeds}: leave one of them out"
            )
        if not self.fractions:
            raise ValueError("fractions names no share of the training rows; leave it out for all of them")
        for name in ("fractions", "noises"):
            values = getattr(self, name) or []
            if len(set(values)) < len(values):
                raise ValueError(f"{name} has a value twice: {', '.join(map(str, values))}")


def _number_or_auto(seeds: int | str) -> int | str:
    if seeds == AUTO:
        return AUTO
    try:
        number: int = convert("seeds", seeds, int)
    except ValueError:
        raise ValueError(f"seeds={seeds!r}: expected a whole number from 1 on, or {AUTO}") from None
    return number
