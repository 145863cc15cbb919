"""The files that a comparison writes: results.json, differences.json, table.md and the best model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_mixup.experiments.compare.judge import Judged
from hf_mixup.experiments.compare.one_run import Outcomes
from hf_mixup.experiments.compare.plan import Run
from hf_mixup.experiments.compare.settled import how_often, left_open
from hf_mixup.experiments.compare.store import PREDICTIONS, Finished, atomic_dir
from hf_mixup.experiments.report.comparison_card import add_comparison_section
from hf_mixup.experiments.tasks.prepared import REFITTED
from hf_mixup.metrics.results import direction
from hf_mixup.plots import comparison_table
from hf_mixup.utils.files import write_json, write_text


def results_of(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return the rows of results.json: results, with their setting where there are several, and why one failed."""
    found: list[dict[str, Any]] = []
    for each in judged:
        for result in each.results:
            found.append({**result, **_setting(each, judged)})
            if reason := each.failed.get((result["method"], result["seed"])):
                found[-1]["error"] = reason
    return found


def differences_of(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return the rows of differences.json: one a method, control, split and score; unknown numbers are None."""
    return [
        {"method": method, "control": control, "split": split, "metric": name}
        | _setting(each, judged)
        | difference.numbers()
        for each in judged
        for (control, split), methods in each.differences.items()
        for method, scores in methods.items()
        for name, difference in scores.items()
    ]


def _setting(each: Judged, judged: Sequence[Judged]) -> dict[str, Any]:
    return {"fraction": each.setting.fraction, "noise": each.setting.noise} if len(judged) > 1 else {}


def write_results(output: Path, judged: Sequence[Judged]) -> None:
    """Write results.json, differences.json and table.md, whole or not at all."""
    write_json(output / "results.json", results_of(judged))
    write_json(output / "differences.json", differences_of(judged))
    write_text(output / "table.md", "\n\n".join(map(summary, judged)) + "\n")


def summary(judged: Judged) -> str:
    """Return the tables of a setting, and below them failed runs, the verdicts and how often was looked."""
    prepared, note = judged.setting.prepared, refit_note(judged)
    parts = [f"### {judged.setting.name}"] if judged.setting.name else []
    parts.append(comparison_table(judged.tested, metrics=prepared.metrics))
    if prepared.refits and note:
        parts += [f"{note}:", comparison_table(judged.tested, metrics=(*REFITTED, "temperature"))]
    failed = [f"- {method}, seed {seed} failed: {reason}" for (method, seed), reason in judged.failed.items()]
    verdicts = [f"- {v.method} against {v.control} on {v.split}: {v.text}" for v in judged.verdicts]
    looked = [how_often(judged), *(f"- {reason}: {which}" for reason, which in left_open(judged))]
    return "\n\n".join([*parts, *("\n".join(lines) for lines in (failed, verdicts, looked) if any(lines))])


def refit_note(judged: Judged) -> str:
    """Return how the scores after temperature scaling were made; empty where there are none."""
    if not any(name in result["metrics"] for result in judged.tested for name in REFITTED):
        return ""
    if judged.setting.prepared.refits and judged.splits != ["validation"]:
        return "After temperature scaling, with one temperature a run, fitted to its validation samples"
    samples = (
        "validation samples, as there is no test split" if judged.setting.prepared.refits else "samples of a split"
    )
    return (
        f"After temperature scaling, cross-fitted within the {samples}: each part of them is scored with the "
        "temperature fitted to the others (the temperature shown is that of all)"
    )


def finished_runs(judged: Judged, outcomes: Outcomes) -> Iterator[tuple[str, Finished, float]]:
    """Yield label, outcome and temperature (1 where there is none) of the finished runs of a setting."""
    for run, outcome in outcomes.items():
        if run.setting is judged.setting and isinstance(outcome, Finished):
            yield run.variant.label, outcome, judged.temperatures.get(run, 1.0)


def pooled(
    judged: Judged,
    outcomes: Outcomes,
    split: str,
    classified: Callable[..., tuple[np.ndarray, np.ndarray]],
    refitted: bool = False,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return logits and labels of each method over all its seeds; `refitted`, divided by each run's temperature."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for label, outcome, temperature in finished_runs(judged, outcomes):
        logits, labels = classified(*outcome.predictions[split])
        parts.setdefault(label, []).append((logits / (temperature if refitted else 1.0), labels))
    joined = {label: [np.concatenate(arrays) for arrays in zip(*many)] for label, many in parts.items()}
    return {label: (logits, labels) for label, (logits, labels) in joined.items()}


def best_of(outcomes: Outcomes, metric: str) -> Run:
    """Return the finished run with the best score on the validation rows, which are those of all settings."""
    finished = {run: outcome for run, outcome in outcomes.items() if isinstance(outcome, Finished)}

    def score(run: Run) -> float:
        value = finished[run].metrics["validation"].get(metric)
        return -math.inf if value is None else direction(metric) * value

    return max(finished, key=score)


def publish(best: Run, finished: Finished, judged: Judged, folder: Path) -> None:
    """Copy the best run's model and card, which tells what it was compared with; the Hub takes the folder as it is."""
    prepared, task = judged.setting.prepared, judged.setting.task
    scores = prepared.shown({split: finished.metrics[split] for split in judged.splits})
    text = f"This is the run {best.variant.label}, seed {best.seed}, one of those below.\n\n{summary(judged)}"
    with atomic_dir(folder) as partial:
        shutil.copytree(finished.folder, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(PREDICTIONS))
        name = f"{folder.parent.name}-{best.variant.label}"
        add_comparison_section(
            partial, text, scores, name=name, task=task.hub_task or task.task, dataset=task.dataset_name
        )
