"""Pairs of mixed texts, token by token."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hf_mixup.plots.canvas import DPI, INK, MUTED, PALETTE, clipped, drawable, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# At this size one character of the font is 11 pixels wide; a fraction would be rounded, and the text drift.
_FONT, _SIZE, _CHARACTER = "DejaVu Sans Mono", 8.77, 11 / DPI  # points, inches
_COLUMN = 52  # characters
_LINE, _MARGIN, _GAP, _HEADER = 0.25, 0.2, 0.35, 0.36  # inches
_MAX_LINES = 8


class TextPair(NamedTuple):
    """One mixed sample: its own tokens with weight `lam` in [0, 1], and those of its partner with 1 - lam.

    >>> pair = TextPair(["a", "fine", "video"], ["so", "dull"], lam=0.7, label="positive", partner_label="negative")
    >>> f"{pair.lam:.0%} {pair.label}, {1 - pair.lam:.0%} {pair.partner_label}"
    '70% positive, 30% negative'
    """

    tokens: Sequence[str]
    partner_tokens: Sequence[str]
    lam: float
    label: str
    partner_label: str


def text_pairs(rows: Sequence[TextPair], path: str | os.PathLike[str]) -> Path:
    """Draw each sample's tokens beside its partner's, headed by weight and label and tinted by the weight.

    Tokens wrap; after eight lines the rest is counted. Characters the font lacks appear as a box.

    Args:
        rows: at least one pair; leave padding tokens out.
        path: PNG file to write.

    Raises:
        ValueError: there is no pair, or a `lam` lies outside [0, 1].

    >>> import tempfile
    >>> pair = TextPair(["a", "fine", "video"], ["so", "dull"], lam=0.7, label="positive", partner_label="negative")
    >>> text_pairs([pair], Path(tempfile.mkdtemp(), "pairs.png")).name
    'pairs.png'
    """
    if not rows:
        raise ValueError("there is no pair to draw")
    wrong = [row.lam for row in rows if not 0 <= row.lam <= 1]
    if wrong:
        raise ValueError(f"lam must lie in [0, 1], not {wrong[0]}")

    sides = [(list(_flow(row.tokens)), list(_flow(row.partner_tokens))) for row in rows]
    heights = [_LINE * (max(_lines(own), _lines(partner)) + 1) + 0.22 for own, partner in sides]
    column = _COLUMN * _CHARACTER
    width, height = 2 * (_MARGIN + column) + _GAP, _HEADER + sum(heights) + _MARGIN
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))  # inches from the top left
    axes.set_axis_off()

    left, right, y = _MARGIN, _MARGIN + column + _GAP, _MARGIN
    for x, text in ((left, "own sample"), (right, "partner")):
        axes.text(x, y, text, color=MUTED, fontsize=8.5, va="center")
    y += _HEADER
    for row, (own, partner), row_height in zip(rows, sides, heights, strict=True):
        axes.plot((_MARGIN, width - _MARGIN), (y - 0.13, y - 0.13), color="#d5d9de", linewidth=0.8)
        _side(axes, left, y, own, row.lam, row.label, PALETTE[0])
        _side(axes, right, y, partner, 1 - row.lam, row.partner_label, PALETTE[5])
        y += row_height
    return save_png(figure, path)


def _flow(tokens: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Place tokens in lines of `_COLUMN` characters: (line, first character, text)."""
    line = start = 0
    for index, token in enumerate(tokens):
        text = drawable(token, _FONT) or " "
        if len(text) > _COLUMN:
            text = text[: _COLUMN - 1] + "…"
        if start + len(text) > _COLUMN:
            line, start = line + 1, 0
        if line == _MAX_LINES:
            yield line, 0, f"… {len(tokens) - index} more"
            return
        yield line, start, text
        start += len(text) + 1


def _lines(placed: Sequence[tuple[int, int, str]]) -> int:
    return placed[-1][0] + 1 if placed else 1


def _side(
    axes: Axes, x: float, y: float, placed: Sequence[tuple[int, int, str]], weight: float, label: str, colour: str
) -> None:
    axes.text(x, y + 0.06, f"{weight:.2f}", color=colour, fontsize=10, fontweight="bold", va="center")
    axes.text(x + 0.42, y + 0.06, clipped(label, 40), color=INK, fontsize=10, va="center", parse_math=False)
    if not placed:
        axes.text(x, y + 0.06 + _LINE, "no tokens", color=MUTED, fontsize=_SIZE, va="center", style="italic")
    # The tint shows the weight, yet never hides the text.
    box = {"boxstyle": "round,pad=0.16", "facecolor": (colour, 0.06 + 0.34 * weight), "edgecolor": "none"}
    for line, start, text in placed:
        axes.text(x + start * _CHARACTER, y + 0.1 + (line + 1) * _LINE, text, family=_FONT, fontsize=_SIZE, color=INK,
                  va="baseline", parse_math=False, bbox=box)  # fmt: skip
