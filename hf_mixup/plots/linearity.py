"""A classifier's probabilities on the way from one sample to another."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mixup.metrics.inputs import FloatArray
from hf_mixup.metrics.linearity import Linearity
from hf_mixup.plots.canvas import (
    INK,
    PALETTE,
    drawable,
    legend_below,
    new_figure,
    panel_title,
    save_png,
    stacked_panels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OWN, _OTHER, _REST = PALETTE[0], PALETTE[1], "#d5d9de"


def path_diagram(found: Mapping[str, Linearity], path: str | os.PathLike[str]) -> Path:
    """Draw, one panel a model, how its probabilities change from the partner to the sample itself.

    Above, the mean probabilities of the sample's own class, its partner's, and all others; dashed lines join the ends.
    Below, the deviation from the straight line: the mean, and the middle half of the samples as a band. Pairs of one
    class are left out.

    Args:
        found: name of the model -> what `hf_mixup.metrics.linearity` returned.
        path: PNG file to write.

    Raises:
        ValueError: there is no model, or all pairs of one are of one class.

    >>> import tempfile
    >>> step = [[[0, 1]], [[0, 1]], [[1, 0]]]
    >>> one = Linearity(np.array([0, 0.5, 1]), np.array(step, float), np.array([0]), np.array([1]))
    >>> path_diagram({"plain": one}, Path(tempfile.mkdtemp(), "path.png")).name
    'path.png'
    """
    if not found:
        raise ValueError("there is no model to draw")
    drawn = {name: _between_classes(name, each) for name, each in found.items()}
    columns = min(5, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = new_figure(2.5 * columns + 0.5, 4.1 * rows + 0.5, constrained=True)
    reach = max(float(np.quantile(each.deviation, 0.75, axis=1).max()) for each in drawn.values())
    panels = stacked_panels(figure, len(drawn), columns, ratio=2)
    for number, ((top, bottom), (name, each)) in enumerate(zip(panels, drawn.items(), strict=True)):
        panel_title(top, drawable(name), f"off the line {each.share:.2f}    length {each.length.mean():.2f}")
        _areas(top, each)
        _deviation(bottom, each, max(1.1 * reach, 0.05))
        if number % columns == 0:
            top.set_ylabel("mean probability", fontsize=8.5)
            bottom.set_ylabel("off the line", fontsize=8.5)
    legend_below(figure, top)
    return save_png(figure, path)


def _between_classes(name: str, found: Linearity) -> Linearity:
    apart = found.labels != found.others
    if not apart.any():
        raise ValueError(f"{name}: all pairs are of one class, there is nothing between: set pair_class='different'")
    return Linearity(found.lam, found.probabilities[:, apart], found.labels[apart], found.others[apart])


def _areas(panel: Axes, found: Linearity) -> None:
    own, other = _means(found, found.probabilities)
    shares = {"own class": own, "partner's class": other, "all other classes": 1 - own - other}
    panel.stackplot(found.lam, *shares.values(), labels=list(shares), colors=[_OWN, _OTHER, _REST], alpha=0.85)
    straight_own, straight_other = _means(found, found.straight)
    line: dict[str, Any] = {"color": INK, "linewidth": 1.1, "linestyle": "--"}
    panel.plot(found.lam, straight_own, label="straight", **line)
    panel.plot(found.lam, straight_own + straight_other, **line)


def _means(found: Linearity, probabilities: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean probability of the samples' own classes and of their partners', [L] each."""
    rows = np.arange(len(found.labels))
    own, other = (probabilities[:, rows, labels].mean(axis=1) for labels in (found.labels, found.others))
    return own, other


def _deviation(panel: Axes, found: Linearity, reach: float) -> None:
    low, high = np.quantile(found.deviation, (0.25, 0.75), axis=1)
    panel.fill_between(found.lam, low, high, color=PALETTE[5], alpha=0.2, linewidth=0)
    panel.plot(found.lam, found.deviation.mean(axis=1), color=PALETTE[5], linewidth=1.6)
    panel.set_xlabel("lam", fontsize=8.5)
    panel.set_ylim(0, reach)
    panel.locator_params(axis="y", nbins=3)
