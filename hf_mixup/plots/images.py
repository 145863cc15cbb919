"""A grid of images with captions."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_mixup.metrics.inputs import finite_float64
from hf_mixup.plots.canvas import axes_at, in_unit_range, line_count, new_figure, save_png, wrapped, write_at

_CELL, _GAP = 1.9, 0.14  # inches
_CAPTION_SIZE, _TITLE_SIZE = 8.5, 11.0  # points
_CAPTION_WIDTH = 28  # characters of that size that fit into a cell
_LINE = 0.165  # inches


def image_grid(
    images: ArrayLike,
    captions: Sequence[str],
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    title: str | None = None,
    width: float = _CELL,
) -> Path:
    """Draw images [N, C, H, W] in a grid, row by row, each with its caption below.

    Args:
        images: array or tensor with C = 1 (grey) or 3 (RGB), un-normalised to [0, 1].
        captions: N texts, such as "0.63 smiley + 0.37 flag"; long ones are wrapped.
        path: PNG file to write.
        columns: images per row; by default a nearly square grid of at most 6.
        title: one line above the grid.
        width: inches of an image.

    Raises:
        ValueError: there is no image, the shape is another, a value lies outside [0, 1] or is NaN, the captions are
            not N, or `columns` is not positive.

    >>> import tempfile
    >>> image_grid(np.zeros((2, 3, 8, 8)), ["0.6 cat + 0.4 dog", "cat"], Path(tempfile.mkdtemp(), "mixed.png")).name
    'mixed.png'
    """
    pixels = _checked(images, captions)
    count, _, high, wide = pixels.shape
    if columns is None:
        columns = min(6, math.ceil(math.sqrt(count)))
    if columns < 1:
        raise ValueError(f"columns must be at least 1, not {columns}")
    texts = [wrapped(caption, round(_CAPTION_WIDTH * width / _CELL)) for caption in captions]
    rows = math.ceil(count / columns)
    image_height = width * high / wide
    captions_by_row = [texts[row * columns : (row + 1) * columns] for row in range(rows)]
    row_heights = [image_height + 0.1 + _LINE * max(map(line_count, row)) + _GAP for row in captions_by_row]
    top = _GAP + (0.36 if title else 0.0)
    figure_width = columns * (width + _GAP) + _GAP
    figure = new_figure(figure_width, top + sum(row_heights))
    for index, (image, text) in enumerate(zip(pixels, texts, strict=True)):
        row, column = divmod(index, columns)
        x, y = _GAP + column * (width + _GAP), top + sum(row_heights[:row])
        axes = axes_at(figure, x, y, width, image_height)
        shown = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        # A fixed range: matplotlib would otherwise stretch the contrast of every grey image.
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect="auto")
        axes.set_axis_off()
        write_at(figure, x + width / 2, y + image_height + 0.06, text, _CAPTION_SIZE, ha="center")
    if title:
        style = {"ha": "center", "va": "baseline", "fontweight": "bold"}
        write_at(figure, figure_width / 2, 0.3, wrapped(title, 1000), _TITLE_SIZE, **style)
    return save_png(figure, path)


def _checked(images: ArrayLike, captions: Sequence[str]) -> NDArray[np.float64]:
    pixels = finite_float64(images, "images")
    if pixels.ndim != 4 or not pixels.size or pixels.shape[1] not in (1, 3):
        raise ValueError(f"images must be [N, C, H, W] with C 1 or 3 and nothing empty, not {pixels.shape}")
    if len(captions) != len(pixels):
        raise ValueError(f"{len(pixels)} images need as many captions, not {len(captions)}")
    return in_unit_range(pixels, "images must be un-normalised to [0, 1]; these span")
