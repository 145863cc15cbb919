"""The results of runs as plain data, and their mean and deviation over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias, TypedDict

import numpy as np

DEFAULT_METRICS = ("accuracy", "ece", "nll")
PAIR_METRICS = ("i2t_r1", "t2i_r1", "mean_recall", "nll", "nll_temperature", "ece", "ece_temperature")
TAG_METRICS = ("f1_entity", "f1_macro", *DEFAULT_METRICS)  # one of the two, as the tags are
LANGUAGE_METRICS = ("accuracy", "exact_match", "ece", "nll", "perplexity")
REGRESSION_METRICS = ("mse", "mae", "r2", "spearman")
SPEECH_METRICS = ("wer", "cer", "exact")
_HIGHER_IS_BETTER = (
    *("accuracy", "f1", "mean_average_precision", "r2", "spearman", "exact"),
    *("i2t_r", "t2i_r", "mean_recall", "zero_shot_accuracy", "auroc", "aupr"),
)
_NEITHER = ("temperature", "modality_gap")


class Result(TypedDict):
    """Scores of one run on one split, as they stand in a JSON file; a score of None is read as NaN.

    >>> result: Result = {"method": "mixup", "seed": 0, "split": "test", "metrics": {"accuracy": 0.91, "nll": None}}
    >>> aggregate([result])["mixup", "test"]["accuracy"].mean
    0.91
    """

    method: str
    seed: int
    split: str
    metrics: Mapping[str, float | None]


class Measured(Result, total=False):
    """Scores of an evaluated model; those of corrupted samples also name the split, the corruption and its level.

    `error` says why a run has none.
    """

    suite: str
    of: str
    family: str
    level: float
    error: str


class Summary(NamedTuple):
    """One metric over the seeds of one method: mean, sample deviation (NaN for one seed), seeds, non-finite ones.

    >>> print(Summary(0.91, 0.0123, seeds=5, failed=0))
    0.910 ± 0.012
    >>> print(Summary(float("nan"), float("nan"), seeds=5, failed=1))
    nan (1 of 5)
    """

    mean: float
    std: float
    seeds: int
    failed: int

    def __str__(self) -> str:
        """Mean and deviation to three digits."""
        if self.failed:
            return f"{self.mean:.3f}" + (f" ({self.failed} of {self.seeds})" if self.seeds > 1 else "")
        return f"{self.mean:.3f}" + (f" ± {self.std:.3f}" if self.seeds > 1 else "")


Summaries: TypeAlias = dict[tuple[str, str], dict[str, Summary]]


def aggregate(results: Iterable[Result]) -> Summaries:
    """Summarise every metric by (method, split), in order of first appearance.

    A seed with a NaN or infinite score makes the mean so too: to leave a diverged run out would flatter its method.
    The deviation is the sample one (divided by seeds - 1).

    Raises:
        ValueError: there are no results, a result lacks a field, or a (method, seed, split) occurs twice.

    >>> results = [{"method": "mixup", "seed": s, "split": "test", "metrics": {"nll": 0.5 + s}} for s in (0, 1)]
    >>> summary = aggregate(results)["mixup", "test"]["nll"]
    >>> summary.mean, summary.seeds
    (1.0, 2)
    """
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    seen = set()
    for result in results:
        missing = {"method", "seed", "split", "metrics"} - set(result)
        if missing:
            raise ValueError(f"a result lacks {', '.join(sorted(missing))}: {result}")
        run = (result["method"], result["seed"], result["split"])
        if run in seen:
            raise ValueError(f"two results have method {run[0]!r}, seed {run[1]!r} and split {run[2]!r}")
        seen.add(run)
        by_metric = values.setdefault((result["method"], result["split"]), defaultdict(list))
        for name, value in result["metrics"].items():
            by_metric[name].append(np.nan if value is None else float(value))
    if not values:
        raise ValueError("there are no results to report")
    return {key: {name: _summary(v) for name, v in metrics.items()} for key, metrics in values.items()}


def _summary(values: list[float]) -> Summary:
    failed = int(np.count_nonzero(~np.isfinite(values)))
    std = float(np.std(values, ddof=1)) if len(values) > 1 and not failed else float("nan")
    return Summary(float(np.mean(values)), std, len(values), failed)


def methods_and_splits(summaries: Summaries) -> tuple[list[str], list[str]]:
    """Names of the methods and of the splits, each in order of first appearance.

    >>> methods_and_splits({("b", "test"): {}, ("a", "test"): {}, ("b", "shifted"): {}})
    (['b', 'a'], ['test', 'shifted'])
    """
    return list(dict.fromkeys(method for method, _ in summaries)), list(dict.fromkeys(split for _, split in summaries))


def controls(labels: Iterable[str]) -> list[str]:
    """Return the first plain training and the first label smoothing among the methods.

    >>> controls(["mixup", "smoothing", "none:temperature=0.1"])
    ['none:temperature=0.1', 'smoothing']
    """
    names = list(labels)
    found = ([label for label in names if label.partition(":")[0] == name] for name in ("none", "smoothing"))
    return [label for matching in found for label in matching[:1]]


def direction(metric: str) -> int:
    """1 if larger values of the metric are better (a score), -1 if smaller ones are (an error), 0 if neither.

    >>> direction("f1_macro"), direction("corruption_accuracy"), direction("ece"), direction("temperature")
    (1, 1, -1, 0)
    """
    if metric in _NEITHER:
        return 0
    return 1 if metric.startswith(_HIGHER_IS_BETTER) or metric.endswith("_accuracy") else -1
