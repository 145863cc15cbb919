"""What to compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hf_mixup.utils.values import check_whole, convert_fields, setting

SelectBy = Literal[
    "nll", "accuracy", "mean_recall", "f1_entity", "f1_macro", "exact_match", "mse", "mae", "r2", "spearman"
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
    ValueError: fractions has 2.0: expected shares of the training rows in (0, 1]
    """

    methods: list[str] = field(
        default_factory=lambda: ["none", "smoothing", "mixup", "cutmix"],
        metadata={
            "help": "Mixing methods, and the controls none and smoothing; with settings: mixup:alpha=0.2 "
            "[none,smoothing,mixup,cutmix]"
        },
    )
    seeds: int = setting(1, "Runs a method, with seeds seed, seed + 1, ...")
    fractions: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={"help": "Compare on these shares of the training rows; smaller ones are parts of larger ones [1.0]"},
    )
    noises: list[float] | None = setting(
        None,
        "Compare with these shares of wrong training labels (image-text: of captions in the wrong place) [label_noise]",
    )
    select_by: SelectBy | None = setting(
        None, "Validation metric that picks the best model (default: nll, or mse for regression)."
    )

    def __post_init__(self) -> None:
        convert_fields(self)
        check_whole("seeds", self.seeds)
        if not self.fractions:
            raise ValueError("fractions names no share of the training rows; leave it out for all of them")
        for value in self.fractions:
            if not 0 < value <= 1:
                raise ValueError(f"fractions has {value!r}: expected shares of the training rows in (0, 1]")
        for value in self.noises or ():
            if not 0 <= value < 1:
                raise ValueError(f"noises has {value!r}: expected shares of wrong training labels in [0, 1)")
        for name in ("fractions", "noises"):
            values = getattr(self, name) or []
            if len(set(values)) < len(values):
                raise ValueError(f"{name} has a value twice: {', '.join(map(str, values))}")
