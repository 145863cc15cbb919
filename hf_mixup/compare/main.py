"""All runs of a comparison, then the table, the pictures and the best model."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import TrainingArguments
from transformers.utils import logging

from hf_mixup.compare.arguments import CompareArguments
from hf_mixup.compare.runs import determinants, run_args, train_run
from hf_mixup.compare.store import PREDICTIONS, Finished, key_of, load_run, run_folder, whole_or_nothing
from hf_mixup.compare.variants import Variant, parse_variants
from hf_mixup.config import MixupConfig
from hf_mixup.files import write_text
from hf_mixup.report import Result, comparison_table, metric_bars, reliability_diagram
from hf_mixup.report.results import direction
from hf_mixup.tasks.arguments import NUMBERS, PAIRS, TaskArguments
from hf_mixup.tasks.prepare import Prepared, check_mixing, prepare

MARKER = "compare.json"  # tells a comparison's folder from others
_BAR = "{l_bar}{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}]{postfix}"


@dataclass(frozen=True, eq=False)
class Run:
    """One cell of the comparison and where it is stored."""

    variant: Variant
    seed: int
    settings: dict[str, Any]
    folder: Path


def compare(
    comparison: CompareArguments, task: TaskArguments, mixup: MixupConfig, args: TrainingArguments
) -> list[Result]:
    """Train every method with every seed, and write the comparison into `args.output_dir`.

    All methods share seeds, order of the data and initial weights. A run that is stored there already is not trained
    again; each finished run is stored at once.

    Writes `results.json`, `table.md`, `metrics.png`, for tasks with classes `reliability.png`, and in `best/` the model
    of the single run with the best `select_by` on the validation split; `runs/` keeps every run with its model.

    Returns:
        The scores of all runs on all splits.

    Raises:
        ValueError: for settings, data or an output folder that do not fit, or under several processes.
        KeyboardInterrupt: after Ctrl-C, saying how much is done.
    """
    variants = parse_variants(comparison.methods, mixup, paired=task.task == PAIRS)
    if task.task in NUMBERS and any(variant.smoothing for variant in variants):
        raise ValueError(f"methods has 'smoothing', but {task.task} has no classes to smooth: leave it out")
    if args.world_size > 1:
        raise ValueError("compare trains in one process: start it without a launcher")
    output = Path(str(args.output_dir))
    _check_output(output)
    if find_spec("matplotlib") is None:
        raise ImportError('the pictures need matplotlib, which is not installed: pip install "hf-mixup[plots]"')
    prepared = prepare(task)
    select_by = comparison.select_by or prepared.select_by
    if select_by not in prepared.metrics:
        raise ValueError(f"select_by={select_by!r} does not score {task.task}: {', '.join(prepared.metrics)} do")
    _check_variants(variants, prepared)
    runs = _plan(variants, comparison.seeds, prepared, task, args, output)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / MARKER, json.dumps(asdict(comparison), indent=2) + "\n")
    finished = _train_all(runs, prepared, task, args)
    results = _results(runs, finished)
    _write_report(output, runs, finished, results, prepared)
    best = _best(runs, finished, select_by)
    _publish(finished[best], output / "best")
    print((output / "table.md").read_text(encoding="utf-8"))
    print(f"best model by validation {select_by}: {best.variant.label}, seed {best.seed}: {output / 'best'}")
    print(f"results and pictures: {output}")
    return results


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ValueError(f"output_dir: {output} is a file")
    if output.is_dir() and any(output.iterdir()) and not (output / MARKER).exists():
        raise ValueError(f"output_dir: {output} is not empty and holds no comparison: name another with --output_dir")


def _check_variants(variants: Sequence[Variant], prepared: Prepared) -> None:
    """Refuse a method that does not fit before the first run is trained, not after hours."""
    with _quiet():
        model = prepared.build_model()
        for variant in variants:
            check_mixing(prepared, model, variant.mixup)


def _plan(
    variants: Sequence[Variant],
    seeds: int,
    prepared: Prepared,
    task: TaskArguments,
    args: TrainingArguments,
    output: Path,
) -> list[Run]:
    runs = []
    for seed in range(args.seed, args.seed + seeds):  # seed by seed: after an interrupt, whole seeds are there
        for variant in variants:
            settings = determinants(prepared, task, variant, run_args(args, variant, seed, output))
            runs.append(Run(variant, seed, settings, run_folder(output, variant.label, seed, key_of(settings))))
    return runs


def _train_all(
    runs: Sequence[Run], prepared: Prepared, task: TaskArguments, args: TrainingArguments
) -> dict[Run, Finished]:
    finished = {run: stored for run in runs if (stored := load_run(run.folder)) is not None}
    try:
        with _quiet(), tqdm(total=len(runs), initial=len(finished), bar_format=_BAR) as bar:
            for run in runs:
                if run not in finished:
                    finished[run] = _train_one(run, prepared, task, args, bar)
    except KeyboardInterrupt:
        message = f"{len(finished)} of {len(runs)} runs are finished and kept; the same command goes on from there"
        raise KeyboardInterrupt(message) from None
    return finished


def _train_one(run: Run, prepared: Prepared, task: TaskArguments, args: TrainingArguments, bar: Any) -> Finished:
    before = bar.n

    def show(step: int, steps: int) -> None:
        bar.n = before + step / steps
        bar.set_postfix_str(f"{run.variant.label}, seed {run.seed}: step {step}/{steps}")

    with whole_or_nothing(run.folder) as folder:
        name = f"{Path(str(args.output_dir)).name}-{run.variant.label}"
        own_args = run_args(args, run.variant, run.seed, folder)
        train_run(prepared, task, run.variant, own_args, name, run.settings, show)
    bar.n = before + 1
    bar.refresh()
    stored = load_run(run.folder)
    if stored is None:
        raise RuntimeError(f"{run.folder}: the run was stored and cannot be read back")
    return stored


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what transformers would print again for every run."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pin_memory.*")  # each data loader on a CPU gives it
            yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def _results(runs: Sequence[Run], finished: dict[Run, Finished]) -> list[Result]:
    return [
        {"method": run.variant.label, "seed": run.seed, "split": split, "metrics": metrics}
        for run in runs
        for split, metrics in finished[run].metrics.items()
    ]


def _write_report(
    output: Path, runs: Sequence[Run], finished: dict[Run, Finished], results: Sequence[Result], prepared: Prepared
) -> None:
    write_text(output / "results.json", json.dumps(results, indent=2) + "\n")
    tested = [result for result in results if result["split"] != "validation"] or results
    write_text(output / "table.md", comparison_table(tested, metrics=prepared.metrics) + "\n")
    metric_bars(tested, output / "metrics.png", metrics=prepared.metrics)
    if prepared.classified is not None:
        curves = _curves(runs, finished, tested[0]["split"], prepared.classified)
        reliability_diagram(curves, output / "reliability.png")


def _curves(
    runs: Sequence[Run],
    finished: dict[Run, Finished],
    split: str,
    classified: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pool the predictions of all seeds of a method."""
    pooled: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in runs:
        pooled.setdefault(run.variant.label, []).append(classified(*finished[run].predictions[split]))
    return {
        label: (np.concatenate([logits for logits, _ in parts]), np.concatenate([labels for _, labels in parts]))
        for label, parts in pooled.items()
    }


def _best(runs: Sequence[Run], finished: dict[Run, Finished], metric: str) -> Run:
    def score(run: Run) -> float:
        value = finished[run].metrics["validation"].get(metric)
        return -math.inf if value is None else direction(metric) * value

    return max(runs, key=score)


def _publish(best: Finished, folder: Path) -> None:
    """Copy the best run's model and card; a reader finds the old folder or the whole new one."""
    with whole_or_nothing(folder) as partial:
        shutil.copytree(best.folder, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(PREDICTIONS))
