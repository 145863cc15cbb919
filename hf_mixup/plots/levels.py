"""Scores over the levels of corruptions, and confidence scores of out-of-distribution samples."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from hf_mixup.metrics.detection import SCORES, detection_scores, ood_metrics
from hf_mixup.plots.canvas import INK, PALETTE, colour, drawable, new_figure, plain_axes, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS, _WIDTH, _HEIGHT = 5, 2.1, 1.8
_NARROWEST = 5.4  # inches: room for the legend of two splits in one line
_HANDLE, _LETTER = 0.55, 0.065  # inches of an entry of the legend
_LINES: dict[str, Any] = {"accuracy": "-", "calibration error": ":"}
_BINS = 30


def level_curves(
    summaries: Mapping[str, Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str,
    level: str,
    scale: float = 1,
) -> Path:
    """Draw accuracy and calibration error over the level, one panel per family of corruptions.

    Args:
        summaries: split or method -> what `hf_mixup.metrics.summarise_levels` returned, of the same families.
        path: PNG file to write.
        title: one line above all.
        level: what a level is, for the label of the axis.
        scale: levels are shown times this.

    Raises:
        ValueError: there is no split.

    >>> import tempfile
    >>> from hf_mixup.metrics import summarise_levels
    >>> cells = {("blur", 1.0): {"accuracy": 0.9, "ece": 0.1}, ("blur", 2.0): {"accuracy": 0.5, "ece": 0.3}}
    >>> path = Path(tempfile.mkdtemp(), "levels.png")
    >>> level_curves({"test": summarise_levels(cells)}, path, title="Corruptions", level="severity").name
    'levels.png'
    """
    if not summaries:
        raise ValueError("there is no split to draw")
    families = list(dict.fromkeys(family for each in summaries.values() for family in each["families"]))
    columns = min(_COLUMNS, len(families))
    rows = math.ceil(len(families) / columns)
    width = max(_WIDTH * columns + 0.4, _NARROWEST)
    entries = len(summaries) + len(_LINES)
    longest = max(map(len, [*_LINES, *summaries]))
    across = min(entries, max(1, int(width / (_HANDLE + _LETTER * longest))))
    lines = math.ceil(entries / across)
    figure = new_figure(width, _HEIGHT * rows + 1.0 + 0.2 * lines, constrained=True)
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for family, panel in zip(families, panels, strict=False):
        _style(panel, drawable(family.replace("_", " ")))
        for number, summary in enumerate(summaries.values()):
            _curve(panel, family, summary, colour(number), scale)
    for panel in panels[len(families) - columns : len(families)]:  # the lowest of each column
        panel.set_xlabel(drawable(level), fontsize=8)
    for panel in panels[len(families) :]:
        panel.set_axis_off()
    _legend(figure, list(summaries), title, across)
    return save_png(figure, path)


def _curve(panel: Axes, family: str, summary: Mapping[str, Any], shade: str, scale: float) -> None:
    curve = summary["families"].get(family)
    if curve is None:
        return
    clean = summary.get("clean")
    levels = [scale * level for level in ([0.0] if clean else []) + list(curve["levels"])]
    for score, line in zip(("accuracy", "ece"), _LINES.values(), strict=True):
        values = ([clean[score]] if clean else []) + list(curve[score])
        panel.plot(levels, values, line, color=shade, linewidth=1.5, marker="o", markersize=2.6)


def _style(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize=8.5, fontweight="bold", color=INK, parse_math=False)
    panel.set_ylim(0, 1)
    panel.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0", "", "0.5", "", "1"))
    plain_axes(panel, grid="both")


def _legend(figure: Figure, names: list[str], title: str, across: int) -> None:
    """Explain colours by split (or method) and lines by score, `across` entries in a line."""
    from matplotlib.lines import Line2D

    figure.suptitle(drawable(title), fontsize=11, fontweight="bold", color=INK)
    lines = [Line2D([], [], color=colour(n), linewidth=2, label=drawable(name)) for n, name in enumerate(names)]
    lines += [Line2D([], [], color=INK, linewidth=1.5, linestyle=line, label=name) for name, line in _LINES.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=across, fontsize=8, frameon=False)


def score_histograms(
    split: str, inside: ArrayLike, outside: Mapping[str, ArrayLike], path: str | os.PathLike[str]
) -> Path:
    """Draw the confidence scores of a split and of out-of-distribution samples, one panel per source and score.

    Args:
        split: name of the in-distribution split.
        inside: their logits [N, C].
        outside: name -> logits [M, C].
        path: PNG file to write.

    Raises:
        ValueError: there is nothing outside, or as `hf_mixup.metrics.ood_metrics`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "ood.png")
    >>> score_histograms("test", [[4.0, 0.0], [3.0, 0.0]], {"noise": [[1.0, 0.0]]}, path).name
    'ood.png'
    """
    if not outside:
        raise ValueError("there are no out-of-distribution samples to draw")
    figure = new_figure(3.4 * len(SCORES) + 0.3, 2.2 * len(outside) + 0.3, constrained=True)
    panels = figure.subplots(len(outside), len(SCORES), squeeze=False)
    near = detection_scores(inside)
    for (name, logits), row in zip(outside.items(), panels, strict=True):
        far, found = detection_scores(logits), ood_metrics(inside, logits)
        for score, panel in zip(SCORES, row, strict=True):
            both = np.concatenate([near[score], far[score]])
            edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-6), _BINS + 1)
            for values, shade, label in ((near[score], PALETTE[0], split), (far[score], PALETTE[5], name)):
                weights = np.full(len(values), 100 / len(values))
                panel.hist(values, edges, weights=weights, color=shade, alpha=0.55, label=drawable(label))
            text = f"AUROC {found[f'auroc_{score}']:.3f}    FPR95 {found[f'fpr95_{score}']:.3f}"
            panel.set_title(text, fontsize=8.5, color=INK)
            panel.set_xlabel("largest probability" if score == "max_probability" else "energy score", fontsize=8.5)
            plain_axes(panel)
        row[0].set_ylabel("samples (%)", fontsize=8.5)
        row[0].legend(fontsize=7.5, frameon=False)
    return save_png(figure, path)
