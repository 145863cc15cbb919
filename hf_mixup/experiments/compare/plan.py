"""The runs of a comparison: method x seed x share of the training rows x label noise, and what determines each."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

import hf_mixup
from hf_mixup.experiments.compare.arguments import AUTO, CompareArguments
from hf_mixup.experiments.compare.looks import looks
from hf_mixup.experiments.compare.startup import check_methods
from hf_mixup.experiments.compare.store import key_of, run_folder
from hf_mixup.experiments.compare.variants import Variant, parse_variants
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.report.statistics import contests
from hf_mixup.experiments.tasks.arguments import PAIRS, TaskArguments
from hf_mixup.experiments.tasks.prepare import Prepared, prepare
from hf_mixup.experiments.tasks.stream import shards_of
from hf_mixup.experiments.tasks.streaming import check_stream, influential
from hf_mixup.experiments.tasks.trained import files_of

# These say where files go, what is logged, what a card says and how fast data comes: they do not change the result.
_NO_INFLUENCE = (
    *("cache_images", "overwrite_output_dir", "language", "license"),
    *("output_dir", "run_name", "report_to", "disable_tqdm", "project", "push_to_hub", "debug"),
)
_NO_INFLUENCE_PREFIXES = ("log", "save_", "hub_", "eval_", "dataloader_num", "dataloader_p", "trackio_", "resume_")
_LOGGED = 0.02  # of all steps
_SCORED = 2  # version of the scores that are stored with a run; runs with others are trained again


@dataclass(frozen=True, eq=False)
class Setting:
    """Data that all methods are compared on: a share of the training rows, and how many of their labels are wrong.

    Args:
        name: in words; empty where the comparison has one setting only.
        noise: None where the task's own was left alone.
    """

    name: str
    fraction: float
    noise: float | None
    task: TaskArguments
    prepared: Prepared


@dataclass(frozen=True, eq=False)
class Run:
    """One cell of the comparison, everything that determines its result, and where it is stored."""

    setting: Setting
    variant: Variant
    seed: int
    determinants: dict[str, Any]
    folder: Path

    @property
    def title(self) -> str:
        """The run in words."""
        return ", ".join(filter(None, (self.variant.label, f"seed {self.seed}", self.setting.name)))


Inputs = tuple[CompareArguments, TaskArguments, SharedSettings, TrainingArguments]


@dataclass(frozen=True)
class Plan:
    """All runs in the order of training: setting by setting, and in each seed by seed; and what it was made from."""

    settings: list[Setting]
    runs: list[Run]
    inputs: Inputs

    @property
    def prepared(self) -> Prepared:
        """The first setting's, whose evaluation rows are those of all."""
        return self.settings[0].prepared

    def of_seeds(self, count: int) -> Plan:
        """Return the plan of the first so many seeds."""
        comparison, task, mixup, args = self.inputs
        runs = [run for run in self.runs if run.seed < args.seed + count]
        return Plan(self.settings, runs, (replace(comparison, seeds=count, max_seeds=None), task, mixup, args))


def make_plan(
    comparison: CompareArguments, task: TaskArguments, mixup: SharedSettings, args: TrainingArguments
) -> Plan:
    """Load the data and list the runs; refuse methods, settings or data that do not fit before anything is trained."""
    variants = parse_variants(comparison.methods, mixup, paired=task.task == PAIRS)
    if any(variant.smoothing for variant in variants) and not task.smooths:
        raise ValueError(f"methods has 'smoothing', but {task.task} has no single classes to smooth: leave it out")
    check_stream(task, args, *(variant.mixup for variant in variants))
    if comparison.seeds == AUTO:
        _refuse_without_contest(variants)
    settings = _settings(comparison, task)
    check_methods(settings[0].prepared, (variant.mixup for variant in variants))
    seeds = range(args.seed, args.seed + looks(comparison)[-1].most)
    # Seed by seed, so that after an interrupt whole seeds are there.
    device = comparison.device_type(args)
    runs = [plan_run(each, variant, seed, args, device) for each in settings for seed in seeds for variant in variants]
    return Plan(settings, runs, (comparison, task, mixup, args))


def _refuse_without_contest(variants: Sequence[Variant]) -> None:
    labels = [variant.label for variant in variants]
    if not any(methods for _, methods in contests(labels)):
        raise ValueError(
            f"seeds={AUTO} settles differences to a control, of which there are none among {', '.join(labels)}: "
            "name none or smoothing, and what is compared with it, in methods"
        )


def plan_run(setting: Setting, variant: Variant, seed: int, args: TrainingArguments, device: str | None = None) -> Run:
    """Return a run of `args.output_dir`, with all that decides how it comes out, as plain values.

    Args:
        device: kind of device that it is trained on [this machine's].
    """
    output, task = Path(str(args.output_dir)), setting.task
    splits = {"train": setting.prepared.splits.train, **setting.prepared.splits.evaluated}
    training = run_args(args, variant, seed, output)
    settings = {name: value for name, value in influential(task, asdict(task)).items() if name not in _NO_INFLUENCE}
    trained = {name: value for name, value in training.to_dict().items() if name not in _NO_INFLUENCE}
    determinants = {
        "task": settings,
        "mixup": variant.mixup.to_dict(),
        "training": {name: value for name, value in trained.items() if not name.startswith(_NO_INFLUENCE_PREFIXES)},
        "data": {split: rows._fingerprint for split, rows in splits.items()} | shards_of(setting.prepared.train),
        "checkpoint": files_of(task.model),
        "device": device or args.device.type,
        "scored": _SCORED,
        "versions": [hf_mixup.__version__, torch.__version__, transformers.__version__],
    }
    folder = run_folder(output, variant.label, seed, key_of(determinants))
    return Run(setting, variant, seed, determinants, folder)


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


def _settings(comparison: CompareArguments, task: TaskArguments) -> list[Setting]:
    few_shot = getattr(task, "few_shot", None)
    if few_shot and comparison.fractions != [1.0]:
        raise ValueError(f"few_shot={few_shot} and fractions both say which rows to train on: give one of them")
    if task.streaming and comparison.fractions != [1.0]:
        raise ValueError(f"fractions={comparison.fractions}: a stream has no end to take a share of; leave it out")
    noises: Sequence[float | None] = comparison.noises or [None]
    noisy = [task if noise is None else task.with_noise(noise) for noise in noises]  # or is refused
    first = prepare(task)
    found = []
    for fraction in comparison.fractions:
        for noise, own in zip(noises, noisy, strict=True):
            if fraction < 1:
                own = replace(own, max_train_samples=max(1, round(fraction * len(first.splits.train))))
            # All settings are judged on the same rows, which are cached in memory once.
            prepared = first if own == task else replace(prepare(own), evaluated=first.evaluated)
            found.append(Setting(_name(comparison, fraction, noise), fraction, noise, own, prepared))
    return found


def _name(comparison: CompareArguments, fraction: float, noise: float | None) -> str:
    parts = [f"{100 * fraction:g} % of the training rows"] if len(comparison.fractions) > 1 else []
    if noise is not None and len(comparison.noises or ()) > 1:
        parts.append(f"{100 * noise:g} % wrong labels")
    return ", ".join(parts)
