"""Confusion matrices of several methods."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from hf_mixup.plots.canvas import clipped, drawable, new_figure, panel_title, save_png

_NUMBERED = 12  # more classes than this have no room for numbers in the cells
_NAMED = 40  # and more than this none for their names


def confusion_matrices(found: Mapping[str, ArrayLike], names: Sequence[str], path: str | os.PathLike[str]) -> Path:
    """Draw one confusion matrix a method: a row is a class of the labels, its cells the share of what it is taken for.

    Args:
        found: method -> numbers of samples [C, C], labels in rows and predictions in columns.
        names: of the classes.
        path: PNG file to write.

    Raises:
        ValueError: if there is no method, or a matrix does not have the size of the names.

    >>> import tempfile
    >>> confusion_matrices({"mixup": [[8, 2], [1, 9]]}, ["cat", "dog"], Path(tempfile.mkdtemp(), "c.png")).name
    'c.png'
    """
    if not found:
        raise ValueError("there is no method to draw")
    from sklearn.metrics import ConfusionMatrixDisplay

    count = len(names)
    side = min(9.0, 2.2 + 0.34 * count)
    columns = min(2, len(found))
    figure = new_figure(side * columns + 0.8, (side + 0.3) * math.ceil(len(found) / columns), constrained=True)
    labels = [drawable(clipped(name, 14)) for name in names] if count <= _NAMED else None
    for number, (method, matrix) in enumerate(found.items()):
        numbers = np.asarray(matrix, dtype=np.float64)
        if numbers.shape != (count, count):
            raise ValueError(f"{method}: a matrix {list(numbers.shape)} for {count} classes")
        shares = 100 * numbers / np.maximum(numbers.sum(1, keepdims=True), 1)
        panel = figure.add_subplot(math.ceil(len(found) / columns), columns, number + 1)
        display = ConfusionMatrixDisplay(shares, display_labels=labels)
        style = {"cmap": "Blues", "colorbar": False, "im_kw": {"vmin": 0, "vmax": 100}}
        display.plot(
            ax=panel, include_values=count <= _NUMBERED, values_format=".0f", xticks_rotation="vertical", **style
        )
        if labels is None:
            panel.set_xticks([])
            panel.set_yticks([])
        panel.set_xlabel("predicted", fontsize=8.5)
        panel.set_ylabel("label", fontsize=8.5)
        panel.tick_params(labelsize=7.5)
        panel_title(panel, clipped(method, 28, 2), "% of the samples of a class")
    return save_png(figure, path)
