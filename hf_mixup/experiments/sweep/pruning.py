"""Evaluation during a run, to give up a bad one."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_mixup.experiments.compare.one_run import StopRun, WatchCallback

CHECKS = 4  # parts of a run; it is evaluated after each but the last


class PruneCallback(WatchCallback):
    """Report a validation metric to a trial a few times a run, and stop where the study says so.

    The random generators are left as they were, so that the evaluation does not change the weights of the run.
    """

    def __init__(self, trial: Any, metric: str) -> None:
        self.trial, self.metric = trial, metric

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        part = state.global_step * CHECKS // state.max_steps
        if part in (0, CHECKS) or (state.global_step - 1) * CHECKS // state.max_steps == part or self.trainer is None:
            return
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            found = self.trainer.evaluate(metric_key_prefix="watch").get(f"watch_{self.metric}", math.nan)
        if not math.isfinite(found):
            raise StopRun(f"{self.metric} is {found} after {state.global_step} steps")
        self.trial.report(found, part)
        if self.trial.should_prune():
            raise StopRun(f"{self.metric} {found:.3f} after {state.global_step} steps is worse than the median")
