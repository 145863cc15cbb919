"""Accuracy against calibration, and losses over the training, of several methods."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mixup.metrics.results import Result, Summary, aggregate, methods_and_splits
from hf_mixup.plots.canvas import MUTED, colour, drawable, legend_below, new_figure, panel_title, plain_axes, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vPX*"


def calibration_plane(
    results: Sequence[Result], path: str | os.PathLike[str], *, score: str = "accuracy", error: str = "ece"
) -> Path:
    """Draw each method as a point of score and calibration error, a panel a split: the lower right is best.

    A ring of the same colour is the method after temperature scaling (`<error>_temperature`), where there is one.
    Bars are the standard deviation over seeds.

    Args:
        results: see `Result`.
        path: PNG file to write.

    Raises:
        ValueError: as `aggregate`, or no method has both on any split.

    >>> import tempfile
    >>> results = [{"method": "mixup", "seed": 0, "split": "test", "metrics": {"accuracy": 0.9, "ece": 0.1}}]
    >>> calibration_plane(results, Path(tempfile.mkdtemp(), "plane.png")).name
    'plane.png'
    """
    summaries = aggregate(results)
    methods, splits = methods_and_splits(summaries)
    splits = [s for s in splits if any(_point(summaries.get((method, s)), score, error) for method in methods)]
    if not splits:
        raise ValueError(f"no method has both {score} and {error}")
    figure = new_figure(3.5 * len(splits), 4.3, constrained=True)
    for panel, split in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits, strict=True):
        for index, method in enumerate(methods):
            _draw_method(panel, method, summaries.get((method, split)), score, error, index)
        panel_title(panel, drawable(split))
        panel.set_xlabel(f"{drawable(score)} →", fontsize=8.5)
        panel.set_ylabel(f"← {drawable(error)}", fontsize=8.5)
        _framed(panel)
        panel.margins(x=0.12, y=0.12)
        panel.set_ylim(bottom=0)
        panel.locator_params(axis="x", nbins=4)
    legend_below(figure, panel)
    return save_png(figure, path)


def training_curves(
    curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]], path: str | os.PathLike[str], *, name: str = "loss"
) -> Path:
    """Draw a logged number over the steps: the mean of the seeds, and between their least and largest a band.

    Args:
        curves: method -> for each seed (step, value) in order.
        path: PNG file to write.
        name: of the number.

    Raises:
        ValueError: no method has a value.

    >>> import tempfile
    >>> training_curves({"mixup": [[(1, 2.0), (2, 1.5)]]}, Path(tempfile.mkdtemp(), "curves.png")).name
    'curves.png'
    """
    drawn = {method: [seed for seed in seeds if seed] for method, seeds in curves.items()}
    drawn = {method: seeds for method, seeds in drawn.items() if seeds}
    if not drawn:
        raise ValueError("there is no value to draw")
    figure = new_figure(7, 3.9, constrained=True)
    panel = figure.subplots()
    for index, (method, seeds) in enumerate(drawn.items()):
        steps = np.unique([step for seed in seeds for step, _ in seed])
        values = np.stack([np.interp(steps, *np.transpose(seed)) for seed in seeds])
        panel.plot(steps, values.mean(axis=0), color=colour(index), linewidth=1.6, label=method)
        if len(seeds) > 1:
            band = values.min(axis=0), values.max(axis=0)
            panel.fill_between(steps, *band, color=colour(index), alpha=0.18, linewidth=0)
    panel.set_xlabel("step", fontsize=8.5)
    panel.set_ylabel(drawable(name), fontsize=8.5)
    _framed(panel)
    legend_below(figure, panel)
    return save_png(figure, path)


def _point(found: Mapping[str, Summary] | None, score: str, error: str) -> tuple[float, float, float, float] | None:
    """Return x, y and the deviations of y and x (0 for one seed); None where a number is missing or not finite."""
    x, y = ((found or {}).get(name) for name in (score, error))
    if x is None or y is None or not math.isfinite(x.mean + y.mean):
        return None
    return x.mean, y.mean, *np.nan_to_num((y.std, x.std)).tolist()


def _draw_method(
    panel: Axes, method: str, found: Mapping[str, Summary] | None, score: str, error: str, index: int
) -> None:
    before, after = _point(found, score, error), _point(found, score, f"{error}_temperature")
    style: dict[str, Any] = {"color": colour(index), "marker": _MARKERS[index % len(_MARKERS)]}
    style |= {"markersize": 7, "linestyle": "none", "capsize": 2, "elinewidth": 0.9}
    if before is not None:
        panel.errorbar(*before, label=method, **style)
    if before is not None and after is not None:
        panel.plot((before[0], after[0]), (before[1], after[1]), color=style["color"], linewidth=0.8, linestyle=":")
        panel.errorbar(*after[:3], markerfacecolor="white", **style)


def _framed(panel: Axes) -> None:
    plain_axes(panel, grid="both")
    for spine in panel.spines.values():
        spine.set_color(MUTED)
