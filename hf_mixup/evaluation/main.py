"""All parts of an evaluation, then results, pictures and the model card."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm
from transformers import TrainingArguments

import hf_mixup
from hf_mixup.augment.tta import TestTimeAugmentation
from hf_mixup.evaluation.arguments import CALIBRATION, NOISE, OOD, EvaluateArguments
from hf_mixup.evaluation.checkpoint import check_folder, files_of, load_model, of_checkpoint, relabelled, run_label
from hf_mixup.evaluation.disturbances import check_suites, disturbances, strange_rows
from hf_mixup.evaluation.rows import Scorer
from hf_mixup.evaluation.store import Arrays, Finished, Scores
from hf_mixup.evaluation.views import parse_views
from hf_mixup.files import write_text
from hf_mixup.metrics import calibration_metrics, cell_scores, fit_temperature, ood_metrics
from hf_mixup.report.evaluation import (
    BY_LEVEL,
    add_evaluation_section,
    draw_evaluation,
    evaluation_tables,
    level_summaries,
)
from hf_mixup.report.results import Measured
from hf_mixup.tasks.arguments import TaskArguments
from hf_mixup.tasks.data import load_splits
from hf_mixup.tasks.prepared import PREPARE, Prepared
from hf_mixup.tasks.quiet import quiet
from hf_mixup.tasks.saved import saved_task

RESULTS, TABLES, PARTS = "results.json", "tables.md", "finished"
LABEL_NOISE = "label_noise"
_BAR = "{l_bar}{bar}| {n:.1f}/{total} parts [{elapsed}<{remaining}]{postfix}"


def evaluate(
    checkpoint: str,
    evaluation: EvaluateArguments,
    task: TaskArguments,
    args: TrainingArguments,
    output: Path | None = None,
) -> list[Measured]:
    """Score a saved classifier on every test split, as the suites have it.

    Writes `results.json`, `tables.md` and PNG pictures into the output folder, and a section into the model card of a
    checkpoint on disk. Each finished part is kept in `finished/`, so that an evaluation goes on where it was stopped.

    Args:
        checkpoint: a folder with a model, or its name on the Hub.
        task: its data; what it says of a model is left aside.
        args: batch size, device, workers and seed count.
        output: default: `evaluation` in the checkpoint's folder.

    Raises:
        ValueError: for settings, data, a checkpoint or an output folder that do not fit.
        FileNotFoundError, ImportError: for a model, data or an optional package that is missing.
        KeyboardInterrupt: after Ctrl-C, saying how much is done.
    """
    check_suites(evaluation, task)
    views = parse_views(evaluation.tta or (), task.task)
    check_folder(checkpoint)
    for run in evaluation.noise_runs or ():
        check_folder(run)
    baseline = _baseline(evaluation.baseline)
    if find_spec("matplotlib") is None:
        raise ImportError('the pictures need matplotlib, which is not installed: pip install "hf-mixup[plots]"')
    output = _output(output, checkpoint)
    with quiet():
        subject = _subject(checkpoint, evaluation, task, args, output)
        parts = _Parts(subject, evaluation, views)
        try:
            results, arrays = parts.run(baseline)
        except KeyboardInterrupt:
            parts.bar.close()
            message = f"{parts.done} of {parts.total} parts are finished and kept; the same command goes on from there"
            raise KeyboardInterrupt(message) from None
    pictures = draw_evaluation(results, arrays, output)
    tables = evaluation_tables(results)
    write_text(output / TABLES, tables)
    write_text(output / RESULTS, json.dumps(results, indent=2) + "\n")
    print(tables)
    if evaluation.write_card and Path(checkpoint).is_dir():
        add_evaluation_section(Path(checkpoint), results, pictures, task.task, task.dataset)
        print(f"model card: {Path(checkpoint) / 'README.md'}")
    print(f"results and pictures: {output}")
    return results


def _output(output: Path | None, checkpoint: str) -> Path:
    if output is None:
        if not Path(checkpoint).is_dir():
            raise ValueError(f"{checkpoint} is no folder to leave results in: name one with --output_dir")
        output = Path(checkpoint) / "evaluation"
    if output.exists() and not output.is_dir():
        raise ValueError(f"output_dir: {output} is a file")
    ours = {PARTS, RESULTS}
    if output.is_dir() and any(output.iterdir()) and not ours & {each.name for each in output.iterdir()}:
        raise ValueError(f"output_dir: {output} is not empty and holds no evaluation: name another with --output_dir")
    return output


def _baseline(path: str | None) -> list[Measured] | None:
    """Read the results of another model.

    Raises:
        FileNotFoundError, ValueError: if there are none.
    """
    if path is None:
        return None
    file = Path(path) / RESULTS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"baseline: no such results of an evaluation: {file}")
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        if not any(each.get("suite") in BY_LEVEL for each in results):
            raise ValueError("no disturbed rows")
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"baseline: {file} holds no evaluation with curves to compare with: {error}") from error
    return list(results)


@dataclass
class _Subject:
    """The model and what it is scored with."""

    checkpoint: str
    task: TaskArguments
    prepared: Prepared
    scorer: Scorer
    finished: Finished
    label: tuple[str, int]
    seed: int

    @property
    def tests(self) -> list[str]:
        return list(self.prepared.splits.tests)


def _subject(
    checkpoint: str, evaluation: EvaluateArguments, task: TaskArguments, args: TrainingArguments, output: Path
) -> _Subject:
    splits = relabelled(load_splits(task), checkpoint, task.label_column)
    if not splits.tests:
        raise ValueError("the data set has no split to test on: name some with --test_splits")
    if len(splits.validation) < 2:
        raise ValueError(
            "a temperature cannot be fitted on one validation row: give more, or a larger validation_share"
        )
    for split, rows in splits.tests.items():
        if not len(rows):
            raise ValueError(f"split {split!r} has no rows: leave it out of --test_splits")
    own = of_checkpoint(task, checkpoint)
    prepared = PREPARE[task.task](own, splits)
    model = load_model(checkpoint, task.task).to(args.device)
    scorer = Scorer(model, prepared.collator, args.per_device_eval_batch_size, args.device, args.dataloader_num_workers)
    determinants = {
        "checkpoint": [checkpoint, files_of(checkpoint)],
        "inputs": [task.task, task.image_size, task.max_length, task.image_column, task.text_column],
        "data": {split: rows._fingerprint for split, rows in splits.evaluated.items()},
        "seed": args.seed,
        "device": args.device.type,
        "versions": [hf_mixup.__version__, torch.__version__, transformers.__version__],
    }
    finished = Finished(output / PARTS, determinants)
    return _Subject(checkpoint, own, prepared, scorer, finished, run_label(checkpoint), args.seed)


class _Parts:
    """All parts of an evaluation, one after the other, under one progress bar."""

    def __init__(self, subject: _Subject, evaluation: EvaluateArguments, views: list[Any]) -> None:
        self.subject, self.evaluation, self.views = subject, evaluation, views
        prepared, task, seed = subject.prepared, subject.task, subject.seed
        self.cells = disturbances(evaluation, prepared, task, seed)
        self.strange = strange_rows(evaluation, prepared, task, seed) if OOD in evaluation.suite else {}
        self.noise_runs = list(evaluation.noise_runs or ()) if NOISE in evaluation.suite else []
        tests = len(subject.tests)
        self.total = 1 + tests * (1 + len(self.cells) + (len(views) > 1) + len(self.noise_runs)) + len(self.strange)
        self.done = 0
        self.bar = tqdm(total=self.total, bar_format=_BAR)
        subject.scorer.show = self._show

    def run(self, baseline: list[Measured] | None) -> tuple[list[Measured], dict[str, Any]]:
        """Return the results, and the logits that pictures are drawn of."""
        subject = self.subject
        validation = self._logits("validation", subject.prepared.evaluated["validation"])
        temperature = fit_temperature(validation["logits"], validation["labels"])
        clean = {split: self._logits(split, subject.prepared.evaluated[split]) for split in subject.tests}
        results = [self._clean(split, clean[split], temperature) for split in subject.tests]
        for split in subject.tests:
            if len(self.views) > 1:
                results.append(self._views(split))
            results += [self._cell(split, cell, temperature) for cell in self.cells]
            results += self._label_noise(split, temperature)
        outside = {name: self._strange(name, make) for name, make in self.strange.items()}
        for name, logits in outside.items():
            first = subject.tests[0]
            metrics = ood_metrics(clean[first]["logits"], logits)
            results.append(self._result(f"{first} against {name}", metrics, suite=OOD, of=first, family=name))
        self.bar.close()
        _summarise(results, baseline)
        arrays = {"temperature": temperature, "clean": clean, "outside": outside}
        return [_finite(result) for result in results], arrays

    def _show(self, share: float) -> None:
        self.bar.update(max(self.done + min(share, 0.99) - self.bar.n, 0))  # some parts run over their rows twice

    def _part(self, name: str, get: Callable[[], Any]) -> Any:
        self.bar.set_postfix_str(name, refresh=False)
        found = get()
        self.done += 1
        self.bar.update(self.done - self.bar.n)
        return found

    def _logits(self, name: str, rows: Any) -> Arrays:
        finished, scorer = self.subject.finished, self.subject.scorer
        found = self._part(name, lambda: finished.arrays(name, lambda: scorer(rows)))
        if not np.isfinite(found["logits"]).all():
            raise ValueError(f"the model's scores of {name!r} are not finite: it has diverged, or takes other inputs")
        return found

    def _result(self, split: str, metrics: Mapping[str, float], **about: Any) -> Measured:
        method, seed = self.subject.label
        return {"method": method, "seed": seed, "split": split, "metrics": dict(metrics), **about}  # type: ignore[typeddict-item]

    def _clean(self, split: str, found: Arrays, temperature: float) -> Measured:
        metrics = calibration_metrics(found["logits"], found["labels"], temperature=temperature)
        return self._result(split, metrics, suite=CALIBRATION, of=split)

    def _cell(self, split: str, cell: Any, temperature: float) -> Measured:
        def make() -> Scores:
            found = self.subject.scorer(cell.rows(split), cell.change)
            return cell_scores(found["logits"], found["labels"], temperature)

        name = f"{split}, {cell.family} {cell.level:g}"
        settings = {"at": [cell.suite, cell.level, temperature, cell.settings]}
        if cell.change is not None:
            settings["batch"] = [self.subject.scorer.batch_size]  # pgd draws its starts by batch
        metrics = self._part(name, lambda: self.subject.finished.scores(name, make, **settings))
        about = {"suite": cell.suite, "of": split, "family": cell.family, "level": cell.level}
        return self._result(name, metrics, **about)

    def _views(self, split: str) -> Measured:
        subject, average = self.subject, self.evaluation.tta_average
        rows = subject.prepared.evaluated[split]

        def make() -> Scores:
            predictor = TestTimeAugmentation(subject.scorer.model, self.views, average)
            found = subject.scorer(rows, model=predictor)
            ratio = subject.scorer.seconds(rows, predictor) / subject.scorer.seconds(rows)
            return {**cell_scores(found["logits"], found["labels"]), "tta_cost": ratio}

        name = f"{split}, tta"
        settings = {"views": self.evaluation.tta, "average": average}
        metrics = self._part(name, lambda: subject.finished.scores(name, make, **settings))
        return self._result(name, metrics, suite="tta", of=split, family=" ".join(self.evaluation.tta or ()))

    def _label_noise(self, split: str, temperature: float) -> list[Measured]:
        """Score the models that were trained on other shares of wrong labels; several of one share are averaged."""
        subject, by_share = self.subject, dict[float, list[Scores]]()
        for run in self.noise_runs:
            share = float(saved_task(Path(run))[0].get(LABEL_NOISE, 0.0))

            def make(run: str = run) -> Scores:
                model = load_model(run, subject.task.task).to(subject.scorer.device)
                found = subject.scorer(subject.prepared.evaluated[split], model=model)
                return cell_scores(found["logits"], found["labels"])

            name, files = f"{split}, {LABEL_NOISE} {share:g}", [run, files_of(run)]
            found = self._part(name, lambda: subject.finished.scores(name, make, run=files))  # noqa: B023 - used at once
            by_share.setdefault(share, []).append(found)
        return [
            self._result(
                f"{split}, {LABEL_NOISE} {share:g}",
                {name: float(np.mean([each[name] for each in found])) for name in found[0]},
                **{"suite": LABEL_NOISE, "of": split, "family": LABEL_NOISE, "level": share},
            )
            for share, found in sorted(by_share.items())
        ]

    def _strange(self, name: str, make: Callable[[], Any]) -> np.ndarray:
        finished, scorer = self.subject.finished, self.subject.scorer
        settings = {"ood": [self.evaluation.ood_dataset, self.evaluation.ood_split]}
        found = self._part(name, lambda: finished.arrays(f"ood {name}", lambda: scorer(make()), **settings))
        return found["logits"]


def _summarise(results: list[Measured], baseline: list[Measured] | None) -> None:
    """Add the means over levels to the scores of each split."""
    for suite in BY_LEVEL:
        for split, summary in level_summaries(results, suite, baseline).items():
            scores = next(each for each in results if each["split"] == split)
            numbers = {name: value for name, value in summary.items() if isinstance(value, float)}
            scores["metrics"] = {**scores["metrics"], **{_named(suite, name): value for name, value in numbers.items()}}


def _named(suite: str, score: str) -> str:
    return score if score.endswith("mce") and suite == "corruption" else f"{suite}_{score}"


def _finite(result: Measured) -> Measured:
    """Replace what is not finite by None, as JSON has no other word for it."""
    metrics = {
        name: value if value is not None and math.isfinite(value) else None for name, value in result["metrics"].items()
    }
    return {**result, "metrics": metrics}
