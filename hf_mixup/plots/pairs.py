"""Images of image-text batches: their target matrix, mixed pairs, and what a caption retrieves.

All are at most seven inches wide and written in large type, so that a phone can show them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from hf_mixup.metrics.inputs import FloatArray, finite_float64
from hf_mixup.plots.canvas import INK, MUTED, PALETTE, axes_at, clipped, in_unit_range, line_count, save_png
from hf_mixup.plots.panels import LINE, MARGIN, as_pixels, show, titled, write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP = 0.14  # inches
_TEXT, _SMALL = 10.5, 9.5  # points
_MATRIX, _CELL = 4.6, 0.56  # inches: longest side of a matrix, largest cell
_ROW_NAMES, _COLUMN_NAMES = 1.35, 1.05  # inches beside and below a matrix
_NAME = 15  # characters
_NUMBERED = 12  # the largest matrix whose values are written out
_IMAGE, _COLUMNS = 1.9, 3
_CAPTION, _CAPTION_LINES = 23, 3  # characters and lines under a mixed image
_HIT, _MISS = PALETTE[2], "#c4c9d0"


def target_matrix(
    targets: ArrayLike,
    path: str | os.PathLike[str],
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    title: str | None = None,
) -> Path:
    """Draw the targets of a batch as a heat map: rows are images, columns captions, white 0 and dark blue 1.

    The values stand in the cells where no side has more than 12; names are shortened, and numbers where there are
    none. Of more than 32 names only every n-th is written.

    Args:
        targets: [B, B] or any [rows, columns], in [0, 1].
        path: PNG file to write.
        row_names: one per row, such as the caption of the image.
        column_names: one per column.
        title: a line or two above the matrix.

    Raises:
        ValueError: the targets are no matrix, one lies outside [0, 1] or is NaN, or there is not one name per row
            and column.

    >>> import tempfile
    >>> target_matrix([[0.7, 0.3], [0.0, 1.0]], Path(tempfile.mkdtemp(), "q.png"), ["apple", "bus"]).name
    'q.png'
    """
    matrix = _matrix(targets)
    matrix_width, matrix_height = _matrix_size(matrix)
    width = max(3.6, _ROW_NAMES + matrix_width + 2 * MARGIN)
    figure, top = titled(title, width, LINE + 0.08 + matrix_height + _COLUMN_NAMES)
    _heat_map(figure, _ROW_NAMES, top, matrix, row_names, column_names)
    return save_png(figure, path)


def pair_grid(
    images: Iterable[ArrayLike],
    captions: Sequence[tuple[str, str]],
    lam: Sequence[float],
    path: str | os.PathLike[str],
    targets: ArrayLike | None = None,
    *,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    title: str | None = None,
) -> Path:
    """Draw mixed images, each above its own and its partner's caption and their weights, and their targets below.

    Args:
        images: [K, 3, H, W] or [K, H, W, 3], also with one grey channel: un-normalised to [0, 1], or uint8.
        captions: K times (own caption, partner's caption); long ones are shortened to three lines.
        lam: K weights of the own caption in [0, 1]; the partner's is 1 - lam.
        path: PNG file to write.
        targets: [K, B] rows of the target matrix that belong to the images, drawn as `target_matrix` does.
        row_names: K names of these rows; by default the own captions.
        column_names: B names of the columns; by default the own captions, where B = K.
        title: a line or two above the images.

    Raises:
        ValueError: there is no image, the numbers of images, captions, weights, rows or names differ, or an image,
            weight or target is not as above.

    >>> import tempfile
    >>> images, captions = np.zeros((2, 3, 8, 8)), [("red apple", "fire engine"), ("fire engine", "red apple")]
    >>> targets = [[0.62, 0.38], [0.3, 0.7]]
    >>> pair_grid(images, captions, [0.62, 0.7], Path(tempfile.mkdtemp(), "pairs.png"), targets).name
    'pairs.png'
    """
    arrays = [as_pixels(image, "images") for image in images]
    weights = _weights(lam, len(arrays), len(captions))
    own = [caption for caption, _ in captions]
    matrix = None if targets is None else _matrix(targets)
    if matrix is not None and len(matrix) != len(arrays):
        raise ValueError(f"{len(arrays)} images need as many rows of targets, not {len(matrix)}")
    if matrix is not None and column_names is None and matrix.shape[1] == len(own):
        column_names = own

    texts = [_weighted(weight, *both) for weight, both in zip(weights, captions, strict=True)]
    columns = min(_COLUMNS, len(arrays))
    image_height = _IMAGE * max(len(array) / array.shape[1] for array in arrays)
    row_heights = _row_heights(texts, columns, image_height)
    images_width, images_height = columns * (_IMAGE + _GAP) - _GAP, sum(row_heights)
    matrix_width, matrix_height = (0.0, 0.0) if matrix is None else _matrix_size(matrix)
    width = max(images_width, (_ROW_NAMES + matrix_width) if matrix is not None else 0) + 2 * MARGIN
    below = 0.06 + LINE + 0.08 + matrix_height + _COLUMN_NAMES if matrix is not None else 0.0

    figure, top = titled(title, width, images_height + below)
    for index, (array, (own_text, other_text)) in enumerate(zip(arrays, texts, strict=True)):
        row, column = divmod(index, columns)
        x, y = (width - images_width) / 2 + column * (_IMAGE + _GAP), top + sum(row_heights[:row])
        show(figure, x, y, _IMAGE, image_height, array)
        y += image_height + 0.07
        write(figure, x, y, own_text, _TEXT, color=PALETTE[0])
        write(figure, x, y + LINE * line_count(own_text), other_text, _TEXT, color=PALETTE[5])
    if matrix is not None:
        x, y = max(_ROW_NAMES, (width - matrix_width) / 2), top + images_height + 0.06
        _heat_map(figure, x, y, matrix, own if row_names is None else row_names, column_names)
    return save_png(figure, path)


def _weights(lam: Sequence[float], images: int, captions: int) -> FloatArray:
    weights = finite_float64(lam, "lam")
    if not images:
        raise ValueError("there is no image to draw")
    if captions != images or weights.shape != (images,):
        raise ValueError(f"{images} images need as many captions and weights, not {captions} and {weights.size}")
    wrong = weights[(weights < 0) | (weights > 1)]
    if wrong.size:
        raise ValueError(f"lam must lie in [0, 1], not {wrong[0]:g}")
    return weights


def _row_heights(texts: Sequence[tuple[str, str]], columns: int, image_height: float) -> list[float]:
    """Return the height in inches of each row of images with the captions below."""
    lines = [line_count(own) + line_count(other) for own, other in texts]
    longest = [max(lines[start : start + columns]) for start in range(0, len(lines), columns)]
    return [image_height + 0.1 + LINE * each + _GAP for each in longest]


def _weighted(lam: float, own: str, other: str) -> tuple[str, str]:
    """Return the text below an image: both captions with their weights, or the own one alone."""
    if lam == 1:
        return clipped(own, _CAPTION, _CAPTION_LINES), ""
    own, other = (clipped(text, _CAPTION, _CAPTION_LINES) for text in (f"{lam:.2f} {own}", f"{1 - lam:.2f} {other}"))
    return own, other


def retrieval_examples(
    queries: Sequence[str],
    retrieved: Sequence[Sequence[ArrayLike]],
    correct: Sequence[Sequence[bool]],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> Path:
    """Draw what each caption retrieves, nearest first: correct images in a thick green frame and ticked.

    Args:
        queries: captions, one per row of images.
        retrieved: per caption the images found, [3, H, W] or [H, W, 3] each, also with one grey channel, and of any
            size: un-normalised to [0, 1], or uint8.
        correct: whether each of them belongs to the caption.
        path: PNG file to write.
        title: a line or two above the rows.

    Raises:
        ValueError: there is no caption, one has no image, the numbers of captions, images and marks differ, or an
            image is not as above.

    >>> import tempfile
    >>> found = [np.zeros((3, 8, 8)), np.ones((3, 8, 8))]
    >>> retrieval_examples(["a red apple"], [found], [[True, False]], Path(tempfile.mkdtemp(), "found.png")).name
    'found.png'
    """
    if not len(queries):
        raise ValueError("there is no caption to draw")
    if not len(queries) == len(retrieved) == len(correct):
        raise ValueError(
            f"{len(queries)} captions need as many rows of images and of marks, not {len(retrieved)} and {len(correct)}"
        )
    rows = []
    for query, found, marks in zip(queries, retrieved, correct, strict=True):
        if not len(found) or len(found) != len(marks):
            raise ValueError(f"caption {query!r} has {len(found)} images and {len(marks)} marks; give as many of each")
        rows.append([as_pixels(image, "retrieved") for image in found])

    columns = max(map(len, rows))
    side = min(1.6, (6.7 - _GAP * (columns - 1)) / columns)
    width = max(3.6, columns * (side + _GAP) - _GAP + 2 * MARGIN)
    captions = [clipped(query, int(10.5 * (width - 2 * MARGIN)), 2) for query in queries]
    row_heights = [LINE * line_count(caption) + 0.08 + side + LINE + 0.06 + 1.6 * _GAP for caption in captions]
    figure, y = titled(title, width, sum(row_heights))
    for caption, found, marks, row_height in zip(captions, rows, correct, row_heights, strict=True):
        write(figure, MARGIN, y, caption, _TEXT, fontweight="bold")
        below = y + LINE * line_count(caption) + 0.08
        for rank, (image, hit) in enumerate(zip(found, marks, strict=True), 1):
            x = MARGIN + (rank - 1) * (side + _GAP)
            show(figure, x, below, side, side, image, frame=_HIT if hit else _MISS, thickness=3.5 if hit else 1.0)
            style = {"color": _HIT, "fontweight": "bold"} if hit else {"color": MUTED}
            mark = f"{rank} {'✓' if hit else '✗'}"
            write(figure, x + side / 2, below + side + 0.06, mark, _TEXT, ha="center", **style)
        y += row_height
    return save_png(figure, path)


def _matrix(targets: ArrayLike) -> FloatArray:
    matrix = finite_float64(targets, "targets")
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"targets must be a matrix [images, captions] with at least one of each, not {matrix.shape}")
    return in_unit_range(matrix, "targets must lie in [0, 1]; these span")


def _matrix_size(matrix: FloatArray) -> tuple[float, float]:
    rows, columns = matrix.shape
    return columns * min(_CELL, _MATRIX / columns), rows * min(_CELL, _MATRIX / rows)


def _heat_map(
    figure: Figure,
    x: float,
    y: float,
    matrix: FloatArray,
    row_names: Sequence[str] | None,
    column_names: Sequence[str] | None,
) -> None:
    """Draw the matrix with its upper left corner a line of text below (x, y), in inches from the top left."""
    width, height = _matrix_size(matrix)
    write(figure, x, y, "rows: images, columns: captions", _SMALL, color=MUTED)
    axes = axes_at(figure, x, y + LINE + 0.08, width, height)
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for axis, names, count in ((axes.yaxis, row_names, matrix.shape[0]), (axes.xaxis, column_names, matrix.shape[1])):
        texts = _names(names, count, "row" if axis is axes.yaxis else "column")
        shown = range(0, count, math.ceil(count / 32))
        axis.set_ticks(shown, [texts[index] for index in shown])
        for label in axis.get_ticklabels():
            label.set(fontsize=_SMALL if count <= 20 else 7, color=INK, parse_math=False)
    axes.tick_params(length=0, pad=3)
    for label in axes.get_xticklabels():
        label.set(rotation=45, ha="right", va="top", rotation_mode="anchor")
    axes.spines[:].set(color=_MISS)
    if max(matrix.shape) <= _NUMBERED:
        size = min(12.0, 26 * width / matrix.shape[1])  # four figures fill the narrowest cell
        for (row, column), value in np.ndenumerate(matrix):
            colour = "white" if value > 0.55 else INK if value else MUTED
            text = f"{value:.2f}" if value else "0"
            axes.text(column, row, text, fontsize=size, color=colour, ha="center", va="center")


def _names(names: Sequence[str] | None, count: int, side: str) -> list[str]:
    if names is None:
        return [str(index) for index in range(count)]
    if len(names) != count:
        raise ValueError(f"{count} {side}s of targets need as many {side}_names, not {len(names)}")
    return [clipped(name, _NAME, 1) for name in names]
