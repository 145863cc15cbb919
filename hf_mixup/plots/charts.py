"""Reliability diagrams and bar charts of several methods."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from hf_mixup.metrics.functional import DEFAULT_BINS, accuracy, expected_calibration_error, reliability_bins
from hf_mixup.metrics.inputs import to_float64
from hf_mixup.metrics.results import (
    DEFAULT_METRICS,
    Result,
    Summaries,
    Summary,
    aggregate,
    direction,
    methods_and_splits,
)
from hf_mixup.plots.canvas import (
    INK,
    MUTED,
    PALETTE,
    WARNING,
    clipped,
    colour,
    drawable,
    legend_below,
    line_count,
    new_figure,
    panel_title,
    plain_axes,
    save_png,
    stacked_panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACCURACY, _GAP = "#8fbfe0", PALETTE[5]


def reliability_diagram(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    path: str | os.PathLike[str],
    *,
    n_bins: int = DEFAULT_BINS,
    from_logits: bool = True,
    subtitles: Mapping[str, str] | None = None,
) -> Path:
    """Draw accuracy against confidence, one panel per method, and below it the share of samples in each bin.

    The form of Guo et al. (2017) with bins of equal width: a bar is the accuracy of a bin, and the hatched part
    leads from there to its mean confidence. A method with NaN or infinite outputs gets an empty panel that says so.

    Args:
        curves: method name -> (predictions [..., C], references [...]), as `hf_mixup.metrics.reliability_bins`.
        path: PNG file to write.
        subtitles: method -> line below its name (default: ECE and accuracy of these predictions).

    Raises:
        ValueError: there is no method, or as `reliability_bins`.

    >>> import tempfile
    >>> curves = {"mixup": ([[2.0, 0.0], [0.0, 1.0]], [0, 1])}
    >>> reliability_diagram(curves, Path(tempfile.mkdtemp(), "reliability.png")).name
    'reliability.png'
    """
    if not curves:
        raise ValueError("there is no method to draw")
    columns = min(4, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = new_figure(2.7 * columns + 0.4, 3.9 * rows + 0.3, constrained=True)
    titles = [clipped(method, 28, 2) for method in curves]
    tallest = max(map(line_count, titles))
    legend_drawn = False
    panels = stacked_panels(figure, len(curves), columns, ratio=3)
    for (top, bottom), title, (method, curve) in zip(panels, titles, curves.items(), strict=True):
        title = "\n" * (tallest - line_count(title)) + title  # all panels keep one height
        _reliability_panel(top, bottom, title, curve, n_bins, from_logits, (subtitles or {}).get(method))
        if top.containers and not legend_drawn:  # a diverged method has no bars to explain
            top.legend(loc="upper left", fontsize=7, edgecolor="none", framealpha=0.8)
            legend_drawn = True
    return save_png(figure, path)


def _reliability_panel(
    top: Axes,
    bottom: Axes,
    title: str,
    curve: tuple[ArrayLike, ArrayLike],
    n_bins: int,
    from_logits: bool,
    subtitle: str | None,
) -> None:
    top.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle="--", zorder=3)
    top.set_ylabel("accuracy", fontsize=8.5)
    bottom.set_xlabel("confidence", fontsize=8.5)
    bottom.set_ylabel("samples (%)", fontsize=8.5)
    predictions, references = curve
    if not np.isfinite(to_float64(predictions, "predictions")).all():
        panel_title(top, title, " ")
        top.text(0.5, 0.5, "diverged: outputs\nare not finite", ha="center", va="center", color=WARNING, fontsize=9,
                 backgroundcolor="white")  # fmt: skip
        bottom.set_yticks([0])
        return
    bins = reliability_bins(predictions, references, n_bins=n_bins, from_logits=from_logits)
    width = 1 / n_bins
    centres = (np.arange(n_bins) + 0.5) * width
    top.bar(centres, bins.accuracy, width, color=_ACCURACY, edgecolor="white", linewidth=0.6, label="accuracy")
    gap: dict[str, Any] = {"facecolor": "none", "edgecolor": _GAP, "linewidth": 0.7, "hatch": "/////"}
    top.bar(centres, bins.confidence - bins.accuracy, width * 0.94, bins.accuracy, label="gap to confidence", **gap)
    bottom.bar(centres, 100 * bins.counts / bins.counts.sum(), width, color=MUTED, edgecolor="white", linewidth=0.6)
    bottom.locator_params(axis="y", nbins=2)
    if subtitle is None:
        ece = expected_calibration_error(predictions, references, n_bins=n_bins, from_logits=from_logits)
        share = accuracy(predictions, references, from_logits=from_logits)
        subtitle = f"ECE {ece:.3f}    accuracy {share:.3f}"
    panel_title(top, title, subtitle)


def metric_bars(
    results: Iterable[Result], path: str | os.PathLike[str], *, metrics: Sequence[str] = DEFAULT_METRICS
) -> Path:
    """Draw one panel per metric with a bar per method and split: mean and standard deviation over seeds.

    A bar of one seed has no error bar; a mean that is NaN or infinite is written out where the bar would be. The
    arrow beside the name of a metric points to the better values.

    Args:
        results: see `Result`.
        path: PNG file to write.

    Raises:
        ValueError: as `aggregate`, or no metric is named.

    >>> import tempfile
    >>> results = [{"method": "mixup", "seed": 0, "split": "test", "metrics": {"accuracy": 0.9, "ece": 0.1, "nll": 1}}]
    >>> metric_bars(results, Path(tempfile.mkdtemp(), "bars.png")).name
    'bars.png'
    """
    if not metrics:
        raise ValueError("name at least one metric to draw")
    summaries = aggregate(results)
    methods, splits = methods_and_splits(summaries)
    row_height = max(0.42, 0.22 * len(splits) + 0.14)
    figure = new_figure(3.1 * len(metrics) + 1.6, row_height * len(methods) + 1.1, constrained=True)
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        _bar_panel(panel, metric, methods, splits, summaries)
    panels[0].set_yticks(range(len(methods)), [clipped(method, 24, 2) for method in methods])
    panels[0].set_ylim(len(methods) - 0.5, -0.5)  # the first method on top
    for label in panels[0].get_yticklabels():
        label.set(fontsize=8.5, color=INK, parse_math=False)
    if len(splits) > 1:
        legend_below(figure, panels[0])
    return save_png(figure, path)


def _bar_panel(panel: Axes, metric: str, methods: Sequence[str], splits: Sequence[str], summaries: Summaries) -> None:
    arrow = {1: " ↑", 0: "", -1: " ↓"}[direction(metric)]
    panel_title(panel, drawable(metric) + arrow)
    plain_axes(panel, grid="x")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    thickness = (0.8 if len(splits) > 1 else 0.6) / len(splits)
    reach = [0.0]
    for index, split in enumerate(splits):
        positions = np.arange(len(methods)) + (index - (len(splits) - 1) / 2) * thickness
        found = [summaries.get((method, split), {}).get(metric) for method in methods]
        lengths = [_finite(summary.mean) if summary else 0.0 for summary in found]
        panel.barh(positions, lengths, thickness * 0.92, color=colour(index), label=split)
        for position, summary in zip(positions, found, strict=True):
            if summary is not None:
                reach.append(_bar_end(panel, position, summary))
    low, high = min(reach), max(reach) or 1.0
    panel.set_xlim(low, low + 1.62 * (high - low))  # room for the numbers to the right of the longest bar
    panel.set_xticks([tick for tick in panel.get_xticks() if low <= tick <= 1.1 * high])


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _bar_end(panel: Axes, position: float, summary: Summary) -> float:
    """Draw the error bar and the number of one bar, and return how far the bar reaches."""
    mean, std = _finite(summary.mean), _finite(summary.std)
    if std:
        panel.errorbar(mean, position, xerr=std, color=INK, linewidth=0.9, capsize=2, capthick=0.9)
    style: dict[str, Any] = {"color": WARNING if summary.failed else INK, "fontsize": 6.8, "va": "center"}
    panel.annotate(str(summary), (max(mean + std, 0), position), (4, 0), textcoords="offset points", **style)
    return mean + std if mean >= 0 else mean - std
