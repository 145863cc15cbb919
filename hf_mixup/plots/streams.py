"""Mixed samples that hold an image and a text: every stream of both samples side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from numpy.typing import ArrayLike

from hf_mixup.plots.canvas import INK, MUTED, PALETTE, check_lams, clipped, line_count, save_png
from hf_mixup.plots.panels import LINE, MARGIN, as_pixels, show, titled, write

_SIDE, _GAP, _COLUMN = 1.15, 0.12, 2.9  # inches: an image, what stands between, the texts
_NAMES, _TEXT = 9.5, 10.0  # points
_CHARACTERS, _LINES = 36, 3  # of a text
_HEADS = ("own", "partner", "mixed")


class StreamPair(NamedTuple):
    """One mixed sample: image, text and label of its own with weight `lam`, those of its partner with 1 - lam.

    Images are [3, H, W] or [H, W, 3], un-normalised to [0, 1] or uint8; `mixed` is None where images are blended inside
    the model. A text is None where the model reads none.

    >>> import numpy as np
    >>> pair = StreamPair([np.zeros((3, 8, 8))] * 2, None, ["red fruit", "bus"], 0.7, ["Food", "Travel"])
    >>> f"{pair.lam:.0%} {pair.labels[0]}, {1 - pair.lam:.0%} {pair.labels[1]}"
    '70% Food, 30% Travel'
    """

    images: Sequence[ArrayLike]
    mixed: ArrayLike | None
    texts: Sequence[str | None]
    lam: float
    labels: Sequence[str]


def stream_pairs(rows: Sequence[StreamPair], path: str | os.PathLike[str], *, title: str | None = None) -> Path:
    """Draw each sample's image, its partner's and their mix, beside the labels with their weights and both texts.

    Args:
        rows: at least one pair; long texts are shortened to three lines.
        path: PNG file to write.
        title: a line or two above the rows.

    Raises:
        ValueError: there is no pair, a `lam` lies outside [0, 1], or an image is not as above.
        ImportError: matplotlib is not installed.

    >>> import tempfile
    >>> import numpy as np
    >>> pair = StreamPair(np.zeros((2, 3, 8, 8)), np.ones((3, 8, 8)), ["red fruit", "bus"], 0.7, ["Food", "Travel"])
    >>> stream_pairs([pair], Path(tempfile.mkdtemp(), "streams.png")).name
    'streams.png'
    """
    check_lams([row.lam for row in rows], "pair")
    images = [[as_pixels(image, "images") for image in row.images] for row in rows]
    mixed = [None if row.mixed is None else as_pixels(row.mixed, "mixed") for row in rows]
    written = [_lines(row) for row in rows]
    heights = [max(_SIDE, LINE * sum(line_count(text) for text, _, _ in lines)) + _GAP for lines in written]
    width = 2 * MARGIN + 3 * (_SIDE + _GAP) + _COLUMN
    figure, y = titled(title, width, LINE + sum(heights))
    starts = [MARGIN + column * (_SIDE + _GAP) for column in range(4)]
    for x, head in zip(starts, _HEADS):
        write(figure, x + _SIDE / 2, y, head, _NAMES, color=MUTED, ha="center")
    y += LINE
    for own, blended, lines, height in zip(images, mixed, written, heights, strict=True):
        for x, image in zip(starts, own):
            show(figure, x, y, _SIDE, _SIDE, image)
        if blended is None:
            write(
                figure,
                starts[2] + _SIDE / 2,
                y + _SIDE / 2 - LINE,
                "inside\nthe model",
                _NAMES,
                color=MUTED,
                ha="center",
            )
        else:
            show(figure, starts[2], y, _SIDE, _SIDE, blended)
        below = y
        for text, color, weight in lines:
            write(figure, starts[3], below, text, _TEXT, color=color, fontweight=weight)
            below += LINE * line_count(text)
        y += height
    return save_png(figure, path)


def _lines(row: StreamPair) -> list[tuple[str, str, str]]:
    """Return what is written beside a sample: for each side that has a share, its weight and label, and its text."""
    lines = []
    sides = zip((row.lam, 1 - row.lam), row.labels, row.texts, (PALETTE[0], PALETTE[5]), strict=True)
    for share, label, text, color in sides:
        if share:
            lines.append((clipped(f"{share:.2f} {label}", _CHARACTERS, 2), color, "bold"))
            if text is not None:
                lines.append((clipped(text or "(no text)", _CHARACTERS, _LINES), INK, "normal"))
    return lines
