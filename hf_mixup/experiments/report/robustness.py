"""Evaluated runs of several methods and seeds as tables, paired differences and images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_mixup.experiments.report.evaluation import BY_LEVEL, level_summaries
from hf_mixup.experiments.report.statistics import Difference, contests, seed_differences, with_adjusted
from hf_mixup.experiments.report.verdict import verdict
from hf_mixup.metrics.detection import SCORES
from hf_mixup.metrics.results import DEFAULT_METRICS, Measured, Result, controls
from hf_mixup.plots.charts import metric_bars
from hf_mixup.plots.levels import level_curves
from hf_mixup.plots.table import comparison_table
from hf_mixup.utils.files import slug

METRICS = (*DEFAULT_METRICS, "nll_temperature", "ece_temperature", *(f"auroc_{score}" for score in SCORES))
"""Scores that are compared."""
_SEEDS_CHOSEN = (
    "The seeds of this comparison were added until its differences were settled (`seeds: auto`): intervals are wider "
    "and p larger than for seeds fixed beforehand, as its last look had them."
)
_TITLES = {
    "calibration": "Clean samples",
    "tta": "Averaged over views",
    **{suite: title for suite, (title, _) in BY_LEVEL.items()},
    "ood": "Out-of-distribution samples",
}
Group = tuple[str, str]  # suite and split


def conditions(results: Sequence[Measured]) -> dict[Group, list[Result]]:
    """Return the scores of each run by perturbation of the rows, means over families and levels; attacks by name.

    A mean is None where a run has no scores. Its `split` names the condition: "test", "test, corruption",
    "test, adversarial pgd", "test against shuffled_patches".

    >>> cells = [{"method": "mixup", "seed": 0, "split": f"test, hiss {level}", "suite": "noise", "of": "test",
    ...           "family": "hiss", "level": level, "metrics": {"accuracy": 1 - level}} for level in (0.25, 0.75)]
    >>> conditions(cells)["noise", "test"]
    [{'method': 'mixup', 'seed': 0, 'split': 'test, noise', 'metrics': {'accuracy': 0.5}}]
    """
    cells: dict[Group, dict[tuple[str, int, str], list[Measured]]] = {}
    for each in results:
        run = each["method"], each["seed"], _name(each)
        cells.setdefault((each["suite"], each["of"]), {}).setdefault(run, []).append(each)
    return {
        group: [
            {"method": method, "seed": seed, "split": name, "metrics": _means(many)}
            for (method, seed, name), many in runs.items()
        ]
        for group, runs in cells.items()
    }


def _name(row: Measured) -> str:
    if row["suite"] not in BY_LEVEL:
        return row["split"]
    return f"{row['of']}, {row['suite']}" + (f" {row['family']}" if row["suite"] == "adversarial" else "")


def _means(rows: Sequence[Measured]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in METRICS:
        values = [row["metrics"][name] for row in rows if name in row["metrics"]]
        known = [value for value in values if value is not None]
        if values:
            found[name] = float(np.mean(known)) if len(known) == len(values) else None
    return found


def _compared(
    results: Sequence[Measured], share: float
) -> Iterator[tuple[Group, str, str, str, dict[str, Difference]]]:
    """Yield suite and split, control, condition, method and their differences.

    p-values are adjusted over the methods, conditions and scores of one suite and split: each is a question of its own.
    """
    for group, rows in conditions(results).items():
        names = list(dict.fromkeys(row["split"] for row in rows))
        for control, judged in contests(row["method"] for row in rows):
            found = {(name, method): _paired(rows, name, method, control, share) for name in names for method in judged}
            for (name, method), scores in with_adjusted(found).items():
                yield group, control, name, method, scores


def _paired(rows: Sequence[Result], name: str, method: str, control: str, share: float) -> dict[str, Difference]:
    def scores(of: str, metric: str) -> list[float | None]:
        return [row["metrics"][metric] for row in rows if row["split"] == name and row["method"] == of]

    metrics = next(row["metrics"] for row in rows if row["split"] == name and row["method"] == method)
    return {each: seed_differences(scores(method, each), scores(control, each), share) for each in metrics}


def differences_of(results: Sequence[Measured], share: float = 1.0) -> list[dict[str, Any]]:
    """Return the differences to the controls, paired by seed: one row a method, control, condition and score.

    `p` is adjusted over the methods, conditions and scores of one suite and split; what is not known is None.

    Args:
        share: of the 5 %, where the number of seeds was not fixed beforehand, see `Look`.
    """
    return [
        {"method": method, "control": control, "split": name, "metric": metric, **difference.numbers()}
        for _, control, name, method, scores in _compared(results, share)
        for metric, difference in scores.items()
    ]


def runs_tables(results: Sequence[Measured], share: float = 1.0) -> str:
    """Return means and deviations over seeds as Markdown tables, and each method against the first control."""
    verdicts: dict[Group, list[str]] = {}
    first = controls(row["method"] for row in results)[:1]
    for group, control, name, method, scores in _compared(results, share):
        if "accuracy" in scores and [control] == first:
            verdicts.setdefault(group, []).append(f"- {method} against {control} on {name}: {verdict(scores)}")
    parts = [_SEEDS_CHOSEN] if share < 1 else []
    for (suite, of), rows in conditions(results).items():
        parts.append(f"### {_TITLES[suite]}, {of}\n\n{comparison_table(_short(rows, suite, of), metrics=METRICS)}")
        if (suite, of) in verdicts:
            parts.append("\n".join(verdicts[suite, of]))
    reasons = {(row["method"], row["seed"]): row["error"] for row in results if "error" in row}
    if reasons:
        parts.append("\n".join(f"- {method}, seed {seed} failed: {why}" for (method, seed), why in reasons.items()))
    return "\n\n".join(parts) + "\n"


def _short(rows: Sequence[Result], suite: str, of: str) -> list[Result]:
    """Return the rows without the names of their suite and split, which stand above the table."""
    return [{**row, "split": re.sub(f"^{re.escape(of)}(, {suite}| against)? ?", "", row["split"])} for row in rows]


def draw_runs(results: Sequence[Measured], folder: Path) -> list[Path]:
    """Draw accuracy and calibration error of each method over the levels, an image a suite and split, and bars of all.

    What is drawn is the mean over the seeds that were evaluated. Images of an earlier evaluation are removed.

    >>> import tempfile
    >>> clean = {"method": "mixup", "seed": 0, "split": "test", "suite": "calibration", "of": "test",
    ...          "metrics": {"accuracy": 0.9, "ece": 0.1, "nll": 0.3}}
    >>> noisy = {**clean, "split": "test, hiss 0.5", "suite": "noise", "family": "hiss", "level": 0.5}
    >>> [path.name for path in draw_runs([clean, noisy], Path(tempfile.mkdtemp()))]
    ['scores.png', 'noise-test.png']
    """
    means = _over_seeds(results)
    rows = [row for many in conditions(results).values() for row in many if "accuracy" in row["metrics"]]
    made = [metric_bars(rows, folder / "scores.png")]
    for suite, (title, level) in BY_LEVEL.items():
        of_method = {method: level_summaries(many, suite) for method, many in means.items()}
        for split in next(iter(of_method.values())):
            path = folder / f"{suite}-{slug(split)}.png"
            summaries = {method: found[split] for method, found in of_method.items()}
            scale = 255 if suite == "adversarial" else 1
            made.append(level_curves(summaries, path, title=f"{title}, {split}", level=level, scale=scale))
    for suite in BY_LEVEL:
        for path in folder.glob(f"{suite}-*.png"):
            if path not in made:
                path.unlink()
    return made


def _over_seeds(results: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Return the mean rows of each method that has any."""
    cells: dict[tuple[str, str], list[Measured]] = {}
    for row in results:
        if "error" not in row:
            cells.setdefault((row["method"], row["split"]), []).append(row)
    found: dict[str, list[Measured]] = {}
    for (method, _), many in cells.items():
        found.setdefault(method, []).append({**many[0], "metrics": _means(many)})
    return found
