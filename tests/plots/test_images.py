"""Grids of images keep size, colours and orientation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from matplotlib import image as png

from hf_mixup import plots
from tests.plots.common import LONG, size


@pytest.mark.parametrize(("count", "columns", "across"), [(1, None, 1), (7, None, 3), (50, None, 6), (4, 4, 4)])
def test_image_grid_width_follows_the_columns(tmp_path, count, columns, across):
    path = plots.image_grid(np.zeros((count, 3, 4, 4)), ["cat"] * count, tmp_path / "grid.png", columns=columns)
    assert size(path)[0] == pytest.approx(150 * (across * 2.04 + 0.14), abs=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_keeps_colours_and_orientation(tmp_path, channels):
    images = np.zeros((1, channels, 2, 4))
    images[0, 0, 0, :2] = 0.5  # the upper left quarter
    pixels = png.imread(plots.image_grid(images, [""], tmp_path / "grid.png"))[..., :3]
    left, top, width, height = 21, 21, 285, 142
    quarter = pixels[top + height // 4, left + width // 4]
    assert quarter == pytest.approx([0.5, 0.5, 0.5] if channels == 1 else [0.5, 0, 0], abs=0.01)
    assert pixels[top + 3 * height // 4, left + width // 4] == pytest.approx([0, 0, 0])
    assert pixels[top + height // 4, left + 3 * width // 4] == pytest.approx([0, 0, 0])


def test_image_grid_takes_a_tensor_and_long_captions(tmp_path):
    images = torch.rand(3, 3, 8, 8, dtype=torch.bfloat16)
    short = size(plots.image_grid(images, ["a"] * 3, tmp_path / "short.png", title="$mixup"))
    long = size(plots.image_grid(images, ["a", LONG * 2, "b\nc"], tmp_path / "long.png", title="$mixup"))
    assert short[0] == long[0]
    assert short[1] < long[1]


@pytest.mark.parametrize(
    ("images", "captions", "options", "message"),
    [
        (np.zeros((2, 3, 4, 4)), ["a"], {}, "2 images need as many captions, not 1"),
        (np.zeros((1, 4, 4, 3)), ["a"], {}, "C 1 or 3"),
        (np.zeros((0, 3, 4, 4)), [], {}, "nothing empty"),
        (np.full((1, 3, 4, 4), 2.0), ["a"], {}, "un-normalised"),
        (np.full((1, 3, 4, 4), np.nan), ["a"], {}, "NaN"),
        (np.zeros((1, 3, 4, 4)), ["a"], {"columns": 0}, "columns"),
    ],
)
def test_image_grid_names_bad_input(tmp_path, images, captions, options, message):
    with pytest.raises(ValueError, match=message):
        plots.image_grid(images, captions, tmp_path / "grid.png", **options)


def test_image_grid_of_strips_is_as_wide_as_asked(tmp_path):
    strips = np.zeros((3, 3, 4, 32))
    narrow, wide = (
        size(plots.image_grid(strips, ["a"] * 3, tmp_path / f"{w}.png", columns=1, width=w)) for w in (2, 6)
    )
    assert wide[0] - narrow[0] == pytest.approx(4 * 150, abs=2)
    assert wide[1] > narrow[1]
