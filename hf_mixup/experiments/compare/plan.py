"""The cells of a comparison: method x seed x share of the rows x label noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hf_mixup.experiments.compare.arguments import CompareArguments
from hf_mixup.experiments.compare.runs import determinants, run_args
from hf_mixup.experiments.compare.store import key_of, run_folder
from hf_mixup.experiments.compare.variants import Variant, parse_variants
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.tasks.arguments import PAIRS, TaskArguments
from hf_mixup.experiments.tasks.prepare import Prepared, check_mixing, check_readable, prepare
from hf_mixup.utils.silence import silence_libraries


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
    """One cell of the comparison and where it is stored."""

    setting: Setting
    variant: Variant
    seed: int
    determinants: dict[str, Any]
    folder: Path


Made = tuple[CompareArguments, TaskArguments, SharedSettings, TrainingArguments]


@dataclass(frozen=True)
class Plan:
    """All runs in the order of training: setting by setting, and in each seed by seed; and what it was made from."""

    settings: list[Setting]
    runs: list[Run]
    made: Made

    @property
    def prepared(self) -> Prepared:
        """The first setting's, whose evaluation rows are those of all."""
        return self.settings[0].prepared


def make_plan(
    comparison: CompareArguments, task: TaskArguments, mixup: SharedSettings, args: TrainingArguments
) -> Plan:
    """Load the data and list the runs.

    Raises:
        ValueError: for methods, settings or data that do not fit, before anything is trained.
    """
    variants = parse_variants(comparison.methods, mixup, paired=task.task == PAIRS)
    if task.label_kind == "number" and any(variant.smoothing for variant in variants):
        raise ValueError(f"methods has 'smoothing', but {task.task} has no classes to smooth: leave it out")
    settings = _settings(comparison, task)
    _check_variants(variants, settings[0].prepared)
    output, runs = Path(str(args.output_dir)), []
    for setting in settings:
        for seed in range(args.seed, args.seed + comparison.seeds):  # after an interrupt, whole seeds are there
            for variant in variants:
                own = determinants(setting.prepared, setting.task, variant, run_args(args, variant, seed, output))
                folder = run_folder(output, variant.label, seed, key_of(own))
                runs.append(Run(setting, variant, seed, own, folder))
    return Plan(settings, runs, (comparison, task, mixup, args))


def _settings(comparison: CompareArguments, task: TaskArguments) -> list[Setting]:
    few_shot = getattr(task, "few_shot", None)
    if few_shot and comparison.fractions != [1.0]:
        raise ValueError(f"few_shot={few_shot} and fractions both say which rows to train on: give one of them")
    noises: Sequence[float | None] = comparison.noises or [None]
    # A task that has no such noise refuses it.
    noisy = [task if noise is None else task.with_noise(noise) for noise in noises]
    first = prepare(task)
    found = []
    for fraction in comparison.fractions:
        for noise, own in zip(noises, noisy, strict=True):
            if fraction < 1:
                own = replace(own, max_train_samples=max(1, round(fraction * len(first.splits.train))))
            # The rows to judge on are the same ones, and are kept in memory once.
            prepared = first if own == task else replace(prepare(own), evaluated=first.evaluated)
            found.append(Setting(_name(comparison, fraction, noise), fraction, noise, own, prepared))
    return found


def _name(comparison: CompareArguments, fraction: float, noise: float | None) -> str:
    parts = []
    if len(comparison.fractions) > 1:
        parts.append(f"{100 * fraction:g} % of the training rows")
    if noise is not None and len(comparison.noises or ()) > 1:
        parts.append(f"{100 * noise:g} % wrong labels")
    return ", ".join(parts)


def _check_variants(variants: Sequence[Variant], prepared: Prepared) -> None:
    """Refuse a method that does not fit before the first run is trained, not after hours."""
    with silence_libraries():
        check_readable(prepared)
        model = prepared.build_model()
        for variant in variants:
            check_mixing(prepared, model, variant.mixup)
