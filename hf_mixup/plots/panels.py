"""Images and lines of text that are placed in inches from the top left of a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from hf_mixup.metrics.inputs import FloatArray, finite_float64
from hf_mixup.plots.canvas import axes_at, clipped, in_unit_range, line_count, new_figure, write_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN, LINE = 0.16, 0.19  # inches
TITLE = 12.0  # points


def titled(title: str | None, width: float, height: float) -> tuple[Figure, float]:
    """Figure with the title on top and `height` inches below it, and where they begin."""
    text = clipped(title or "", int(9 * (width - 2 * MARGIN)), 2)
    top = MARGIN + (0.2 * line_count(text) + 0.1 if text else 0.0)
    figure = new_figure(width, top + height)
    if text:
        write(figure, width / 2, MARGIN, text, TITLE, ha="center", fontweight="bold")
    return figure, top


def write(figure: Figure, x: float, y: float, text: str, size: float, **style: Any) -> None:
    """Write lines of `LINE` inches whose top left (or top centre) is at (x, y)."""
    write_at(figure, x, y, text, size, linespacing=LINE * 72 / size / 1.165, **style)


def show(
    figure: Figure,
    x: float,
    y: float,
    width: float,
    height: float,
    image: FloatArray,
    *,
    frame: str | None = None,
    thickness: float = 0.0,
) -> None:
    """Draw an image centred in a box, undistorted."""
    scale = min(width / image.shape[1], height / image.shape[0])
    across, down = scale * image.shape[1], scale * image.shape[0]
    axes = axes_at(figure, x + (width - across) / 2, y + (height - down) / 2, across, down)
    axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=frame is not None, color=frame, linewidth=thickness)


def as_pixels(image: ArrayLike | Any, name: str) -> FloatArray:
    """One image as [H, W, 1 or 3] in [0, 1]."""
    array: Any = image if hasattr(image, "detach") else np.asarray(image)
    pixels = finite_float64(array, name) / (255 if "uint8" in str(array.dtype) else 1)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or not pixels.size or pixels.shape[2] not in (1, 3):
        raise ValueError(f"{name} must be [C, H, W] or [H, W, C] each, with C 1 or 3 and not empty, not {pixels.shape}")
    return in_unit_range(pixels, f"{name} must be un-normalised to [0, 1], or uint8; one spans")
