"""Mirrored images, boxes, channels and words, against loops by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors

from hf_mixup.augment import (
    Columns,
    Flip,
    Phrase,
    Sample,
    Segment,
    read_row,
    write_row,
)
from tests.augment.common import BOX, EVERYTHING, FLIP, STAY, full_row, image, pil, pixels, rng, same


def test_flip_mirrors_everything() -> None:
    columns, row = EVERYTHING, full_row()
    new = write_row(Flip().apply(read_row(row, columns), FLIP), row, columns)
    for before, after in zip(row["image"], new["image"]):
        assert torch.equal(after, before.flip(-1))
    assert torch.equal(new["video"], row["video"].flip(-1))
    assert torch.equal(new["masks"], row["masks"].flip(-1))
    assert new["boxes"] == [[10 - r, t, 10 - l, b] for l, t, r, b in row["boxes"]]  # noqa: E741
    assert new["caption"] == "A dog on the right and a bright cat"
    assert new["alternatives"] == row["alternatives"]
    assert new["phrases"] == row["phrases"]
    assert new["subtitles"] == [{"text": "on your left side", "start": 0.25, "end": 1.5}]
    assert (new["audio"]["array"] == row["audio"]["array"][[1, 0]]).all()
    assert new["labels"] == row["labels"]


def test_flip_twice_is_the_identity_and_nothing_is_modified() -> None:
    columns, row, untouched = EVERYTHING, full_row(), full_row()
    once = Flip().apply(read_row(row, columns), FLIP)
    twice = write_row(Flip().apply(once, FLIP), row, columns)
    for name, value in untouched.items():
        assert same(twice[name], value)
        assert same(row[name], value)


def test_flip_of_pil_images_and_masks() -> None:
    row = {"image": pil(), "mask": pil().convert("L"), "caption": "left"}
    columns = Columns(masks="mask")
    new = write_row(Flip().apply(read_row(row, columns), FLIP), row, columns)
    assert isinstance(new["image"], Image.Image)
    assert torch.equal(pixels(new["image"]), pixels(row["image"]).flip(-1))
    assert (np.array(new["mask"]) == np.array(row["mask"])[:, ::-1]).all()


@settings(deadline=None)
@given(st.lists(BOX, max_size=4), st.sampled_from(["list", "array", "tensor", "tv"]))
def test_boxes_keep_their_form(boxes: list[list[int]], form: str) -> None:
    makers: dict[str, Any] = {
        "list": lambda b: b,
        "array": lambda b: np.array(b, dtype=np.float32).reshape(-1, 4),
        "tensor": lambda b: torch.tensor(b, dtype=torch.float64).reshape(-1, 4),
        "tv": lambda b: tv_tensors.BoundingBoxes(torch.tensor(b).reshape(-1, 4), format="XYXY", canvas_size=(20, 20)),
    }
    value = makers[form](boxes)
    row = {"image": image(20, 20), "boxes": value}
    columns = Columns(caption=None, boxes="boxes")
    sample = Flip().apply(read_row(row, columns), FLIP)
    new = write_row(sample, row, columns)["boxes"]
    assert type(new) is type(value)
    assert getattr(new, "dtype", None) == getattr(value, "dtype", None)
    assert np.asarray(new).tolist() == [[20 - b[2], b[1], 20 - b[0], b[3]] for b in boxes]
    back = write_row(Flip().apply(sample, FLIP), row, columns)["boxes"]
    assert np.asarray(back).tolist() == [list(b) for b in boxes]


def test_flip_draws_with_its_probability() -> None:
    sample = Sample(captions={"caption": "left"})
    generator = rng()
    assert 0.2 < np.mean([Flip(0.3).draw(sample, generator).flipped for _ in range(1000)]) < 0.4
    assert not any(Flip(0.0).draw(sample, generator).flipped for _ in range(50))
    assert all(Flip(1.0).draw(sample, generator).flipped for _ in range(50))
    assert Flip().apply(sample, STAY) is sample


def test_flip_spares_rows_whose_audio_names_a_direction() -> None:
    spoken = Sample(audio=np.zeros(8), sampling_rate=8, timed_text=(Segment({}, "turn left", 0, 1),))
    assert Flip(1.0).draw(spoken, rng()) == STAY
    assert Flip(1.0).draw(replace(spoken, timed_text=(Segment({}, "all right", 0, 1),)), rng()) == FLIP
    assert Flip(1.0).draw(replace(spoken, audio=None), rng()) == FLIP


def test_flip_of_a_stereo_pair_swaps_the_eyes() -> None:
    a, b = image(), image(seed=1)
    columns = Columns(image=("left_eye", "right_eye"), caption=None)
    row = {"left_eye": a, "right_eye": b}
    new = write_row(Flip(stereo=True).apply(read_row(row, columns), FLIP), row, columns)
    assert torch.equal(new["left_eye"], b.flip(-1))
    assert torch.equal(new["right_eye"], a.flip(-1))
    pair = Flip(stereo=True).apply(Sample({"image": [a, b]}), FLIP)
    assert torch.equal(pair.images["image"][0], b.flip(-1))
    views = Flip().apply(Sample({"image": [a, b]}), FLIP)
    assert torch.equal(views.images["image"][0], a.flip(-1))
    with pytest.raises(ValueError, match="two images"):
        Flip(stereo=True).apply(Sample({"image": a}), FLIP)
    with pytest.raises(ValueError, match="which eye"):
        Flip(stereo=True).apply(Sample({"image": [a, b]}, boxes=torch.zeros(1, 4)), FLIP)


def test_flip_moves_boxes_of_phrases_and_swaps_their_words() -> None:
    phrases = (
        Phrase({}, "the left dog", box=torch.tensor([0, 0, 4, 4])),
        Phrase({}, "left marks", box=torch.tensor([6, 0, 8, 2])),
    )
    sample = Sample({"image": image()}, captions={"caption": "the left dog has left marks behind"}, phrases=phrases)
    new = Flip().apply(sample, FLIP)
    assert new.all_captions() == ["the right dog has left marks behind"]
    assert [phrase.text for phrase in new.phrases] == ["the right dog", "left marks"]
    assert new.phrases[0].box.tolist() == [6, 0, 10, 4]
    assert Flip(skip=["the left dog"]).apply(sample, FLIP).all_captions() == sample.all_captions()
