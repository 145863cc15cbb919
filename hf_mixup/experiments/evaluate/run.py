"""Evaluate one model, then write results, images and the model card."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from transformers import TrainingArguments

import hf_mixup
from hf_mixup.augment.tta import View
from hf_mixup.engine.config import CONFIG_NAME, MixupConfig
from hf_mixup.experiments.compare.startup import check_output, refuse_launcher
from hf_mixup.experiments.evaluate.arguments import EvaluateArguments
from hf_mixup.experiments.evaluate.image_changes import ImageCache
from hf_mixup.experiments.evaluate.one_model import ModelEvaluation, Subject
from hf_mixup.experiments.evaluate.ood import OOD
from hf_mixup.experiments.evaluate.perturbation import Source
from hf_mixup.experiments.evaluate.scorer import Scorer
from hf_mixup.experiments.evaluate.store import PartStore
from hf_mixup.experiments.evaluate.views import parse_views
from hf_mixup.experiments.report.evaluation import BY_LEVEL, add_evaluation_section, draw_evaluation, evaluation_tables
from hf_mixup.experiments.report.evaluation_page import write_evaluation_page
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.data import Splits, load_splits
from hf_mixup.experiments.tasks.prepared import Prepared
from hf_mixup.experiments.tasks.saved import check_folder, saved_task
from hf_mixup.experiments.tasks.settings import settings_of
from hf_mixup.experiments.tasks.trained import files_of, load_model, relabelled
from hf_mixup.metrics.results import Measured
from hf_mixup.utils.files import read_json, resumable, write_json, write_text
from hf_mixup.utils.silence import silence_libraries
from hf_mixup.utils.suggest import require

RESULTS, TABLES, REPORT, PARTS = "results.json", "tables.md", "report.html", "finished"
_SIZES = ("image_size", "max_length")  # settings that change what a model is given


def evaluate(
    checkpoint: str,
    evaluation: EvaluateArguments,
    task: TaskArguments,
    args: TrainingArguments,
    output: Path | None = None,
    command: str = "hf_mixup.experiments.evaluate.run.evaluate(...)",
) -> list[Measured]:
    """Score a saved classifier on every test split, with all chosen suites.

    Writes `results.json`, `tables.md`, PNG images and `report.html`, which holds them, into the output folder, and a
    section into the model card of a checkpoint on disk. Each finished part is stored in `finished/`, so that an
    evaluation goes on where it was stopped.

    Args:
        checkpoint: a folder with a model, or its name on the Hub.
        task: its data; what it says of a model is left aside.
        args: batch size, device, workers and seed count.
        output: default: `evaluation` in the checkpoint's folder.
        command: how the evaluation was started, for the report.

    Raises:
        ValueError: for settings, data, a checkpoint or an output folder that do not fit.
        FileNotFoundError, ImportError: for a model, data or an optional package that is missing.
        KeyboardInterrupt: after Ctrl-C, saying how much is done.

    >>> import contextlib, io, tempfile
    >>> from hf_mixup.experiments.tasks.prepare import prepare
    >>> small = {"layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8], "depths": [1]}
    >>> task = TaskArguments(image_size=32, model_type="resnet", config_overrides=small, max_eval_samples=20)
    >>> data, folder = prepare(task), tempfile.mkdtemp()
    >>> _ = data.build_model().save_pretrained(folder), data.processing_class.save_pretrained(folder)
    >>> args = TrainingArguments(tempfile.mkdtemp(), use_cpu=True)
    >>> with contextlib.redirect_stdout(io.StringIO()):  # the tables
    ...     results = evaluate(folder, EvaluateArguments(write_card=False), task, args)
    >>> [each["split"] for each in results]
    ['test', 'test_shifted']
    """
    evaluation, views, baseline = checked(evaluation, task, args)
    for folder in (checkpoint, *(evaluation.label_noise_runs or ())):
        check_folder(folder)
    output = output_folder(output, checkpoint)
    with silence_libraries():
        prepared = prepared_for(checkpoint, task, tested_splits(task))
        subject = subject_of(checkpoint, task, prepared, args, output / PARTS)
        whole = ModelEvaluation(subject, evaluation, views, baseline)
        try:
            with resumable(lambda: f"{whole.done} of {whole.total} parts are finished and kept"):
                results, arrays = whole.run()
        finally:
            whole.bar.close()
    images = draw_evaluation(results, arrays, output)
    for name in (*BY_LEVEL, OOD):  # of an earlier evaluation with other suites
        if output / f"{name}.png" not in images:
            (output / f"{name}.png").unlink(missing_ok=True)
    tables = evaluation_tables(results)
    write_text(output / TABLES, tables)
    write_json(output / RESULTS, results)
    print(tables)
    if evaluation.write_card and Path(checkpoint).is_dir():
        add_evaluation_section(Path(checkpoint), results, images, task.hub_task or task.task, task.dataset)
        print(f"model card: {Path(checkpoint) / 'README.md'}")
    settings = settings_of(task, args) | {"evaluate": settings_of(evaluation)}
    report = write_evaluation_page(output / REPORT, Path(checkpoint).name, tables, images, command, settings)
    print(f"report: {report}")
    return results


def checked(
    evaluation: EvaluateArguments, task: TaskArguments, args: TrainingArguments
) -> tuple[EvaluateArguments, list[View], list[Measured] | None]:
    """Return the arguments with their suites in order, the views and the baseline, before anything is loaded."""
    evaluation = evaluation.for_task(task)
    views = parse_views(evaluation.tta or (), task.task)
    refuse_launcher(args, "evaluate", verb="runs")
    baseline = _baseline(evaluation.baseline)
    require("the images need", "matplotlib", "plots")
    return evaluation, views, baseline


def output_folder(output: Path | None, checkpoint: str) -> Path:
    """Return where results go, by default `evaluation` in the folder that is evaluated."""
    if output is None:
        if not Path(checkpoint).is_dir():
            raise ValueError(f"{checkpoint} is no folder to leave results in: name one with --output_dir")
        output = Path(checkpoint) / "evaluation"
    check_output(output, [PARTS, RESULTS], "evaluation")
    return output


def _baseline(path: str | None) -> list[Measured] | None:
    """Read the results of another model."""
    if path is None:
        return None
    file = Path(path) / RESULTS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"baseline: no such results of an evaluation: {file}")
    try:
        results = read_json(file)
        if not any(each.get("suite") in BY_LEVEL for each in results):
            raise ValueError("no perturbed rows")
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"baseline: {file} holds no evaluation with curves to compare with: {error}") from error
    return list(results)


def tested_splits(task: TaskArguments) -> Splits:
    """Load the rows to score; refuse too few of them."""
    splits = load_splits(task)
    if not splits.tests:
        raise ValueError("the dataset has no split to test on: name some with --test_splits")
    if len(splits.validation) < 2:
        raise ValueError("a temperature cannot be fitted on one validation row: give a larger validation_share")
    for split, rows in splits.tests.items():
        if not len(rows):
            raise ValueError(f"split {split!r} has no rows: leave it out of --test_splits")
    return splits


def prepared_for(checkpoint: str, task: TaskArguments, splits: Splits) -> Prepared:
    """Return the rows as the saved model takes them, their classes numbered as its own."""
    return task.for_checkpoint(checkpoint).prepared(relabelled(splits, checkpoint, task.columns["label"]))


def subject_of(
    checkpoint: str,
    task: TaskArguments,
    prepared: Prepared,
    args: TrainingArguments,
    parts: Path,
    label: tuple[str, int] | None = None,
    cache: ImageCache | None = None,
) -> Subject:
    """Load the model and join it with its test rows; finished parts are stored in a folder."""
    model = load_model(checkpoint, task.task).to(args.device)
    scorer = Scorer(model, prepared.collator, args.per_device_eval_batch_size, args.device, args.dataloader_num_workers)
    determinants = {
        "checkpoint": files_of(checkpoint) or checkpoint,
        "inputs": [task.task, *(getattr(task, name, None) for name in _SIZES), *task.columns.values()],
        "seed": args.seed,
        "device": args.device.type,
        "versions": [hf_mixup.__version__, torch.__version__, transformers.__version__],
    }
    source = Source(prepared, task.for_checkpoint(checkpoint), args.seed, cache)
    return Subject(checkpoint, source, scorer, PartStore(parts, determinants), label or run_label(checkpoint))


def run_label(checkpoint: str) -> tuple[str, int]:
    """Return the name of a model in the results, its mixing method if it was trained here, and the seed of its run."""
    path = Path(checkpoint)
    task, seed = saved_task(path) if path.is_dir() else ({}, None)
    if (path / CONFIG_NAME).is_file():
        mixup = MixupConfig.from_pretrained(path)
        return "none" if mixup.off else mixup.method, seed or 0
    return ("none" if task or seed is not None else path.resolve().name if path.is_dir() else checkpoint), seed or 0
