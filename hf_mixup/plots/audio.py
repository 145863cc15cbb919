"""Panels of audio clips, as waveforms over their spectrograms, or as the spectrograms that a model is given."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_mixup.metrics.inputs import finite_float64
from hf_mixup.plots.canvas import MUTED, PALETTE, axes_at, line_count, new_figure, save_png, wrapped, write_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _GAP = 2.5, 0.3  # inches
_WAVE, _SPECTROGRAM = 0.55, 1.15  # inches of height
_LINE, _SIZE, _TITLE_SIZE, _CAPTION_WIDTH = 0.165, 8.5, 11.0, 40
_QUIETEST = 80.0  # dB below the loudest point of a panel


def audio_grid(
    clips: Sequence[ArrayLike],
    captions: Sequence[str],
    path: str | os.PathLike[str],
    *,
    rate: int | None = None,
    columns: int = 4,
    title: str | None = None,
) -> Path:
    """Draw audio clips in a grid, row by row, each with its caption above.

    Waveforms [T] are drawn over their spectrograms, all to one scale, so that a loud one looks loud. What is [T, M]
    already (log mel energies, as an AST takes them) is drawn with time from left to right and low pitches below.

    Args:
        clips: N arrays, all waveforms or all spectrograms.
        captions: N texts, such as "0.63 flute + 0.37 harp".
        path: PNG file to write.
        rate: samples a second of waveforms; gives their time in seconds.
        columns: panels in a line of the grid.
        title: one line above the grid.

    Raises:
        ValueError: there is no audio, the captions are not N, shapes or `columns` are others, or a value is not finite.

    >>> import tempfile
    >>> tone = np.sin(np.arange(4000) / 3)
    >>> audio_grid([tone, tone / 4], ["loud", "soft"], Path(tempfile.mkdtemp(), "clips.png"), rate=8000).name
    'clips.png'
    """
    arrays = _checked(clips, captions)
    if columns < 1:
        raise ValueError(f"columns must be at least 1, not {columns}")
    columns = min(columns, len(arrays))
    waves = arrays[0].ndim == 1
    texts = [wrapped(caption, _CAPTION_WIDTH) for caption in captions]
    lines = max(map(line_count, texts))
    cell = lines * _LINE + 0.08 + (_WAVE if waves else 0) + _SPECTROGRAM + _GAP + 0.12
    rows, top = math.ceil(len(arrays) / columns), 0.4 if title else 0.1
    width = columns * (_WIDTH + _GAP) + _GAP
    figure = new_figure(width, top + rows * cell)
    loudest = max(float(np.abs(array).max()) for array in arrays) or 1.0
    for index, (array, text) in enumerate(zip(arrays, texts, strict=True)):
        row, column = divmod(index, columns)
        x, y = _GAP + column * (_WIDTH + _GAP), top + row * cell
        write_at(figure, x, y, text, _SIZE)
        y += lines * _LINE + 0.08
        if waves:
            _wave(axes_at(figure, x, y, _WIDTH, _WAVE), array, loudest)
            y += _WAVE
        _spectrogram(axes_at(figure, x, y, _WIDTH, _SPECTROGRAM), array, rate)
    if title:
        style = {"ha": "center", "va": "baseline", "fontweight": "bold"}
        write_at(figure, width / 2, 0.26, wrapped(title, 1000), _TITLE_SIZE, **style)
    return save_png(figure, path)


def _checked(clips: Sequence[ArrayLike], captions: Sequence[str]) -> list[NDArray[np.float64]]:
    arrays = [finite_float64(audio, "clips") for audio in clips]
    if not arrays or any(not array.size for array in arrays):
        raise ValueError("there is no audio to draw")
    dimensions = {array.ndim for array in arrays}
    if dimensions not in ({1}, {2}):
        raise ValueError(f"audio clips must all be [T] or all be [T, M], not of {sorted(dimensions)} dimensions")
    if len(captions) != len(arrays):
        raise ValueError(f"{len(arrays)} audio clips need as many captions, not {len(captions)}")
    return arrays


def _wave(axes: Axes, wave: NDArray[np.float64], loudest: float) -> None:
    around = np.lib.stride_tricks.sliding_window_view(np.pad(wave, 2, mode="edge"), 5)
    axes.fill_between(np.arange(len(wave)), around.min(-1), around.max(-1), color=PALETTE[0], linewidth=0.4)
    axes.set(xlim=(0, len(wave)), ylim=(-1.05 * loudest, 1.05 * loudest))
    axes.set_axis_off()


def _spectrogram(axes: Axes, audio: NDArray[np.float64], rate: int | None) -> None:
    wave = audio.ndim == 1
    decibels = _decibels(audio) if wave else audio
    end = len(audio) / rate if rate and wave else len(decibels)
    low = max(decibels.min(), decibels.max() - _QUIETEST) if wave else decibels.min()
    axes.imshow(
        decibels.T, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=max(decibels.max(), low + 1e-9),
        extent=(0, end, 0, 1), interpolation="nearest",
    )  # fmt: skip
    axes.set_yticks([])
    axes.set_xticks([0, end], ["0", f"{end:.2g} s" if rate and wave else f"{end} frames"])
    axes.tick_params(labelsize=7, colors=MUTED, length=2, pad=1)
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    axes.spines[:].set_visible(False)


def _decibels(wave: NDArray[np.float64], size: int = 256) -> NDArray[np.float64]:
    """Return the power spectrogram [frames, size / 2 + 1] in dB."""
    wave = np.pad(wave, (0, max(0, size - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(wave, size)[:: size // 8]
    power = np.abs(np.fft.rfft(windows * np.hanning(size))) ** 2
    return 10 * np.log10(np.maximum(power, 1e-12))
