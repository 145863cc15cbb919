"""Pairs of mixed texts, token by token."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hf_mixup.plots.canvas import DPI, INK, MUTED, PALETTE, check_lams, clipped, drawable, new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# At this size one character of the font is 11 pixels wide; a fraction would be rounded, and the text drift.
_FONT, _SIZE, _CHARACTER = "DejaVu Sans Mono", 8.77, 11 / DPI  # points, inches
_COLUMN, _WHOLE = 52, 108  # characters of one side, and of both with the gap
_LINE, _MARGIN, _GAP, _HEADER = 0.25, 0.2, 0.35, 0.36  # inches
_OWN, _PARTNER = PALETTE[0], PALETTE[5]
_MAX_LINES = 8


class TextPair(NamedTuple):
    """One mixed sample: its own tokens with weight `lam` in [0, 1], and those of its partner with 1 - lam.

    `mixed` holds the tokens that the model reads, each with whether it came from the partner; it is empty where the
    blend happens behind the tokens.

    >>> pair = TextPair(["a", "fine", "video"], ["so", "dull"], lam=0.7, label="positive", partner_label="negative")
    >>> f"{pair.lam:.0%} {pair.label}, {1 - pair.lam:.0%} {pair.partner_label}"
    '70% positive, 30% negative'
    """

    tokens: Sequence[str]
    partner_tokens: Sequence[str]
    lam: float
    label: str
    partner_label: str
    mixed: Sequence[tuple[str, bool]] = ()


def text_pairs(rows: Sequence[TextPair], path: str | os.PathLike[str], *, title: str = "") -> Path:
    """Draw each sample's tokens beside its partner's, headed by weight and label and tinted by the weight.

    Below them stand the mixed tokens, where there are any, in the colour of the side that each came from. Tokens
    wrap; after eight lines the rest is counted. Characters the font lacks appear as a box.

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
    check_lams([row.lam for row in rows], "pair")

    sides = [(list(_flow(row.tokens)), list(_flow(row.partner_tokens))) for row in rows]
    mixes = [list(_flow([token for token, _ in row.mixed], _WHOLE)) for row in rows]
    above = [_LINE * (max(_lines(own), _lines(partner)) + 1) for own, partner in sides]
    below = [_LINE * (_lines(mix) + 1) + 0.08 if mix else 0.0 for mix in mixes]
    heights = [top + bottom + 0.22 for top, bottom in zip(above, below)]
    column = _COLUMN * _CHARACTER
    width, height = 2 * (_MARGIN + column) + _GAP, _HEADER * (2 if title else 1) + sum(heights) + _MARGIN
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))  # inches from the top left
    axes.set_axis_off()

    left, right, y = _MARGIN, _MARGIN + column + _GAP, _MARGIN
    if title:
        axes.text(left, y, drawable(title), color=INK, fontsize=11, fontweight="bold", va="center", parse_math=False)
        y += _HEADER
    for x, text in ((left, "own sample"), (right, "partner")):
        axes.text(x, y, text, color=MUTED, fontsize=8.5, va="center")
    y += _HEADER
    for row, (own, partner), mix, top, row_height in zip(rows, sides, mixes, above, heights, strict=True):
        axes.plot((_MARGIN, width - _MARGIN), (y - 0.13, y - 0.13), color="#d5d9de", linewidth=0.8)
        _side(axes, left, y, own, row.lam, row.label, _OWN)
        _side(axes, right, y, partner, 1 - row.lam, row.partner_label, _PARTNER)
        if mix:
            _mix(axes, left, y + top + 0.08, mix, row)
        y += row_height
    return save_png(figure, path)


def _flow(tokens: Sequence[str], width: int = _COLUMN) -> Iterator[tuple[int, int, str]]:
    """Place tokens in lines of `width` characters: (line, first character, text)."""
    line = start = 0
    for index, token in enumerate(tokens):
        text = drawable(token, _FONT) or " "
        if len(text) > width:
            text = text[: width - 1] + "…"
        if start + len(text) > width:
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
    for token in placed:
        _token(axes, x, y, token, colour, weight)


def _mix(axes: Axes, x: float, y: float, placed: Sequence[tuple[int, int, str]], row: TextPair) -> None:
    axes.text(x, y + 0.06, "mixed", color=MUTED, fontsize=8.5, va="center")
    axes.text(x + 0.5, y + 0.06, "own", color=_OWN, fontsize=8.5, fontweight="bold", va="center")
    axes.text(x + 0.85, y + 0.06, "partner's", color=_PARTNER, fontsize=8.5, fontweight="bold", va="center")
    for index, token in enumerate(placed):
        theirs = row.mixed[index][1]  # also of the last one, which counts the rest
        _token(axes, x, y, token, _PARTNER if theirs else _OWN, 1.0 if theirs else 0.3)


def _token(axes: Axes, x: float, y: float, placed: tuple[int, int, str], colour: str, weight: float) -> None:
    """Write a token; its tint shows the weight, yet never hides the text."""
    line, start, text = placed
    box = {"boxstyle": "round,pad=0.16", "facecolor": (colour, 0.06 + 0.34 * weight), "edgecolor": "none"}
    axes.text(x + start * _CHARACTER, y + 0.1 + (line + 1) * _LINE, text, family=_FONT, fontsize=_SIZE, color=INK,
              va="baseline", parse_math=False, bbox=box)  # fmt: skip
