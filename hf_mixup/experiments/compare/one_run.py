"""Train, evaluate and store one run of a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import (
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from hf_mixup.experiments.compare.plan import Run, run_args
from hf_mixup.experiments.compare.store import Finished, atomic_dir, load_run, save_run
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.prepare import Prepared, finite, make_trainer, score_all
from hf_mixup.utils.files import NoSpaceError, is_full
from hf_mixup.utils.suggest import shortened

Show = Callable[[int, int], None]
"""Called with the step and the number of steps."""
_LONGEST = 300  # characters of a reason
_NOT_METRICS = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


@dataclass(frozen=True)
class Failed:
    """A run that raised, and why; nothing of it is stored, so that the next start tries it again."""

    reason: str


Outcomes = dict[Run, Finished | Failed]


class StopRun(Exception):
    """Raised by a callback to give a run up; nothing of it is stored."""


class StepCallback(TrainerCallback):
    """Report each step to a progress bar."""

    def __init__(self, show: Show) -> None:
        self.show = show

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.show(state.global_step, state.max_steps)


class WatchCallback(TrainerCallback):
    """A callback that is given the trainer of its run."""

    trainer: Trainer | None = None


def train_one(run: Run, args: TrainingArguments, show: Show, watch: Sequence[WatchCallback] = ()) -> Finished | Failed:
    """Train and store one run, or tell why it failed.

    Raises:
        NoSpaceError, StopRun: if there is no room to store it, or from a callback of `watch`.
    """
    try:
        with atomic_dir(run.folder) as folder:
            train_run(run, run_args(args, run.variant, run.seed, folder), show, watch)
        return read_back(run)
    except StopRun:
        raise
    except Exception as error:  # whatever a run dies of, the others go on
        if is_full(error, run.folder):
            raise NoSpaceError(f"no space to store {run.variant.label}, seed {run.seed}: {error}") from error
        return Failed(reason_of(error))


def read_back(run: Run) -> Finished | Failed:
    """Return a run that was just stored."""
    return load_run(run.folder) or Failed("it was stored and cannot be read back")


def reason_of(error: Exception) -> str:
    """Return an error in one line of at most 300 characters."""
    return shortened(" ".join(f"{type(error).__name__}: {error}".split()), _LONGEST)


def train_run(run: Run, args: TrainingArguments, show: Show, watch: Sequence[WatchCallback] = ()) -> None:
    """Train and evaluate one run; leave model, model card and results in `args.output_dir`."""
    prepared, task, folder = run.setting.prepared, run.setting.task, Path(str(args.output_dir))
    set_seed(args.seed)  # before the model is built: all methods start from the same weights
    trainer = make_trainer(prepared, prepared.build_model(), args, run.variant.mixup)
    trainer.compute_metrics = scores_even_if_diverged(prepared)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepCallback(show))
    for callback in watch:
        callback.trainer = trainer
        trainer.add_callback(callback)
    trainer.train()
    trainer.save_model()
    metrics: dict[str, dict[str, float | None]] = {}
    predictions: dict[str, tuple[np.ndarray, ...]] = {}
    for split, (prefix, found, predictions[split]) in score_all(trainer, prepared):
        short = {name.removeprefix(f"{prefix}_"): value for name, value in found.items()}
        metrics[split] = {name: finite_or_none(value) for name, value in short.items() if name not in _NOT_METRICS}
    output = run.folder.parent.parent
    title = f"{output.name}-{run.variant.label}"
    write_card(trainer, task, run.variant.mixup, prepared.shown(metrics), model_name=title)
    save_run(folder, metrics, predictions, run.determinants, trainer.state.log_history)


def scores_even_if_diverged(prepared: Prepared) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return a `compute_metrics` that gives NaN for a run that diverged, which the table shows."""

    def scores(prediction: EvalPrediction) -> dict[str, float]:
        if finite(prediction.predictions):
            return prepared.compute_metrics(prediction)
        return dict.fromkeys(prepared.metrics, math.nan)

    return scores


def finite_or_none(value: float | None) -> float | None:
    """Return a score as JSON takes it, which knows no NaN."""
    return float(value) if value is not None and math.isfinite(value) else None
