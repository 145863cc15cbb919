"""The curves of the page: the density of lam, and the predictions along lam."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import beta as beta_distribution
from torch import Tensor

from hf_mixup.experiments.playground.stage import Interpolation
from hf_mixup.experiments.report.html_page import embedded
from hf_mixup.plots.canvas import DPI, INK, MUTED, PALETTE, drawable, new_figure
from hf_mixup.utils.suggest import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OWN, PARTNER = PALETTE[0], PALETTE[5]
_HIGHEST = 4.0  # of a density that is drawn; at its ends it may be infinite
_LONGEST = 24  # characters of a label in a legend


def density(alpha: float, lam: float, beta: float | None = None, lam_at_least_half: bool = False) -> str:
    """Draw the density of Beta(alpha, beta or alpha) and where lam lies, as an HTML image.

    Args:
        lam_at_least_half: whether draws below 1/2 are folded over, see `sample_lam`.

    >>> density(0.2, 0.3).split(" src=")[0]
    '<img alt="Density of Beta(0.2, 0.2) from 0 to 1, with lam at 0.30" class="chart"'
    """
    second = alpha if beta is None else beta
    x = np.linspace(0, 1, 401)
    drawn = beta_distribution(alpha, second)
    y = drawn.pdf(x)
    if lam_at_least_half:
        y = np.where(x < 0.5, 0.0, y + drawn.pdf(1 - x))
    figure = new_figure(4.2, 1.5, constrained=True)
    axes = figure.add_subplot()
    axes.fill_between(x, np.minimum(y, 2 * _HIGHEST), color=OWN, alpha=0.25, linewidth=0)
    axes.plot(x, np.minimum(y, 2 * _HIGHEST), color=OWN, linewidth=1.4)
    axes.axvline(lam, color=INK, linewidth=1.4)
    finite = y[np.isfinite(y)]
    axes.set(xlim=(0, 1), ylim=(0, min(_HIGHEST, 1.15 * max(float(finite.max()), 1.0))), yticks=[], xlabel="lam")
    _plain(axes)
    name = f"Beta({alpha:g}, {second:g})" + (", folded to lam of at least 1/2" if lam_at_least_half else "")
    return _chart(figure, f"Density of {name} from 0 to 1, with lam at {lam:.2f}")


def curves(along: Interpolation, lam: float, classes: Sequence[int], names: Sequence[str]) -> str:
    """Draw the probabilities of both rows' classes (the own one first) along lam, beside their soft labels, as HTML."""
    figure = new_figure(4.2, 2.9, constrained=True)
    axes = figure.add_subplot()
    shown = list(dict.fromkeys(classes))
    for number, colour in zip(shown, (OWN, PARTNER)):
        label = drawable(shortened(names[number], _LONGEST))
        axes.plot(along.lam, along.targets[:, number], color=colour, linestyle="--", linewidth=1.1)
        axes.plot(along.lam, along.probabilities[:, number], color=colour, linewidth=2, label=label)
    if len(names) > len(shown):
        rest = 1 - along.probabilities[:, shown].sum(-1)
        axes.plot(along.lam, rest, color=MUTED, linewidth=1, label="all other classes")
    axes.plot([], [], color=INK, linestyle="--", linewidth=1.1, label="soft label")
    axes.axvline(lam, color=INK, linewidth=1)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="probability")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0\npartner", "0.25", "0.5\nlam", "0.75", "1\nown sample"])
    _plain(axes)
    legend = figure.legend(loc="outside upper left", ncols=2, fontsize=8.5, frameon=False)
    for text in legend.get_texts():
        text.set(color=INK, parse_math=False)
    return _chart(
        figure,
        f"Predicted probabilities of {' and '.join(names[number] for number in shown)} along lam from 0 to 1, "
        f"{distance(along):.2f} from the soft labels on average",
    )


def distance(along: Interpolation) -> float:
    """Return the mean total variation between predictions and soft labels along lam, in [0, 1].

    >>> import torch
    >>> targets = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> distance(Interpolation(torch.tensor([0.0, 1.0]), targets, torch.tensor([[0.5, 0.5], [1.0, 0.0]])))
    0.25
    """
    apart: Tensor = (along.probabilities - along.targets).abs().sum(-1) / 2
    return float(apart.mean())


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8.5, colors=MUTED, length=2)
    axes.xaxis.label.set(fontsize=9, color=MUTED)
    axes.yaxis.label.set(fontsize=9, color=MUTED)
    for name, side in axes.spines.items():
        side.set_visible(name in ("left", "bottom"))
        side.set_color(MUTED)


def _chart(figure: Figure, text: str) -> str:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI)
    return f'<img alt="{escape(text)}" class="chart" src="{embedded(written.getvalue())}">'
