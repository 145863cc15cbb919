"""How a classifier's scores fall with the level of corruptions, attacks or noise.

A corruption has a family ("gaussian_noise", "pgd", "label_noise") and a level above 0 (a severity, an epsilon, a
share); level 0 is the clean sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from hf_mixup.metrics.functional import (
    DEFAULT_BINS,
    accuracy,
    calibration_metrics,
    expected_calibration_error,
    negative_log_likelihood,
)
from hf_mixup.metrics.inputs import finite_float64, log_probabilities

Cells: TypeAlias = Mapping[tuple[str, float], Mapping[str, float]]
"""Scores by family and level."""


def robustness_metrics(
    predictions: ArrayLike,
    references: ArrayLike,
    families: Sequence[str],
    levels: ArrayLike,
    *,
    temperature: float | None = None,
    baseline: Mapping[str, Any] | None = None,
    n_bins: int = DEFAULT_BINS,
) -> dict[str, Any]:
    """Return accuracy, nll and ece over the levels of each family of corruptions, and their means.

    Args:
        predictions: [N, C] logits.
        references: [N] class labels; -100 is left out.
        families, levels: [N] the corruption of each sample. At level 0 the family does not matter.
        temperature: adds ece_temperature and nll_temperature. Fit it on clean validation samples, to see
            what it is worth under a shift.
        baseline: what this function returned for the model to compare with, see `summarise_levels`.
        n_bins: of the calibration errors.

    Returns:
        As `summarise_levels`.

    Raises:
        ValueError: as `log_probabilities`, the lengths differ, there is no level above 0, or as `summarise_levels`.

    >>> logits, labels = [[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]], [0, 0, 0]
    >>> metrics = robustness_metrics(logits, labels, ["blur"] * 3, [0, 1, 2])
    >>> metrics["accuracy"], metrics["families"]["blur"]["accuracy"], metrics["clean"]["accuracy"]
    (0.5, [1.0, 0.0], 1.0)
    """
    scores, labels = finite_float64(predictions, "logits"), np.asarray(references)
    strengths = finite_float64(levels, "levels")
    if not len(scores) == len(labels) == len(families) == len(strengths):
        raise ValueError(
            f"{len(scores)} predictions, {len(labels)} references, {len(families)} families and {len(strengths)} "
            "levels: give each row one of each"
        )
    if (strengths < 0).any():
        raise ValueError(f"levels are strengths from 0 on, not {strengths.min():g}")
    names = np.asarray(families)
    cells, clean = {}, None
    for family in dict.fromkeys(families):
        for level in np.unique(strengths[(names == family) & (strengths > 0)]).tolist():
            rows = (names == family) & (strengths == level)
            cells[str(family), level] = cell_scores(scores[rows], labels[rows], temperature, n_bins=n_bins)
    if (strengths == 0).any():
        clean = cell_scores(scores[strengths == 0], labels[strengths == 0], temperature, n_bins=n_bins)
    return summarise_levels(cells, clean, baseline)


def cell_scores(
    logits: ArrayLike, references: ArrayLike, temperature: float | None = None, *, n_bins: int = DEFAULT_BINS
) -> dict[str, float]:
    """Return accuracy, nll and ece, and with a temperature those two once more.

    Raises:
        ValueError: as `log_probabilities`.

    >>> cell_scores([[2.0, 0.0]], [0])["accuracy"]
    1.0
    """
    if temperature is not None:
        names = ("accuracy", "nll", "ece", "nll_temperature", "ece_temperature")
        found = calibration_metrics(logits, references, temperature=temperature, n_bins=n_bins)
        return {name: found[name] for name in names}
    log_probs, labels = log_probabilities(logits, references)
    return {
        "accuracy": accuracy(log_probs, labels),
        "nll": negative_log_likelihood(log_probs, labels),
        "ece": expected_calibration_error(log_probs, labels, n_bins=n_bins),
    }


def summarise_levels(
    cells: Cells, clean: Mapping[str, float] | None = None, baseline: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return curves over the levels of each family, and the means of all of them.

    Args:
        cells: scores by family and level.
        clean: scores of the clean samples.
        baseline: what this function returned for the model to compare with. It adds `mce`, the mean over families of
            the summed errors as a share of the baseline's, and with `clean` on both sides `relative_mce`, where each
            side's clean error is first taken off. 1 is the baseline; the papers print 100 times that.

    Returns:
        dict with each score's mean over levels, then families, `worst_accuracy` of a cell, `clean` if it was given,
        and `families`: name -> `levels`, the scores at these (lists), `area` under accuracy over level as a share of
        the range (from the clean rows on, if they were given; NaN for one point), and with a baseline `ce` and
        `relative_ce`. A baseline without errors makes these infinite, or NaN where there is none on either side.

    Raises:
        ValueError: there is no cell, or the baseline lacks a family or a level.

    Source: Hendrycks and Dietterich 2019, arXiv 1903.12261, section 4.2 ("Corruption Robustness Metrics").

    >>> half, all_wrong = {"accuracy": 0.5}, {"accuracy": 0.0}
    >>> other = summarise_levels({("blur", 1): all_wrong, ("blur", 2): all_wrong})
    >>> summarise_levels({("blur", 1): half, ("blur", 2): all_wrong}, baseline=other)["mce"]
    0.75
    """
    if not cells:
        raise ValueError("there is no level above 0: no sample is corrupted")
    families: dict[str, dict[str, Any]] = {}
    for family in dict.fromkeys(family for family, _ in cells):
        levels = sorted(level for name, level in cells if name == family)
        curve = {name: [cells[family, level][name] for level in levels] for name in cells[family, levels[0]]}
        start = [] if clean is None else [(0.0, clean["accuracy"])]
        points = [*start, *zip(levels, curve["accuracy"], strict=True)]
        families[family] = {"levels": levels, **curve, "area": area_under_curve(*zip(*points, strict=True))}
    scores = next(iter(cells.values()))
    summary: dict[str, Any] = {
        name: float(np.mean([np.mean(curve[name]) for curve in families.values()])) for name in scores
    }
    summary["worst_accuracy"] = min(cell["accuracy"] for cell in cells.values())
    if clean is not None:
        summary["clean"] = dict(clean)
    if baseline is not None:
        _compare(families, clean, baseline)
        for name, mean in (("ce", "mce"), ("relative_ce", "relative_mce")):
            if all(name in curve for curve in families.values()):
                summary[mean] = float(np.mean([curve[name] for curve in families.values()]))
    return {**summary, "families": families}


def _compare(
    families: dict[str, dict[str, Any]], clean: Mapping[str, float] | None, baseline: Mapping[str, Any]
) -> None:
    """Add `ce`, and `relative_ce` where both sides have clean rows, to each family."""
    others, other_clean = baseline["families"], baseline.get("clean")
    for family, curve in families.items():
        other = others.get(family, {"levels": [], "accuracy": []})
        found = dict(zip(other["levels"], other["accuracy"], strict=True))
        missing = [level for level in curve["levels"] if level not in found]
        if missing:
            raise ValueError(
                f"the baseline does not fit: it lacks {family!r} at {', '.join(map('{:g}'.format, missing))}"
            )
        errors = 1 - np.array(curve["accuracy"], dtype=np.float64)
        other_errors = np.array([1 - found[level] for level in curve["levels"]], dtype=np.float64)
        curve["ce"] = _ratio(errors.sum(), other_errors.sum())
        if clean is not None and other_clean is not None:
            own = errors - (1 - clean["accuracy"])
            its = other_errors - (1 - other_clean["accuracy"])
            curve["relative_ce"] = _ratio(own.sum(), its.sum())


def _ratio(own: float, other: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(own) / np.float64(other))


def area_under_curve(levels: Sequence[float], values: Sequence[float]) -> float:
    """Area under values over levels by trapezoids, as a share of the range: the mean value; NaN for one point.

    Args:
        levels: rising.
        values: one for each level.

    Raises:
        ValueError: the lengths differ, or the levels do not rise.

    >>> area_under_curve([0, 0.2, 0.8], [1.0, 0.5, 0.5])
    0.5625
    """
    from sklearn.metrics import auc

    at, heights = finite_float64(levels, "levels"), finite_float64(values, "values")
    if at.shape != heights.shape or at.ndim != 1 or not len(at):
        raise ValueError(f"levels and values must be two lists of one length, not {at.shape} and {heights.shape}")
    if (np.diff(at) <= 0).any():
        raise ValueError(f"levels must rise: {at.tolist()}")
    if len(at) == 1:
        return float("nan")
    return float(auc(at, heights) / (at[-1] - at[0]))
