"""Crops of images, boxes and captions, against loops by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mixup.augment import (
    Columns,
    Crop,
    CropParams,
    Phrase,
    Sample,
    read_row,
    write_row,
)
from tests.augment.common import BOX, EVERYTHING, full_row, image, pil, pixels, rng


def loop_crop(boxes: list[list[float]], params: CropParams, min_visible: float) -> tuple[list[int], list[list[float]]]:
    """Which boxes stay, and where they are then."""
    keep, moved = [], []
    for position, (left, top, right, bottom) in enumerate(boxes):
        x = [min(max(v - params.left, 0), params.width) for v in (left, right)]
        y = [min(max(v - params.top, 0), params.height) for v in (top, bottom)]
        inside, whole = (x[1] - x[0]) * (y[1] - y[0]), (right - left) * (bottom - top)
        if inside > 0 and inside >= min_visible * whole:
            keep.append(position)
            moved.append([x[0], y[0], x[1], y[1]])
    return keep, moved


@settings(deadline=None)
@given(st.lists(BOX, max_size=5), st.integers(0, 9), st.integers(0, 9), st.integers(1, 11), st.integers(1, 11))
def test_crop_boxes_against_a_loop(boxes: list[list[int]], top: int, left: int, height: int, width: int) -> None:
    params = CropParams(top, left, height, width)
    row = {"image": image(20, 20), "boxes": boxes, "labels": list(range(len(boxes))), "scores": np.arange(len(boxes))}
    columns = Columns(caption=None, boxes="boxes", per_box=("labels", "scores"))
    new = write_row(Crop(min_visible=0.3).apply(read_row(row, columns), params), row, columns)
    keep, moved = loop_crop(boxes, params, 0.3)
    assert new["labels"] == keep
    assert new["scores"].tolist() == keep
    assert new["boxes"] == moved
    assert torch.equal(new["image"], row["image"][:, top : top + height, left : left + width])


def test_crop_takes_all_along() -> None:
    row, columns = full_row(), EVERYTHING
    new = write_row(Crop().apply(read_row(row, columns), CropParams(1, 5, 6, 5)), row, columns)
    window = (..., slice(1, 7), slice(5, 10))
    assert all(torch.equal(after, before[window]) for before, after in zip(row["image"], new["image"]))
    assert torch.equal(new["video"], row["video"][window])
    assert torch.equal(new["masks"], row["masks"][window])
    assert new["boxes"] == [[1, 0, 4, 4]]
    assert new["labels"] == [9]
    assert new["phrases"] == [{"text": "cat", "box": 0, "id": 4}]
    assert new["caption"] == "A bright cat"
    assert new["alternatives"] == ["a cat", ""]
    assert new["subtitles"] == row["subtitles"]


def test_crop_of_pil_images() -> None:
    new = Crop().apply(Sample({"image": pil()}), CropParams(2, 3, 4, 5))
    assert torch.equal(pixels(new.images["image"]), image()[:, 2:6, 3:8])


def grounded(caption: str, phrases: dict[str, list[int]]) -> Sample:
    entries = tuple(Phrase({}, text, box=torch.tensor(box)) for text, box in phrases.items())
    return Sample({"image": image(20, 20)}, captions={"caption": caption}, phrases=entries)


def test_drawn_crops_leave_the_caption_true_and_never_empty() -> None:
    sample = grounded("A dog and a cat", {"a dog": [0, 0, 5, 5], "a cat": [15, 15, 20, 20]})
    crop, generator, seen = Crop(scale=(0.1, 0.4)), rng(), set()
    for _ in range(200):
        params = crop.draw(sample, generator)
        new = crop.apply(sample, params)
        seen.add(new.all_captions()[0])
        for text, box in {"dog": [0, 0, 5, 5], "cat": [15, 15, 20, 20]}.items():
            assert (text in new.all_captions()[0].lower()) == bool(loop_crop([box], params, 0.3)[0])
    assert seen == {"A dog and a cat", "A dog", "A cat"}


def test_crop_is_drawn_anew_where_words_would_get_false() -> None:
    crop = Crop(scale=(0.05, 0.2))
    corner = [0, 0, 20, 20]
    whole = CropParams(0, 0, 20, 20)
    assert {crop.draw(grounded("a dog", {"a dog": corner}), rng(seed)) for seed in range(20)} == {whole}
    twice = grounded("two dogs and a cat", {"a cat": [5, 5, 15, 15]})
    dogs = tuple(Phrase({}, "two dogs", box=torch.tensor(box)) for box in ([0, 0, 3, 3], [17, 17, 20, 20]))
    twice = replace(twice, phrases=twice.phrases + dogs)
    for seed in range(50):
        new = Crop(scale=(0.3, 0.7)).apply(twice, Crop(scale=(0.3, 0.7)).draw(twice, rng(seed)))
        assert ("two dogs" in new.all_captions()[0].lower()) == (
            len([p for p in new.phrases if p.text == "two dogs"]) == 2
        )
    nested = grounded("a man in a hat", {"a man in a hat": [0, 0, 20, 20], "a hat": [0, 0, 2, 2]})
    for seed in range(20):
        assert Crop(min_visible=0.01).apply(nested, Crop(min_visible=0.01).draw(nested, rng(seed))).all_captions() == [
            "a man in a hat"
        ]


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32))
def test_drawn_windows_lie_inside(height: int, width: int, seed: int) -> None:
    params = Crop(scale=(0.2, 0.9)).draw(Sample({"image": torch.zeros(3, height, width)}), rng(seed))
    assert 0 <= params.top <= params.top + params.height <= height
    assert 0 <= params.left <= params.left + params.width <= width
    assert min(params.height, params.width) >= 1


def test_drawn_windows_have_the_asked_size_and_shape() -> None:
    sample, generator = Sample({"image": torch.zeros(1, 300, 400)}), rng()
    windows = [Crop(scale=(0.2, 0.4), ratio=(0.8, 1.25)).draw(sample, generator) for _ in range(300)]
    shares = [w.height * w.width / 120_000 for w in windows]
    assert 0.19 < min(shares) < 0.22
    assert 0.38 < max(shares) < 0.41
    assert all(0.78 < w.width / w.height < 1.27 for w in windows)


def test_crop_refuses_images_of_different_sizes() -> None:
    with pytest.raises(ValueError, match=r"10x8, 12x9: resize"):
        Crop().draw(Sample({"image": [image(), image(9, 12)]}), rng())
