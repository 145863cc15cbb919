"""What to compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hf_mixup.utils.values import convert, convert_fields, setting

if TYPE_CHECKING:
    from transformers import TrainingArguments

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


@dataclass(kw_only=True)
class ClusterArguments:
    """Where runs are trained, if not on this machine."""

    ray: str | None = setting(None, "Train the runs on a Ray cluster: auto or HOST:PORT (output_dir on a shared disk)")
    cpus_per_run: int | None = setting(None, "ray: CPUs of a run, and threads that it computes with [1]", at_least=1)
    gpus_per_run: float | None = setting(
        None, "ray: GPUs of a run; 0.5 lets two share one [1 if this machine has one, else 0]", at_least=0
    )

    def check_cluster(self) -> None:
        """Refuse settings of a cluster where there is none."""
        for name in ("cpus_per_run", "gpus_per_run"):
            if self.ray is None and getattr(self, name) is not None:
                raise ValueError(f"{name}={getattr(self, name):g} is for runs on a cluster: name one with --ray auto")

    def resources(self, args: TrainingArguments) -> dict[str, float]:
        """Return what a run takes, as Ray names it."""
        gpus = self.gpus_per_run
        return {
            "num_cpus": self.cpus_per_run or 1,
            "num_gpus": float(args.device.type == "cuda") if gpus is None else gpus,
        }

    def device_type(self, args: TrainingArguments) -> str:
        """Return what runs are trained on; the machine that starts them may have another."""
        if self.ray is None:
            return args.device.type
        return "cuda" if self.resources(args)["num_gpus"] else "cpu"


@dataclass
class CompareArguments(ClusterArguments):
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
        "Runs a method; auto: as many as settle its differences to controls",
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
        self.check_cluster()
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
