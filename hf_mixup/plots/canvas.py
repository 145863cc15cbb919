"""What all plots share: figures without global state, a PNG writer, safe text, axes, legends and colours."""

from __future__ import annotations

import importlib
import math
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mixup.metrics.inputs import FloatArray
from hf_mixup.utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
INK, MUTED, WARNING = "#22262b", "#7a828c", "#b3261e"
# Okabe-Ito colours: told apart with every common kind of colour vision.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442")


def colour(number: int) -> str:
    """Return a colour of the palette, which begins anew where it ends."""
    return PALETTE[number % len(PALETTE)]


def _matplotlib(module: str) -> Any:
    try:
        return importlib.import_module(f"matplotlib.{module}")
    except ModuleNotFoundError as error:
        # A matplotlib that is there but lacks one of its own dependencies must show that error instead.
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError('images need matplotlib, which is not installed: pip install "hf-mixup[plots]"') from error


def new_figure(width: float, height: float, *, constrained: bool = False) -> Figure:
    """Return an empty figure of `width` x `height` inches, outside of pyplot.

    Raises:
        ImportError: matplotlib is not installed.
    """
    layout = "constrained" if constrained else None
    figure = _matplotlib("figure").Figure((width, height), DPI, facecolor="white", layout=layout)
    if constrained:
        figure.get_layout_engine().set(w_pad=0.09, h_pad=0.09)
    _matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write the figure as PNG, whole or not at all, and return its path; missing parent folders are made.

    Raises:
        ValueError: the path does not end in .png.

    >>> save_png(new_figure(1, 1), "plot.pdf")
    Traceback (most recent call last):
    ValueError: images are PNG files: 'plot.pdf' does not end in .png
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"images are PNG files: {path.name!r} does not end in .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")
    return path


def drawable(text: str, family: str = "DejaVu Sans") -> str:
    r"""Replace what the font cannot draw: control characters by their escape, missing glyphs by a box.

    >>> drawable("tab\tΔ 中")
    'tab\\tΔ □'
    """
    manager = _matplotlib("font_manager")
    font = manager.get_font(manager.findfont(family))
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return "".join(each if font.get_char_index(ord(each)) else "□" for each in text)


def wrapped(text: str, width: int) -> str:
    """Return drawable text in lines of at most `width` characters; long words are broken, line breaks kept.

    >>> wrapped("manifold mixup\\nlam 0.3", 8).splitlines()
    ['manifold', 'mixup', 'lam 0.3']
    """
    lines = [textwrap.wrap(drawable(line), max(width, 1)) or [""] for line in text.splitlines()]
    return "\n".join(part for line in lines for part in line)


def line_count(text: str) -> int:
    """Return how many lines a text fills, at least one."""
    return text.count("\n") + 1


def clipped(text: str, width: int, lines: int = 1) -> str:
    """Wrap the text to at most so many lines; the last one ends in … where more was there.

    >>> clipped("a rather long name", 9), clipped("a rather long name", 9, lines=2)
    ('a rather…', 'a rather\\nlong name')
    """
    parts = wrapped(" ".join(text.split()), width).splitlines()
    if len(parts) > lines:
        rest = " ".join(parts[lines - 1 :])
        parts[lines - 1 :] = [rest[: width - 1].rstrip() + "…"]
    return "\n".join(parts)


def plain_axes(axes: Axes, *, grid: str | None = None) -> None:
    """Keep small tick labels and two spines; draw grid lines of the axis "x", "y" or "both" behind the data."""
    axes.tick_params(labelsize=7.5)
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(axis=grid, color="#e4e7eb", linewidth=0.7)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def stacked_panels(figure: Figure, count: int, columns: int, ratio: int) -> list[tuple[Axes, Axes]]:
    """Return `count` pairs of axes over x in [0, 1], laid out in a grid: the upper one `ratio` times as tall."""
    grid = figure.subfigures(math.ceil(count / columns), columns, squeeze=False, wspace=0.02, hspace=0.02)
    pairs = [panel.subplots(2, 1, sharex=True, height_ratios=(ratio, 1)) for panel in grid.flat[:count]]
    for top, bottom in pairs:
        top.set(xlim=(0, 1), ylim=(0, 1))
        bottom.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0", "0.25", "0.5", "0.75", "1"))
        for axes in (top, bottom):
            plain_axes(axes)
    return pairs


def axes_at(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Return new axes in a box that is given in inches from the top left of the figure."""
    across, down = figure.get_size_inches()
    return figure.add_axes((x / across, 1 - (y + height) / down, width / across, height / down))


def write_at(figure: Figure, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Write a text whose top left is at (x, y), in inches from the top left of the figure."""
    across, down = figure.get_size_inches()
    style = {"color": INK, "va": "top", **style}
    figure.text(x / across, 1 - y / down, text, fontsize=size, parse_math=False, **style)


def panel_title(axes: Axes, text: str, subtitle: str = "") -> None:
    """Write a bold title, and a plain line between it and the panel."""
    axes.set_title(text, fontsize=9.5, fontweight="bold", color=INK, pad=20 if subtitle else None, parse_math=False)
    if subtitle:
        axes.annotate(subtitle, (0.5, 1), (0, 6), "axes fraction", "offset points", ha="center", va="bottom",
                      fontsize=8.5, color=INK)  # fmt: skip


def legend_below(figure: Figure, axes: Axes) -> None:
    """Explain what the axes show in one legend below all panels."""
    found, labels = axes.get_legend_handles_labels()
    # Before matplotlib 3.11 no legend of the whole figure takes the areas of a panel in a subfigure.
    areas, patch = _matplotlib("collections").PolyCollection, _matplotlib("patches").Patch
    handles = [patch(fc=each.get_facecolor()[0], lw=0) if isinstance(each, areas) else each for each in found]
    texts = list(map(drawable, labels))
    legend = figure.legend(handles, texts, loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
    for text in legend.get_texts():
        text.set_parse_math(False)


def in_unit_range(values: FloatArray, requirement: str) -> FloatArray:
    """Return values clipped to [0, 1]; they may lie beyond it by a rounding of up to 1e-3.

    Raises:
        ValueError: they lie further out; the message begins with the requirement.
    """
    low, high = values.min(), values.max()
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(f"{requirement} [{low:.3g}, {high:.3g}]")
    return values.clip(0, 1)


def check_lams(lams: Sequence[float], what: str) -> None:
    """Refuse to draw nothing, or with weights that are none.

    Args:
        what: is drawn, of which there has to be one at least.

    Raises:
        ValueError: there is none, or a lam lies outside [0, 1].

    >>> check_lams([0.3, 1.0], "pair")
    """
    if not lams:
        raise ValueError(f"there is no {what} to draw")
    if wrong := [lam for lam in lams if not 0 <= lam <= 1]:
        raise ValueError(f"lam must lie in [0, 1], not {wrong[0]:g}")
