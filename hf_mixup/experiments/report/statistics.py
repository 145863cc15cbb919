"""Intervals and tests of the differences between methods, paired by seed and row."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from hf_mixup.experiments.report.score_sums import RowSums
from hf_mixup.metrics.inputs import FloatArray
from hf_mixup.metrics.results import controls

Key = TypeVar("Key", bound=Hashable)

LEVEL, SIGNIFICANT = 0.95, 0.05
DRAWS = 2000
MOST_SEEDS = 1000
"""Above this number nobody is told how many seeds a difference takes."""
_BLOCK = 2**22  # row numbers drawn at a time, 32 MB
_ROUNDING = 1e-12  # of means over rows: differences closer than this are the same
_PASSES = 10  # deviations over seeds for each draw of rows


@dataclass(frozen=True)
class Difference:
    """Score of a method minus that of its control, over the same seeds and rows.

    Args:
        estimate: mean over seeds.
        low, high: interval; NaN where the noise is unknown.
        p: two-sided, of no difference; `adjusted` replaces it where there are many.
        seeds, rows: number of each; rows = 0 if the test rows were taken as given.
        failed: seeds in which a side has no finite score. Then all numbers are NaN: to leave these seeds out would
            flatter the side that failed.
        rows_alone: half of the interval that the test rows leave without any noise between seeds; 0 if taken as given.

    >>> Difference(estimate=0.02, low=0.005, high=0.035, p=0.01, seeds=5, rows=1000).known
    True
    """

    estimate: float
    low: float
    high: float
    p: float
    seeds: int
    rows: int
    failed: int = 0
    rows_alone: float = 0.0

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite([self.low, self.high, self.p]).all())

    def numbers(self) -> dict[str, float | int | None]:
        """Return the numbers for a JSON file, None for NaN."""
        return {name: value if np.isfinite(value) else None for name, value in asdict(self).items()}


def row_differences(
    runs: Mapping[str, Sequence[RowSums | None]],
    control: str,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    share: float = 1.0,
) -> dict[str, dict[str, Difference]]:
    """Compare each method with a control by a bootstrap over test rows and seeds, by method and score.

    Seeds and rows are crossed: all runs are judged on the same rows. A draw takes rows with replacement, the same for
    all runs, and scores them anew (the calibration error, too). To the mean over the seeds is added a deviation of
    Student's t with seeds - 1 degrees of freedom and the standard error over seeds: a few seeds drawn with
    replacement would look far more alike than they are. The interval holds the middle 95 % of these deviations, and
    p is the share of those that reach as far as the difference. What varies with seed and row together is counted
    twice, so that both are a little too careful. With one seed they speak of these trainings only.

    The calibration error counts noise as error, the more the fewer the rows. The interval is for what is measured
    on so many rows; differences of the true errors are larger rather than smaller.

    Args:
        runs: method -> one entry a seed, in the same order for all; None for a run that failed or diverged.
        draws, seed: number (of a `share` below 1, as many times more) and seed of the resamples.
        share: of the 5 % chance of a wrong interval, what this one may use; p-values are divided by it. Below 1 where
            the same runs are looked at more than once, see `hf_mixup.experiments.compare.looks`.

    Raises:
        ValueError: for an unknown control, or runs whose seeds or rows differ in number.

    Source: Owen 2007, "The pigeonhole bootstrap" (arXiv:0712.1111), for rows and seeds that are crossed; Hesterberg
    2015, "What teachers should know about the bootstrap", section 3, for its narrowness where there are few.

    >>> from hf_mixup.experiments.report.score_sums import value_sums
    >>> targets = np.arange(50.0)
    >>> runs = {"plain": [value_sums(targets + 2, targets)], "mixup": [value_sums(targets + 1, targets)]}
    >>> row_differences(runs, "plain")["mixup"]["mae"].high
    -1.0
    """
    _check(runs, control)
    whole = [run for many in runs.values() for run in many if run is not None]
    if not whole:
        return {}
    names = [name for name in whole[0].scores if all(name in run.scores for run in whole)]
    rows = len(whole[0].sums)
    draws = round(draws / share)  # an interval that may be wrong more rarely lies further out in the tails
    drawn = {method: _drawn(many, names, rows, draws, seed) for method, many in runs.items()}
    return {
        method: {
            name: _difference(drawn[method][:, i] - drawn[control][:, i], rows, seed, share)
            for i, name in enumerate(names)
        }
        for method in runs
        if method != control
    }


def seed_differences(method: Sequence[float | None], control: Sequence[float | None], share: float = 1.0) -> Difference:
    """Compare a score over seeds alone, by Student's t of the paired differences, where scores do not add up over rows.

    Args:
        method, control: one score a seed, the same seeds; None or NaN for a run without.
        share: of the 5 %, as in `row_differences`.

    >>> difference = seed_differences([0.5, 0.6, 0.55], [0.4, 0.5, 0.42])
    >>> round(difference.estimate, 2), round(difference.low, 2), difference.rows
    (0.11, 0.07, 0)
    """
    if len(method) != len(control):
        raise ValueError(f"{len(method)} seeds of a method against {len(control)} of its control")
    sides = np.array([method, control], dtype=np.float64)  # None becomes NaN
    sides[~np.isfinite(sides)] = np.nan
    return _difference((sides[0] - sides[1])[:, None], 0, 0, share)


def seeds_to_settle(method: Sequence[float | None], control: Sequence[float | None], margin: float) -> int | None:
    """Return how many seeds make the 95 % interval of a mean difference reach no farther than a margin to each side.

    From the spread of the paired differences between seeds, which so few seeds tell roughly; the test rows are taken as
    given. None with fewer than two seeds that have both scores, or where `MOST_SEEDS` would not do.

    Args:
        method, control: one score a seed, the same seeds; None or NaN for a run without.
        margin: in units of the score, above 0.

    >>> seeds_to_settle([0.80, 0.82, 0.81], [0.80, 0.79, 0.80], margin=0.01)
    12
    """
    sides = np.array([method, control], dtype=np.float64)
    gaps = (sides[0] - sides[1])[np.isfinite(sides).all(0)]
    if len(gaps) < 2:
        return None
    seeds = np.arange(2, MOST_SEEDS + 1)
    reach = student_t.ppf(0.5 + LEVEL / 2, seeds - 1) * gaps.std(ddof=1) / np.sqrt(seeds)
    enough = np.flatnonzero(reach <= margin)
    return int(seeds[enough[0]]) if len(enough) else None


def adjusted(p_values: ArrayLike) -> FloatArray:
    """Return p-values corrected for their number: the chance that any is below by accident stays the level.

    NaN, where there was no test, stays and is not counted.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> adjusted([0.01, 0.04, 0.03, float("nan")])
    array([0.03, 0.06, 0.06,  nan])
    """
    values = np.asarray(p_values, dtype=np.float64)
    found = np.full_like(values, np.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    found[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1)
    return found


def with_adjusted(differences: Mapping[Key, Mapping[str, Difference]]) -> dict[Key, dict[str, Difference]]:
    """Return the same differences, their p-values `adjusted` over all of them."""
    p_values = iter(adjusted([each.p for scores in differences.values() for each in scores.values()]).tolist())
    return {
        key: {name: replace(each, p=next(p_values)) for name, each in scores.items()}
        for key, scores in differences.items()
    }


def contests(methods: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return each control with the methods that are judged against it.

    The second control is judged against plain training, but plain training not against it.

    >>> contests(["none", "smoothing", "mixup"])
    [('none', ['smoothing', 'mixup']), ('smoothing', ['mixup'])]
    """
    labels = list(dict.fromkeys(methods))
    known = controls(labels)
    return [
        (control, [label for label in labels if label not in known[: number + 1]])
        for number, control in enumerate(known)
    ]


def _check(runs: Mapping[str, Sequence[RowSums | None]], control: str) -> None:
    if control not in runs:
        raise ValueError(f"control {control!r} is not among the methods {', '.join(runs)}")
    for method, many in runs.items():
        if len(many) != len(runs[control]):
            raise ValueError(f"{method} has {len(many)} seeds, {control} has {len(runs[control])}")
    sizes = {len(run.sums) for many in runs.values() for run in many if run is not None}
    if len(sizes) > 1:
        raise ValueError(f"the runs were judged on different rows: {', '.join(map(str, sorted(sizes)))} of them")


def _drawn(runs: Sequence[RowSums | None], names: Sequence[str], rows: int, draws: int, seed: int) -> FloatArray:
    """Return scores [seeds, names, 1 + draws]: of all rows, then of each draw; NaN for a run that failed."""
    found = np.full((len(runs), len(names), 1 + draws), np.nan)
    whole = [(index, run) for index, run in enumerate(runs) if run is not None]
    start = 0
    for weights in _weights(rows, draws, seed):
        part = slice(start, start + len(weights))
        for index, run in whole:
            totals = weights @ run.sums
            for column, name in enumerate(names):
                found[index, column, part] = run.scores[name](totals)
        start += len(weights)
    return found


def _weights(rows: int, draws: int, seed: int) -> Iterator[FloatArray]:
    """Yield how often each row counts, [n, rows]: once, then as drawn with replacement."""
    yield np.ones((1, rows))
    generator = np.random.default_rng(seed)
    size = max(1, _BLOCK // rows)
    for start in range(0, draws, size):
        count = min(size, draws - start)
        chosen = generator.integers(rows, size=(count, rows)) + np.arange(count)[:, None] * rows
        yield np.bincount(chosen.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)


def _difference(values: FloatArray, rows: int, seed: int, share: float) -> Difference:
    """Summarise differences [seeds, 1 + draws], of all rows and of each draw of them."""
    seeds = len(values)
    failed = int(np.count_nonzero(~np.isfinite(values[:, 0])))
    if failed or not seeds:
        return Difference(np.nan, np.nan, np.nan, np.nan, seeds, rows, failed)
    estimate, drawn = float(values[:, 0].mean()), values[:, 1:].mean(axis=0)
    drawn = drawn[np.isfinite(drawn)]  # a draw may lack what a score needs: two different targets, say
    if rows < 2 or len(drawn) < 2:
        return _over_seeds(values[:, 0], share)
    deviations = np.sqrt(rows / (rows - 1)) * (drawn - drawn.mean())
    tail = share * (1 - LEVEL) / 2
    rows_alone = float(np.subtract(*np.quantile(deviations, [1 - tail, tail]))) / 2
    if seeds > 1:
        deviations = _with_seeds(deviations, values[:, 0], seed)
    low, high = estimate - np.quantile(deviations, [1 - tail, tail])
    as_far = np.count_nonzero(np.abs(deviations) >= abs(estimate))
    p = max((1 + as_far) / (1 + len(deviations)), 2.0 ** (1 - rows))  # a few rows that all agree may do so by chance
    return Difference(estimate, float(low), float(high), min(p / share, 1.0), seeds, rows, rows_alone=rows_alone)


def _with_seeds(deviations: FloatArray, values: FloatArray, seed: int) -> FloatArray:
    """Add to each deviation, several times over, what the mean of so few seeds may be off by."""
    from scipy import stats

    count = len(deviations)
    # All quantiles of t alike, in random order: the heavy tails of few seeds would else be left to chance.
    evenly = stats.t.ppf((np.arange(count) + 0.5) / count, len(values) - 1)
    generator = np.random.default_rng(seed)
    error = values.std(ddof=1) / np.sqrt(len(values))
    return np.concatenate([deviations + error * generator.permutation(evenly) for _ in range(_PASSES)])


def _over_seeds(values: FloatArray, share: float) -> Difference:
    from scipy import stats

    estimate, seeds = float(values.mean()), len(values)
    if seeds < 2:
        return Difference(estimate, np.nan, np.nan, np.nan, seeds, 0)
    if np.ptp(values) <= _ROUNDING:  # nothing varies: a sign test is what is left
        p = 2.0 ** (1 - seeds) if estimate else 1.0
        return Difference(estimate, estimate, estimate, min(p / share, 1.0), seeds, 0)
    test = stats.ttest_1samp(values, 0)
    low, high = test.confidence_interval(1 - share * (1 - LEVEL))
    return Difference(estimate, float(low), float(high), min(float(test.pvalue) / share, 1.0), seeds, 0)
