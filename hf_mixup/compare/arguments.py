"""What to compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class CompareArguments:
    """Methods, seeds and the choice of the best model; in a configuration file, the mapping `compare:`.

    Raises:
        ValueError: for a number of seeds below 1.
    """

    methods: list[str] = field(
        default_factory=lambda: ["none", "smoothing", "mixup", "cutmix"],
        metadata={
            "help": "Mixing methods, and the controls none and smoothing; with settings: mixup:alpha=0.2 "
            "[none,smoothing,mixup,cutmix]"
        },
    )
    seeds: int = field(default=1, metadata={"help": "Runs a method, with seeds seed, seed + 1, ..."})
    select_by: (
        Literal[
            "nll", "accuracy", "mean_recall", "f1_entity", "f1_macro", "exact_match", "mse", "mae", "r2", "spearman"
        ]
        | None
    ) = field(
        default=None,
        metadata={"help": "Validation metric that picks the best model (default: nll, or mse for regression)."},
    )

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds={self.seeds}: expected a whole number from 1 on")
