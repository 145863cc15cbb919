"""Judge the runs of one setting: scores after temperature scaling, differences to the controls, verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from hf_mixup.experiments.compare.looks import Look
from hf_mixup.experiments.compare.one_run import Failed, Outcomes
from hf_mixup.experiments.compare.plan import Run, Setting
from hf_mixup.experiments.compare.store import Finished
from hf_mixup.experiments.report.score_sums import RowSums
from hf_mixup.experiments.report.statistics import (
    Difference,
    contests,
    row_differences,
    seed_differences,
    with_adjusted,
)
from hf_mixup.experiments.report.verdict import verdict
from hf_mixup.experiments.tasks.prepare import Prepared, finite
from hf_mixup.experiments.tasks.prepared import REFITTED, temperature_of
from hf_mixup.plots import Result

Differences = dict[str, dict[str, Difference]]
"""By method and score."""


class Verdict(NamedTuple):
    """The verdict on a method against a control on a split."""

    method: str
    control: str
    split: str
    text: str


@dataclass(frozen=True)
class Judged:
    """The runs of one setting, judged.

    Args:
        look: how many seeds were there, and how sure the differences had to be.
        results: scores of all runs as they were stored.
        splits: those that the methods are judged on: the test splits, or without any the validation rows.
        temperatures: of each run, fitted on its validation rows; NaN for a run that diverged, absent for tasks without.
        differences: by control and split; p-values are adjusted over all of a control's.
        failed: reasons by method and seed.
    """

    setting: Setting
    look: Look
    results: list[Result]
    splits: list[str]
    temperatures: dict[Run, float]
    differences: dict[tuple[str, str], Differences]
    verdicts: list[Verdict]
    failed: dict[tuple[str, int], str]

    @property
    def tested(self) -> list[Result]:
        """Results on these splits."""
        return [result for result in self.results if result["split"] in self.splits]


def judge(setting: Setting, outcomes: Outcomes, look: Look) -> Judged:
    """Judge the runs of a setting, as surely as the look asks for.

    Where the task has classes, the scores after a temperature are those of one temperature a run, fitted on its
    validation rows; on these rows themselves, and for pairs, they are cross-fitted within the split.
    """
    own = {run: outcome for run, outcome in outcomes.items() if run.setting is setting}
    temperatures = {
        run: math.nan if isinstance(outcome, Failed) else temperature_of(outcome.predictions["validation"])
        for run, outcome in own.items()
        if setting.prepared.refits
    }
    results = [result for run, outcome in own.items() for result in _results(run, outcome)]
    failed = {(run.variant.label, run.seed): o.reason for run, o in own.items() if isinstance(o, Failed)}
    names = list(dict.fromkeys(result["split"] for result in results))
    splits = [name for name in names if name != "validation"] or names
    differences = _compared(setting.prepared, own, temperatures, results, splits, look)
    verdicts = [
        Verdict(method, control, split, verdict(scores))
        for (control, split), methods in differences.items()
        for method, scores in methods.items()
    ]
    return Judged(setting, look, results, splits, temperatures, differences, verdicts, failed)


def _rows(prepared: Prepared, outcome: Finished | Failed, split: str, temperature: float | None) -> RowSums | None:
    """Return the sums of a run by row; None if it failed or diverged, or there are none for the task."""
    if prepared.rows is None or isinstance(outcome, Failed) or not finite(outcome.predictions[split][:-1]):
        return None
    if temperature is None or split == "validation":
        return prepared.rows(*outcome.predictions[split])
    return prepared.rows(*outcome.predictions[split], temperature=temperature)


def _results(run: Run, outcome: Finished | Failed) -> list[Result]:
    prepared = run.setting.prepared
    common: Result = {"method": run.variant.label, "seed": run.seed, "split": "", "metrics": {}}
    if isinstance(outcome, Failed):
        nothing = dict.fromkeys((*prepared.metrics, *REFITTED, "temperature") if prepared.refits else prepared.metrics)
        return [{**common, "split": split, "metrics": nothing} for split in prepared.evaluated]
    return [{**common, "split": split, "metrics": metrics} for split, metrics in outcome.metrics.items()]


def _compared(
    prepared: Prepared,
    own: Outcomes,
    temperatures: dict[Run, float],
    results: list[Result],
    splits: list[str],
    look: Look,
) -> dict[tuple[str, str], Differences]:
    differences: dict[tuple[str, str], Differences] = {}
    for control, judged in contests(run.variant.label for run in own):
        found: dict[tuple[str, str], dict[str, Difference]] = {}
        for split in splits:
            runs: dict[str, list[RowSums | None]] = {label: [] for label in (control, *judged)}
            for run, outcome in own.items():
                if run.variant.label in runs:
                    rows = _rows(prepared, outcome, split, temperatures.get(run))
                    runs[run.variant.label].append(rows)
            for method, scores in _on(split, runs, control, prepared, results, look.share).items():
                found[split, method] = scores
        # One family of tests: all methods, scores and splits against this control.
        for (split, method), scores in with_adjusted(found).items():
            differences.setdefault((control, split), {})[method] = scores
    return differences


def _on(
    split: str,
    runs: dict[str, list[RowSums | None]],
    control: str,
    prepared: Prepared,
    results: list[Result],
    share: float,
) -> Differences:
    """Return the differences on one split: by row and seed where the scores add up over rows, else by seed."""
    by_row = row_differences(runs, control, share=share) if prepared.rows is not None else {}
    results = [result for result in results if result["split"] == split]

    def scores(method: str, name: str) -> list[float | None]:
        return [result["metrics"].get(name) for result in results if result["method"] == method]

    scored = {name for result in results for name in result["metrics"]}
    names = [name for name in dict.fromkeys((*prepared.metrics, *REFITTED)) if name in scored]
    return {
        method: {
            name: by_row.get(method, {}).get(name)
            or seed_differences(scores(method, name), scores(control, name), share)
            for name in names
        }
        for method in runs
        if method != control
    }
