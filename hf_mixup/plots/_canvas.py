"""What all images share: a figure without global state, an atomic PNG writer, safe text and the colours."""

from __future__ import annotations

import importlib
import os
import textwrap
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
INK, MUTED, WARNING = "#22262b", "#7a828c", "#b3261e"
# Okabe-Ito colours: told apart with every common kind of colour vision.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442")


def _matplotlib(module: str) -> Any:
    try:
        return importlib.import_module(f"matplotlib.{module}")
    except ModuleNotFoundError as error:
        # A matplotlib that is there but lacks one of its own dependencies must show that error instead.
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError('images need matplotlib, which is not installed: pip install "hf-mixup[plots]"') from error


def new_figure(width: float, height: float, *, constrained: bool = False) -> Figure:
    """Empty figure of `width` x `height` inches, outside of pyplot.

    Raises:
        ImportError: matplotlib is not installed.

    >>> new_figure(2, 1).get_size_inches()
    array([2., 1.])
    """
    figure_module = _matplotlib("figure")
    backend = _matplotlib("backends.backend_agg")
    figure = figure_module.Figure(
        (width, height), DPI, facecolor="white", layout="constrained" if constrained else None
    )
    if constrained:
        figure.get_layout_engine().set(w_pad=0.09, h_pad=0.09)
    backend.FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write the figure as PNG and return its path; a reader sees the old file or the whole new one, never a part.

    Missing parent folders are made.

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
    # In the same folder, because os.replace is atomic only within one file system.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        figure.savefig(partial, format="png")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def drawable(text: str, family: str = "DejaVu Sans") -> str:
    r"""Replace what the font cannot draw: control characters by their escape, missing glyphs by a box.

    >>> drawable("tab\tΔ 中")
    'tab\\tΔ □'
    """
    manager = _matplotlib("font_manager")
    font = manager.get_font(manager.findfont(family))

    def one(character: str) -> str:
        if not character.isprintable():
            return character.encode("unicode_escape").decode()
        return character if font.get_char_index(ord(character)) else "□"

    return "".join(map(one, text))


def wrapped(text: str, width: int) -> str:
    """Drawable text in lines of at most `width` characters; long words are broken, line breaks kept.

    >>> wrapped("manifold mixup\\nlam 0.3", 8).splitlines()
    ['manifold', 'mixup', 'lam 0.3']
    """
    lines = [textwrap.wrap(drawable(line), max(width, 1)) or [""] for line in text.splitlines()]
    return "\n".join(part for line in lines for part in line)
