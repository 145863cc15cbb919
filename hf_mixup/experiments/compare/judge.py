"""What the runs of one setting say: scores after a temperature refit, differences to the controls, verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hf_mixup.experiments.compare.plan import Run, Setting
from hf_mixup.experiments.compare.store import Finished
from hf_mixup.experiments.compare.training import Failed, Outcomes
from hf_mixup.experiments.report.rows import RowSums
from hf_mixup.experiments.report.statistics import Difference, row_differences, seed_differences, with_adjusted
from hf_mixup.experiments.report.verdict import verdict
from hf_mixup.experiments.tasks.prepare import Prepared, finite
from hf_mixup.experiments.tasks.refit import REFITTED, refits, temperature_of
from hf_mixup.metrics.results import controls
from hf_mixup.plots import Result

Differences = dict[str, dict[str, Difference]]  # by method and score


class Verdict(NamedTuple):
    """What is said of a method against a control on a split."""

    method: str
    control: str
    split: str
    text: str


@dataclass(frozen=True)
class Judged:
    """The runs of one setting, judged.

    Args:
        results: scores of all runs as they were stored.
        temperatures: of each run, fitted on its validation rows; NaN for a run that diverged, absent for tasks without.
        differences: by control and split; p-values are adjusted over all of a control's.
        failed: reasons by method and seed.
    """

    setting: Setting
    results: list[Result]
    temperatures: dict[Run, float]
    differences: dict[tuple[str, str], Differences]
    verdicts: list[Verdict]
    failed: dict[tuple[str, int], str]

    @property
    def splits(self) -> list[str]:
        """Splits that the methods are judged on: those for tests, or where there is none the validation rows."""
        return _tested(self.results)

    @property
    def tested(self) -> list[Result]:
        """Results on these splits."""
        return [result for result in self.results if result["split"] in self.splits]


def judge(setting: Setting, outcomes: Outcomes) -> Judged:
    """Judge the runs of a setting.

    Where the task has classes, the scores after a temperature are those of one temperature a run, fitted on its
    validation rows; on these rows themselves, and for pairs, they are cross-fitted within the split.
    """
    own = {run: outcome for run, outcome in outcomes.items() if run.setting is setting}
    temperatures = {run: _temperature(outcome) for run, outcome in own.items() if refits(setting.prepared)}
    results = [result for run, outcome in own.items() for result in _results(run, outcome)]
    failed = {(run.variant.label, run.seed): o.reason for run, o in own.items() if isinstance(o, Failed)}
    differences, verdicts = _compared(setting.prepared, own, temperatures, results)
    return Judged(setting, results, temperatures, differences, verdicts, failed)


def _temperature(outcome: Finished | Failed) -> float:
    return float("nan") if isinstance(outcome, Failed) else temperature_of(outcome.predictions["validation"])


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
        nothing = dict.fromkeys((*prepared.metrics, *REFITTED, "temperature") if refits(prepared) else prepared.metrics)
        return [{**common, "split": split, "metrics": nothing} for split in prepared.evaluated]
    return [{**common, "split": split, "metrics": metrics} for split, metrics in outcome.metrics.items()]


def _tested(results: list[Result]) -> list[str]:
    splits = list(dict.fromkeys(result["split"] for result in results))
    return [split for split in splits if split != "validation"] or splits


def _compared(
    prepared: Prepared, own: Outcomes, temperatures: dict[Run, float], results: list[Result]
) -> tuple[dict[tuple[str, str], Differences], list[Verdict]]:
    labels = list(dict.fromkeys(run.variant.label for run in own))
    known = controls(labels)
    differences: dict[tuple[str, str], Differences] = {}
    for control in known:
        # The other control is judged against plain training only.
        judged = [label for label in labels if label not in known[: known.index(control) + 1]]
        by_split = {}
        for split in _tested(results):
            runs = {
                label: [
                    _rows(prepared, outcome, split, temperatures.get(run))
                    for run, outcome in own.items()
                    if run.variant.label == label
                ]
                for label in (control, *judged)
            }
            by_split[split] = _on(split, runs, control, prepared, results)
        # One family: all methods, scores and splits against this control.
        flat = {f"{split}\n{method}": many for split, found in by_split.items() for method, many in found.items()}
        for key, many in with_adjusted(flat).items():
            split, _, method = key.partition("\n")
            differences.setdefault((control, split), {})[method] = many
    verdicts = [
        Verdict(method, control, split, verdict(many))
        for (control, split), found in differences.items()
        for method, many in found.items()
    ]
    return differences, verdicts


def _on(
    split: str,
    runs: dict[str, list[RowSums | None]],
    control: str,
    prepared: Prepared,
    results: list[Result],
) -> Differences:
    """Return the differences on one split: by row and seed where the scores add up over rows, else by seed."""
    by_row = row_differences(runs, control) if prepared.rows is not None else {}
    found: Differences = {}
    for method in runs:
        if method != control:
            scores = _scores(results, split, prepared)
            found[method] = {
                name: by_row[method][name]
                if name in by_row.get(method, {})
                else seed_differences(scores(method, name), scores(control, name))
                for name in _asked(results, split, prepared)
            }
    return found


def _scores(results: list[Result], split: str, prepared: Prepared) -> Callable[[str, str], list[float | None]]:
    def scores(method: str, name: str) -> list[float | None]:
        return [r["metrics"].get(name) for r in results if r["method"] == method and r["split"] == split]

    return scores


def _asked(results: list[Result], split: str, prepared: Prepared) -> list[str]:
    """Return the scores of the table and of the refit that some run has on a split."""
    there = {name for r in results if r["split"] == split for name in r["metrics"]}
    return [name for name in dict.fromkeys((*prepared.metrics, *REFITTED)) if name in there]
