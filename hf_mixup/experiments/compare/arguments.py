"""What to compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_mixup.utils.values import convert_fields, setting

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
        ValueError: for a number of seeds below 1, or a share that is none or is given twice.

    >>> CompareArguments(fractions=[0.1, 2.0])
    Traceback (most recent call last):
    ...
    ValueError: fractions=2.0: expected a number in (0, 1]
    """

    methods: list[str] = setting(
        lambda: ["none", "smoothing", "mixup", "cutmix"],
        "Mixing methods, and the controls none and smoothing; with settings: mixup:alpha=0.2 "
        "[none,smoothing,mixup,cutmix]",
    )
    seeds: int = setting(1, "Runs a method, with seeds seed, seed + 1, ...", at_least=1)
    fractions: list[float] = setting(
        lambda: [1.0],
        "Compare on these shares of the training rows; smaller ones are parts of larger ones [1.0]",
        above=0,
        at_most=1,
    )
    noises: list[float] | None = setting(
        None,
        "Compare with these shares of wrong training labels (image-text: of captions in the wrong place) [label_noise]",
        at_least=0,
        below=1,
    )
    select_by: SelectBy | None = setting(None, "Validation metric that picks the best model (default: nll, or mse).")

    def __post_init__(self) -> None:
        convert_fields(self)
        if not self.fractions:
            raise ValueError("fractions names no share of the training rows; leave it out for all of them")
        for name in ("fractions", "noises"):
            values = getattr(self, name) or []
            if len(set(values)) < len(values):
                raise ValueError(f"{name} has a value twice: {', '.join(map(str, values))}")
