"""The runs of the last comparison in a folder, found by their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mixup.experiments.compare.arguments import AUTO, CompareArguments
from hf_mixup.experiments.compare.looks import looks
from hf_mixup.experiments.compare.store import MARKER, load_run, run_folder
from hf_mixup.utils.files import read_json

_RESULTS = "results.json"
_AGAIN = "run the same compare command again"
Scores = dict[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class StoredRun:
    """A run of a comparison: its label, seed and folder, or why there is none."""

    label: str
    seed: int
    folder: Path | None
    reason: str = ""


def stored_runs(comparison: Path) -> list[StoredRun]:
    """Return the runs that the results of a comparison name, in their order, with their folders.

    An earlier comparison may have left runs with other settings there; they have other scores.
    """
    by_run: dict[tuple[str, int], Scores] = {}
    failed: dict[tuple[str, int], str] = {}
    for row in _results(comparison):
        run = row["method"], row["seed"]
        by_run.setdefault(run, {})[row["split"]] = row["metrics"]
        if "error" in row:
            failed[run] = row["error"]
    runs = [
        StoredRun(*run, None, failed[run]) if run in failed else _found(comparison, *run, scores)
        for run, scores in by_run.items()
    ]
    if all(run.folder is None for run in runs):
        raise ValueError(f"{comparison} holds no model to evaluate: {runs[0].reason}")
    return runs


def share_of(comparison: Path, runs: Sequence[StoredRun]) -> float:
    """Return the part of the 5 % that differences between the runs of a comparison may use, see `Look`.

    All of it where the number of seeds was fixed beforehand. With `seeds: auto` what was found made it stop, so that
    other scores of the same runs are to be as sure as its last look had to be.
    """
    settings = read_json(comparison / MARKER) if (comparison / MARKER).is_file() else {}
    if settings.get("seeds") != AUTO:
        return 1.0
    all_looks = looks(CompareArguments(seeds=AUTO, max_seeds=settings.get("max_seeds")))
    seeds = len({run.seed for run in runs})
    return next((look.share for look in all_looks if look.seeds >= seeds), all_looks[-1].share)


def _results(comparison: Path) -> list[dict[str, Any]]:
    path = comparison / _RESULTS
    if not path.is_file():
        raise ValueError(f"{comparison} has no {_RESULTS} yet, so that its runs are not known: {_AGAIN} to end it")
    try:
        rows = list(read_json(path))
        if not rows or not all({"method", "seed", "split", "metrics"} <= set(row) for row in rows):
            raise ValueError("a row lacks its method, seed, split or metrics" if rows else "there are no rows")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} does not hold the results of a comparison ({error}): {_AGAIN}") from error
    settings = dict.fromkeys((row.get("fraction"), row.get("noise")) for row in rows)
    if len(settings) > 1:
        listed = ", ".join(f"fraction {fraction}" + ("" if noise is None else f" noise {noise}")
                         for fraction, noise in settings)  # fmt: skip
        raise ValueError(
            f"{comparison} compares on {len(settings)} settings of the data ({listed}), and evaluate takes one: "
            "evaluate folders in runs/ by themselves, or compare with one fraction and one noise"
        )
    return rows


def _found(comparison: Path, label: str, seed: int, scores: Scores) -> StoredRun:
    pattern = run_folder(comparison, label, seed, "[0-9a-f]*")
    fitting = [each for each in pattern.parent.glob(pattern.name) if _same(each, scores)]
    if not fitting:
        return StoredRun(label, seed, None, f"no folder in runs/ has its scores: {_AGAIN}")
    # Scores that are the same to the last digit, on all splits, are those of the same weights.
    return StoredRun(label, seed, min(fitting))


def _same(folder: Path, scores: Scores) -> bool:
    stored = load_run(folder)
    if stored is None or set(stored.metrics) != set(scores):
        return False
    return all(scores[split].get(name) == value for split, own in stored.metrics.items() for name, value in own.items())
