"""Evaluate every run of a comparison alike, then write tables and images over methods and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hf_mixup.augment.tta import View
from hf_mixup.experiments.compare.one_run import reason_of
from hf_mixup.experiments.evaluate.arguments import EvaluateArguments
from hf_mixup.experiments.evaluate.image_changes import ImageCache
from hf_mixup.experiments.evaluate.one_model import ModelEvaluation, progress_bar
from hf_mixup.experiments.evaluate.run import (
    PARTS,
    REPORT,
    RESULTS,
    TABLES,
    checked,
    output_folder,
    prepared_for,
    subject_of,
    tested_splits,
)
from hf_mixup.experiments.evaluate.stored_runs import StoredRun, share_of, stored_runs
from hf_mixup.experiments.report.evaluation_page import write_evaluation_page
from hf_mixup.experiments.report.robustness import differences_of, draw_runs, runs_tables
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.data import Splits
from hf_mixup.experiments.tasks.prepared import Prepared
from hf_mixup.experiments.tasks.saved import check_folder
from hf_mixup.experiments.tasks.settings import settings_of
from hf_mixup.metrics.results import Measured
from hf_mixup.utils.files import is_disk_full, resumable, write_json, write_text
from hf_mixup.utils.silence import silence_libraries

DIFFERENCES = "differences.json"


def evaluate_comparison(
    comparison: Path,
    evaluation: EvaluateArguments,
    task: TaskArguments,
    args: TrainingArguments,
    output: Path | None = None,
    command: str = "hf_mixup.experiments.evaluate.every_run.evaluate_comparison(...)",
) -> list[Measured]:
    """Score every run that the results of a comparison name, one after the other, as `evaluate` scores one model.

    All are scored on the same rows, and perturbed images are made once, as far as they fit into 2 GB. A run that
    fails is reported, and the others go on. Each finished part is stored in `finished/`, in a folder a run.

    Writes `results.json` with the rows of all runs, `tables.md`, `differences.json` with the paired differences to
    the controls, images with one line a method, and `report.html`, which holds tables and images.

    Args:
        comparison: a folder that `hf-mixup compare` left.
        task: its data; what it says of a model is left aside.
        output: default: `evaluation` in the comparison's folder.
        command: how the evaluation was started, for the report.

    Raises:
        RuntimeError: if every run failed; and as `evaluate`.
    """
    if evaluation.label_noise_runs:
        raise ValueError("label_noise_runs belongs to one model: name the folder of a run, not that of a comparison")
    request = checked(evaluation, task, args)
    runs = stored_runs(comparison)
    output = output_folder(output, str(comparison))
    with silence_libraries():
        scored = _Runs(request, task, args, output / PARTS, tested_splits(task))
        results = scored.all(runs)
    share = share_of(comparison, runs)
    tables, differences = runs_tables(results, share), differences_of(results, share)
    images = draw_runs(results, output)
    write_text(output / TABLES, tables)
    write_json(output / DIFFERENCES, differences)
    write_json(output / RESULTS, results)
    print(tables)
    settings = settings_of(task, args) | {"evaluate": settings_of(evaluation)}
    print(f"report: {write_evaluation_page(output / REPORT, comparison.name, tables, images, command, settings)}")
    return results


@dataclass
class _Runs:
    """The runs, one after the other, under one progress bar, on rows that are prepared once."""

    request: tuple[EvaluateArguments, list[View], list[Measured] | None]
    task: TaskArguments
    args: TrainingArguments
    parts: Path
    splits: Splits
    prepared: Prepared | None = None
    cache: ImageCache = field(default_factory=ImageCache)
    bar: Any = None

    def all(self, runs: Sequence[StoredRun]) -> list[Measured]:
        """Return the results of all runs; a run that failed has its reason and no scores."""
        found: list[list[Measured] | str] = []
        self.bar = progress_bar(len(runs), "runs")
        try:
            with resumable(lambda: f"{len(found)} of {len(runs)} runs are evaluated, and finished parts are kept"):
                for number, run in enumerate(runs):
                    self.bar.set_description_str(f"{run.label}, seed {run.seed}")
                    found.append(self._one(run))
                    if isinstance(found[-1], str):
                        self.bar.write(f"{run.label}, seed {run.seed} failed: {found[-1]}", file=self.bar.fp)
                    self.bar.update(number + 1 - self.bar.n)
        finally:
            self.bar.close()
        whole = next((each for each in found if not isinstance(each, str)), None)
        if whole is None:
            raise RuntimeError(f"all {len(runs)} runs failed, the first one with: {found[0]}")
        results: list[Measured] = []
        for run, each in zip(runs, found, strict=True):
            results += _without(run, each, whole) if isinstance(each, str) else each
        return results

    def _one(self, run: StoredRun) -> list[Measured] | str:
        """Return the results of a run, or why it has none."""
        if run.folder is None:
            return run.reason
        checkpoint = str(run.folder)
        try:
            check_folder(checkpoint)
            if self.prepared is None:  # all runs of a comparison take the same rows
                self.prepared = prepared_for(checkpoint, self.task, self.splits)
            parts, label = self.parts / run.folder.name, (run.label, run.seed)
            subject = subject_of(checkpoint, self.task, self.prepared, self.args, parts, label, self.cache)
            return ModelEvaluation(subject, *self.request, self.bar).run()[0]
        except Exception as error:  # whatever a run dies of, the others go on
            if is_disk_full(error):
                raise
            return reason_of(error)


def _without(run: StoredRun, reason: str, whole: Sequence[Measured]) -> list[Measured]:
    """Return the results of another run under the name of this one, without scores."""
    own: Any = {"method": run.label, "seed": run.seed, "error": reason}
    return [{**row, **own, "metrics": dict.fromkeys(row["metrics"])} for row in whole]
