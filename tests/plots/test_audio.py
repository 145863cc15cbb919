"""Grids of audio show time, pitch and loudness."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from matplotlib import image as png

from hf_mixup import plots


def test_audio_grid_shows_time_pitch_and_loudness(tmp_path):
    spectrogram = np.zeros((8, 4))
    spectrogram[0] = 1  # the first moment
    spectrogram[:, 0] = 1  # the lowest pitch
    pixels = png.imread(plots.audio_grid([spectrogram], [""], tmp_path / "grid.png"))[..., :3].sum(-1)
    early, late, late_below = pixels[100, 60], pixels[100, 380], pixels[210, 380]
    assert early == late_below > late
    tone = np.sin(np.arange(2000) * 2 * np.pi * 500 / 8000)
    path = plots.audio_grid([tone, tone / 4], ["loud", "soft"], tmp_path / "wave.png", rate=8000, columns=1)
    blue = np.isclose(png.imread(path)[..., :3], [0, 114 / 255, 178 / 255], atol=0.02).all(-1)
    heights = [half.any(1).sum() for half in np.array_split(blue, 2)]
    assert heights[0] > 3 * heights[1] > 0


@pytest.mark.parametrize(
    ("clips", "captions", "message"),
    [
        ([], [], "no audio"),
        ([np.zeros(5), np.zeros((5, 2))], ["a", "b"], "all be"),
        ([np.zeros(5)], [], "as many captions"),
        ([np.full(5, np.nan)], ["a"], "NaN"),
    ],
)
def test_audio_grid_names_bad_input(tmp_path, clips, captions, message):
    with pytest.raises(ValueError, match=message):
        plots.audio_grid(clips, captions, tmp_path / "grid.png")
