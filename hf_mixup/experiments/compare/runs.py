"""One run of a comparison: what determines it, and its training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
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
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

import hf_mixup
from hf_mixup.experiments.compare.store import save_run
from hf_mixup.experiments.compare.variants import Variant
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.card import write_card
from hf_mixup.experiments.tasks.prepare import Prepared, finite, make_trainer, score_all

# What says where files go, what is logged and how fast data comes has no influence on the result.
_NO_INFLUENCE = ("output_dir", "run_name", "report_to", "disable_tqdm", "project", "push_to_hub", "debug")
_NO_INFLUENCE_PREFIXES = ("log", "save_", "hub_", "eval_", "dataloader_num", "dataloader_p", "trackio_", "resume_")
_LOGGED = 0.02  # of all steps
_SCORED = 2  # which scores a run is stored with; runs with others are trained again
_NOT_METRICS = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


def run_args(args: TrainingArguments, variant: Variant, seed: int, output: Path) -> TrainingArguments:
    """Return the Trainer's settings for one run: nothing but the seed and the smoothing differs between runs."""
    own = copy.copy(args)
    own.seed, own.output_dir = seed, str(output)
    own.disable_tqdm = True  # one bar shows all runs
    # A run is short and is repeated from its start: no checkpoints, and no evaluation in between.
    own.save_strategy, own.eval_strategy = SaveStrategy.NO, IntervalStrategy.NO
    own.load_best_model_at_end = False
    if not own.report_to:  # nobody reads the logs but the training curves
        own.logging_strategy, own.logging_steps = IntervalStrategy.STEPS, _LOGGED
    if variant.smoothing is not None:
        own.label_smoothing_factor = variant.smoothing
    return own


def determinants(prepared: Prepared, task: TaskArguments, variant: Variant, args: TrainingArguments) -> dict[str, Any]:
    """Return everything that decides how a run comes out, as plain values."""
    splits = {"train": prepared.splits.train, **prepared.splits.evaluated}
    ignored = {"cache_images", "overwrite_output_dir"}
    return {
        "task": {name: value for name, value in asdict(task).items() if name not in ignored},
        "mixup": variant.mixup.to_dict(),
        "training": {name: value for name, value in args.to_dict().items() if _matters(name)},
        "data": {split: rows._fingerprint for split, rows in splits.items()},
        "checkpoint": _files(task.model),
        "device": args.device.type,
        "scored": _SCORED,
        "versions": [hf_mixup.__version__, torch.__version__, transformers.__version__],
    }


def _matters(name: str) -> bool:
    return name not in _NO_INFLUENCE and not name.startswith(_NO_INFLUENCE_PREFIXES)


def _files(model: str | None) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of a local checkpoint's files, which may be trained further in place."""
    if model is None or not Path(model).is_dir():
        return []
    stats = [(path.name, path.stat()) for path in sorted(Path(model).iterdir()) if path.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


class StepCallback(TrainerCallback):
    """Tell a progress bar about each step: calls `show(step, steps)`."""

    def __init__(self, show: Callable[[int, int], None]) -> None:
        self.show = show

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.show(state.global_step, state.max_steps)


class WatchCallback(TrainerCallback):
    """A callback that is told the trainer of its run."""

    trainer: Trainer | None = None


def train_run(
    prepared: Prepared,
    task: TaskArguments,
    variant: Variant,
    args: TrainingArguments,
    name: str,
    settings: Mapping[str, Any],
    show: Callable[[int, int], None],
    watch: Sequence[WatchCallback] = (),
) -> None:
    """Train and evaluate one run; leave model, model card and results in `args.output_dir`."""
    set_seed(args.seed)  # before the model is built: all methods start from the same weights
    trainer = make_trainer(prepared, prepared.build_model(), args, variant.mixup)
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
        metrics[split] = _metrics(found, prefix)
    write_card(trainer, task, model_name=name)
    save_run(Path(str(args.output_dir)), metrics, predictions, settings, trainer.state.log_history)


def scores_even_if_diverged(prepared: Prepared) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return what scores a split; NaN for a run that diverged, which belongs into the table and must not end it all."""

    def scores(prediction: EvalPrediction) -> dict[str, float]:
        if finite(prediction.predictions):
            return prepared.compute_metrics(prediction)
        return dict.fromkeys(prepared.metrics, math.nan)

    return scores


def _metrics(found: Mapping[str, float], prefix: str) -> dict[str, float | None]:
    """Return the scores under their own names; what is not finite becomes None, as JSON has no other word for it."""
    short = {name.removeprefix(f"{prefix}_"): value for name, value in found.items()}
    scores = {name: value for name, value in short.items() if name not in _NOT_METRICS}
    return {name: float(value) if math.isfinite(value) else None for name, value in scores.items()}
