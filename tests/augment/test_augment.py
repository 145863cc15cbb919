"""Synchronized augmentation against formulas and loops written out by hand, and through datasets and DataLoaders."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from hf_mixup.augment import (
    ColorJitter,
    Columns,
    Crop,
    CropParams,
    Flip,
    FlipParams,
    JitterParams,
    Phrase,
    Sample,
    Segment,
    Speed,
    SpeedParams,
    SynchronizedAugmentation,
    TemporalCrop,
    TemporalCropParams,
    TimeStretch,
    Transform,
    mirror_words,
    read_row,
    write_row,
)
from hf_mixup.augment.keys import Keys
from hf_mixup.augment.phrases import drop_phrase
from hf_mixup.augment.words import names_color, names_shade
from hf_mixup.data import load_emoji

FLIP, STAY = FlipParams(True), FlipParams(False)
EVERYTHING = Columns(
    image="image",
    caption=("caption", "alternatives"),
    masks="masks",
    boxes="boxes",
    per_box=("labels",),
    phrases="phrases",
    audio="audio",
    video="video",
    fps="fps",
    timed_text="subtitles",
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(height: int = 8, width: int = 10, seed: int = 0) -> Tensor:
    return torch.randint(256, (3, height, width), generator=rng(seed), dtype=torch.uint8)


def pil(height: int = 8, width: int = 10, seed: int = 0) -> Image.Image:
    return Image.fromarray(image(height, width, seed).permute(1, 2, 0).numpy())


def pixels(image: Any) -> Tensor:
    return image if isinstance(image, Tensor) else torch.from_numpy(np.array(image)).permute(2, 0, 1)


def same(a: Any, b: Any) -> bool:
    """Equal in type and to the last bit, through lists and dicts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(np.array_equal(a, b))


def full_row() -> dict[str, Any]:
    return {
        "image": [image(), image(seed=1)],
        "caption": "A dog on the left and a bright cat",
        "alternatives": ["a dog and a cat", ""],
        "masks": torch.arange(80).view(8, 10),
        "boxes": [[0.0, 0.0, 4.0, 4.0], [6.0, 1.0, 9.0, 5.0]],
        "labels": [7, 9],
        "phrases": [{"text": "a dog", "box": 0, "id": 3}, {"text": "cat", "box": 1, "id": 4}],
        "audio": {"array": np.arange(32.0).reshape(2, 16), "sampling_rate": 8},
        "video": torch.stack([image(seed=s) for s in range(8)]),
        "fps": 4,
        "subtitles": [{"text": "on your right side", "start": 0.25, "end": 1.5}],
    }


# --- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("", ""),
        ("a bright cat", "a bright cat"),
        ("a cat to the left of a dog", "a cat to the right of a dog"),
        ("Left LEFT left, right. Right RIGHT", "Right RIGHT right, left. Left LEFT"),
        ("leftmost rightward leftwards right-hand left-handed", "rightmost leftward rightwards left-hand right-handed"),
        ("Clockwise vertical arrows", "Counterclockwise vertical arrows"),
        ("COUNTERCLOCKWISE anti-clockwise anticlockwise", "CLOCKWISE clockwise clockwise"),
        (":arrow_left: down-right", ":arrow_right: down-left"),
        ("left-right arrow", "right-left arrow"),
        ("the dog has left and right collars", "the dog has right and left collars"),
        ("he has left hand raised, his right eye shut", "he has right hand raised, his left eye shut"),
        ("the dog is left of the cat", "the dog is right of the cat"),
        ("on the right behind a bench", "on the left behind a bench"),
        ("Left or right?", "Right or left?"),
        ("right away on the right", "right away on the left"),
    ],
)
def test_mirror_words(text: str, mirrored: str) -> None:
    assert mirror_words(text) == mirrored


@pytest.mark.parametrize(
    "text",
    [
        "bright brightness copyright upright outright alright forthright fright wright righteous rights rightful",
        "leftover leftovers left over left-overs cleft lefty",
        "right away, all right, right now, a right angle, right-angled, a right triangle, a right whale",
        "human rights, every human right, the right to vote, the right of way, the right tool",
        "he has left, they've left home, she had just left, they have already left the room, nothing left",
        "one slice left, two minutes left.",
        "a house right behind the tree, right in the middle, right next to it",
        "a bag left behind, left alone, left unattended; the left luggage office",
        "left-wing and right-wing, right-click, That's right, it works, right?",
    ],
)
def test_mirror_words_leaves_what_is_no_direction(text: str) -> None:
    assert mirror_words(text) == text
    assert mirror_words(text.upper()) == text.upper()


WORDS = st.sampled_from(
    ["left", "Right", "RIGHT", "leftmost", "Rightwards", "left-hand", "clockwise", "Counterclockwise", "bright",
     "right away", "all right", "has left", "copyright", "leftovers", "right angle", "dog", "é", "42"]
)  # fmt: skip


@given(st.lists(WORDS))
def test_mirroring_words_twice_gives_them_back(words: list[str]) -> None:
    text = " seen; ".join(words)
    assert mirror_words(mirror_words(text)) == text


@given(st.lists(WORDS))
def test_mirror_words_is_a_loop_over_words(words: list[str]) -> None:
    table = {"left": "right", "leftmost": "rightmost", "left-hand": "right-hand", "Leftwards": "Rightwards"}
    table |= {"Left": "Right", "LEFT": "RIGHT", "clockwise": "counterclockwise", "Clockwise": "Counterclockwise"}
    table |= {right: left for left, right in table.items()}
    assert mirror_words(" seen; ".join(words)) == " seen; ".join(table.get(word, word) for word in words)


@given(st.text())
def test_mirror_words_touches_nothing_else(text: str) -> None:
    lower = text.lower()
    if not any(word in lower for word in ("left", "right", "clockwise")):
        assert mirror_words(text) == text


def test_mirror_words_of_the_real_captions() -> None:
    data = load_emoji("image-text")["train"]
    captions = sorted(set(data["caption"]))
    changed = {caption: mirror_words(caption) for caption in captions if mirror_words(caption) != caption}
    assert changed["right-facing fist"] == "left-facing fist"
    assert "bright button" not in changed
    assert "left luggage" not in changed
    assert all(mirror_words(mirrored) == caption for caption, mirrored in changed.items())
    named = {caption for caption in captions if {"left", "right"} & set(caption.replace("-", " ").split())}
    assert named - set(changed) <= {"left luggage"}


def test_names_color_and_shade() -> None:
    for text in (
        "a RED ball",
        "two reds",
        "a reddish sky",
        "red-haired",
        "blonde",
        "golden",
        "orange juice",
        "colourful",
    ):
        assert names_color(text), text
    for text in ("a bored cat", "a hundred", "tangled", "greenhouse", "a cat", "", "goldfish"):
        assert not names_color(text), text
    for text in ("a dark street", "the darkest", "brightly lit", "at night", "white"):
        assert names_shade(text), text
    for text in ("a red ball", "a delight", "darkroom", "a knight"):
        assert not names_shade(text), text


@pytest.mark.parametrize(
    ("text", "phrase", "rest"),
    [
        ("A man and a woman", "a man", "A woman"),
        ("A man and a woman", "a woman", "A man"),
        ("A man, a dog and a red ball", "a man", "A dog and a red ball"),
        ("A man, a dog and a red ball", "a dog", "A man, a red ball"),
        ("A man, a dog and a red ball", "a red ball", "A man, a dog"),
        ("A man, a dog, and a red ball.", "a dog", "A man, a red ball."),
        ("On a beach, a man and a dog", "a man", "On a beach, a dog"),
        ("A dog on a couch", "A dog", "A couch"),
        ("A dog on a couch", "a couch", "A dog"),
        ("a man wearing a hat and a coat", "a hat", "a man wearing a coat"),
        ("A cat next to a dog, sleeping", "a dog", "A cat, sleeping"),
        ("Two dogs. A cat.", "a cat", "Two dogs."),
        ("a (big) dog & a cat", "a (big) dog", "a cat"),
        ("hot dogs and a dog", "dog", "hot dogs and a"),
        ("a dog", "a dog", ""),
        ("a dog", "a cat", "a dog"),
        ("A dog on the far left and a cat in the background", "a dog", "A cat in the background"),
        ("A dog on the far left and a cat in the background", "a cat", "A dog on the far left"),
        ("A dog on the left of a house", "a dog", "The left of a house"),
        ("A man and a cat on the left wing of a plane", "a cat", "A man on the left wing of a plane"),
    ],
)
def test_drop_phrase(text: str, phrase: str, rest: str) -> None:
    assert drop_phrase(text, phrase) == rest


# --- flip ----------------------------------------------------------------------------------------------------------


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


BOX = st.tuples(*[st.integers(0, 20)] * 4).map(
    lambda b: [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])]
)


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


# --- crop ----------------------------------------------------------------------------------------------------------


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


# --- colour --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "held"),
    [("a cat", ""), ("a red cat", "color"), ("a dark room", "shade"), ("a white cat", "both"), ("dark red", "both")],
)
def test_jitter_leaves_alone_what_the_words_name(text: str, held: str) -> None:
    params = ColorJitter().draw(Sample({"image": image()}, captions={"caption": ["", text]}), rng())
    assert (params.hue == 0 and params.saturation == 1) == (held in ("color", "both"))
    assert (params.brightness == 1 and params.contrast == 1) == (held in ("shade", "both"))


def test_jitter_reads_timed_text_too_and_draws_within_range() -> None:
    spoken = Sample({"image": image()}, timed_text=(Segment({}, "a white and blue ship", 0, 1),))
    assert ColorJitter().draw(spoken, rng()) == JitterParams()
    drawn = [ColorJitter(0.1, 0.2, 1.5, 0.05).draw(Sample(), rng(seed)) for seed in range(200)]
    assert all(0.9 <= p.brightness <= 1.1 and 0.8 <= p.contrast <= 1.2 for p in drawn)
    assert all(0 <= p.saturation <= 2.5 and -0.05 <= p.hue <= 0.05 for p in drawn)
    assert max(p.saturation for p in drawn) > 2.3


def test_jitter_is_shared_by_views_and_frames_and_spares_masks() -> None:
    same = image()
    sample = Sample({"image": [same, same]}, masks={"mask": same[0]}, frames=torch.stack([same, same]), fps=1)
    new = ColorJitter().apply(sample, JitterParams(1.3, 0.8, 0.5, 0.1))
    first, second = new.images["image"]
    assert not torch.equal(first, same)
    assert torch.equal(first, second)
    assert torch.equal(new.frames[1], first)
    assert torch.equal(new.masks["mask"], same[0])


def test_jitter_brightness_and_grey_against_arithmetic() -> None:
    image = torch.rand(3, 4, 4, generator=rng())
    dark = ColorJitter().apply(Sample({"image": image}), JitterParams(brightness=0.5)).images["image"]
    torch.testing.assert_close(dark, image / 2)
    grey = ColorJitter().apply(Sample({"image": image}), JitterParams(saturation=0.0)).images["image"]
    luma = image[0] * 0.2989 + image[1] * 0.587 + image[2] * 0.114
    torch.testing.assert_close(grey, luma.expand(3, 4, 4))
    turned = ColorJitter().apply(Sample({"image": pil()}), JitterParams(hue=0.5)).images["image"]
    assert turned.size == (10, 8)


@pytest.mark.parametrize("image", [Image.new("RGBA", (4, 4)), Image.new("P", (4, 4)), torch.zeros(4, 4, 4)])
def test_jitter_refuses_other_colours(image: Any) -> None:
    with pytest.raises(ValueError, match="RGB or greyscale"):
        ColorJitter().apply(Sample({"image": image}), JitterParams(brightness=0.5))


# --- time ----------------------------------------------------------------------------------------------------------


def clip(seconds: int = 10, fps: int = 5, rate: int = 100) -> Sample:
    """Frames and samples that say when they were; one word a second."""
    frames = (torch.arange(seconds * fps) / fps).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    words = tuple(Segment({}, str(second), second, second + 1) for second in range(seconds))
    return Sample(frames=frames, fps=fps, audio=np.arange(seconds * rate) / rate, sampling_rate=rate, timed_text=words)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 9.9))
def test_temporal_crop_takes_the_same_seconds_of_everything(seed: int, seconds: float) -> None:
    sample = clip()
    params = TemporalCrop(seconds).draw(sample, rng(seed))
    new = TemporalCrop(seconds).apply(sample, params)
    assert 0 <= params.start <= params.start + params.seconds <= 10 + 1e-9
    assert abs(params.seconds - seconds) <= 0.1001 or params.seconds == 0.2
    assert float(new.frames[0].max()) == pytest.approx(params.start, abs=1e-5)
    assert new.audio[0] == pytest.approx(params.start)
    assert len(new.frames) == round(params.seconds * 5)
    assert len(new.audio) == round(params.seconds * 100)
    expected = [
        (str(s), max(s - params.start, 0), min(s + 1 - params.start, params.seconds))
        for s in range(10)
        if s + 1 > params.start and s < params.start + params.seconds
    ]
    assert [part.text for part in new.timed_text] == [text for text, _, _ in expected]
    np.testing.assert_allclose([[p.start, p.end] for p in new.timed_text], [[a, b] for _, a, b in expected], atol=1e-9)


def test_temporal_crop_reaches_every_start() -> None:
    starts = {TemporalCrop(9.0).draw(clip(), rng(seed)).start for seed in range(200)}
    assert starts == {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}


def test_temporal_crop_leaves_short_rows_whole_and_works_on_one_modality() -> None:
    assert TemporalCrop(10.0).draw(clip(), rng()) == TemporalCropParams()
    assert TemporalCrop(10.0).apply(clip(), TemporalCropParams()).audio is not None
    audio = Sample(audio=np.zeros((2, 1000)), sampling_rate=100)
    assert TemporalCrop(2.5).apply(audio, TemporalCrop(2.5).draw(audio, rng())).audio.shape == (2, 250)
    words = Sample(timed_text=clip().timed_text)
    cut = TemporalCrop(1.0).apply(words, TemporalCrop(1.0).draw(words, rng()))
    assert sum(part.end - part.start for part in cut.timed_text) == pytest.approx(1.0)
    moment = Sample(timed_text=(Segment({}, "bang", 2.0, 2.0), Segment({}, "late", 3.0, 3.0)))
    kept = TemporalCrop(1.0).apply(moment, TemporalCropParams(2.0, 1.0))
    assert [(part.text, part.start, part.end) for part in kept.timed_text] == [("bang", 0.0, 0.0)]
    frames = Sample(frames=[pil(seed=s) for s in range(6)], fps=2)
    assert len(TemporalCrop(1.0).apply(frames, TemporalCropParams(0.5, 1.0)).frames) == 2


def test_audio_a_little_shorter_than_the_frames() -> None:
    sample = replace(clip(), audio=np.zeros(990))
    for seed in range(50):
        params = TemporalCrop(9.0).draw(sample, rng(seed))
        assert params.start + params.seconds <= 9.9
        assert len(TemporalCrop(9.0).apply(sample, params).audio) == 900


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
def test_speed_keeps_everything_in_step(factor: float) -> None:
    sample = clip()
    new = Speed().apply(sample, SpeedParams(factor))
    assert len(new.frames) == round(50 / factor)
    assert len(new.audio) == pytest.approx(1000 / factor, abs=1)
    middles = (torch.arange(len(new.frames)) + 0.5) / 5 * factor  # when the middle of each new frame was
    shown = new.frames[:, 0, 0, 0]
    assert ((shown <= middles + 1e-5) & (middles <= shown + 0.2 + 1e-5)).all()
    assert [(p.start, p.end) for p in new.timed_text] == [(s / factor, (s + 1) / factor) for s in range(10)]


def test_speed_changes_the_pitch() -> None:
    tone = np.sin(2 * np.pi * 100 * np.arange(8000) / 8000).astype(np.float32)
    fast = Speed().apply(Sample(audio=np.stack([tone, tone]), sampling_rate=8000), SpeedParams(1.25)).audio
    assert fast.shape == (2, 6400)
    assert fast.dtype == np.float32
    assert np.abs(np.fft.rfft(fast[0])).argmax() * 8000 / 6400 == pytest.approx(125)
    np.testing.assert_allclose(fast[0, 400:6000], np.sin(2 * np.pi * 125 * np.arange(400, 6000) / 8000), atol=0.01)


def test_speed_of_whole_numbers_and_the_unchanged() -> None:
    loud = np.full(400, 32767, dtype=np.int16)
    fast = Speed().apply(Sample(audio=loud, sampling_rate=100), SpeedParams(1.1)).audio
    assert fast.dtype == np.int16
    assert fast[50:-50].min() > 32000  # no overflow to the other sign
    sample = clip()
    assert Speed().apply(sample, SpeedParams(1.0)) is sample
    assert {Speed((0.9, 1.1)).draw(sample, rng(seed)).factor for seed in range(20)} == {0.9, 1.1}


def test_time_stretch_hands_the_audio_to_librosa(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def time_stretch(audio: np.ndarray, rate: float) -> np.ndarray:
        calls.append(rate)
        return audio[..., : round(audio.shape[-1] / rate)]

    effects = types.ModuleType("librosa.effects")
    effects.time_stretch = time_stretch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "librosa", types.ModuleType("librosa"))
    monkeypatch.setitem(sys.modules, "librosa.effects", effects)
    new = TimeStretch().apply(clip(), SpeedParams(1.25))
    assert calls == [1.25]
    assert (len(new.audio), len(new.frames), new.timed_text[-1].end) == (800, 40, 8.0)


def test_time_stretch_without_librosa_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librosa", None)
    monkeypatch.setitem(sys.modules, "librosa.effects", None)
    with pytest.raises(ImportError, match=r"hf-mixup\[audio\]"):
        TimeStretch().apply(clip(), SpeedParams(1.25))
    assert len(TimeStretch().apply(replace(clip(), audio=None), SpeedParams(1.25)).frames) == 40


def test_time_stretch_keeps_the_pitch() -> None:
    pytest.importorskip("librosa")
    tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050).astype(np.float32)
    slow = TimeStretch().apply(Sample(audio=np.stack([tone, tone]), sampling_rate=22050), SpeedParams(0.8)).audio
    assert slow.shape == (2, round(22050 / 0.8))
    peak = np.abs(np.fft.rfft(slow[0])).argmax() * 22050 / slow.shape[1]
    assert peak == pytest.approx(440, rel=0.01)


# --- the whole -------------------------------------------------------------------------------------------------------

STEPS = [Flip(), Crop(), ColorJitter(), TemporalCrop(1.0), Speed((0.5, 2.0))]


def marked(count: int = 40) -> Dataset:
    """Images whose left half is white, and whose caption says so."""
    half = np.zeros((4, 6, 3), dtype=np.uint8)
    half[:, :3] = 255
    return Dataset.from_dict(
        {
            "image": [Image.fromarray(half)] * count,
            "caption": ["snow on the left of it"] * count,
            "row": list(range(count)),
        }
    )


def collate(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows


def flips(rows: list[dict[str, Any]]) -> list[bool]:
    """Which rows are mirrored, after a check that their words agree with their pixels."""
    for row in rows:
        side = "left" if np.array(row["image"])[0, 0, 0] == 255 else "right"
        assert row["caption"] == f"snow on the {side} of it"
    return ["right" in row["caption"] for row in rows]


def epoch(loader: DataLoader) -> list[dict[str, Any]]:
    return sorted((row for batch in loader for row in batch), key=lambda row: row["row"])


def test_a_data_set_and_its_words_agree() -> None:
    data = marked()
    data.set_transform(SynchronizedAugmentation([Flip()], seed=1))
    drawn = flips([data[i] for i in range(40)])
    assert 8 < sum(drawn) < 32
    assert len(data[:3]["image"]) == 3
    assert flips([marked().with_transform(SynchronizedAugmentation([Flip(1.0)]))[0]]) == [True]


@pytest.mark.parametrize("workers", [0, 2])
def test_same_seeds_same_rows_and_other_rows_each_epoch(workers: int) -> None:
    def two_epochs(seed: int) -> list[list[bool]]:
        data = marked()
        data.set_transform(SynchronizedAugmentation([Flip()], seed=seed))
        torch.manual_seed(5)
        loader = DataLoader(data, batch_size=5, shuffle=True, num_workers=workers, collate_fn=collate)
        return [flips(epoch(loader)) for _ in range(2)]

    first = two_epochs(0)
    assert first == two_epochs(0)
    assert first[0] != first[1]
    assert first != two_epochs(1)


def test_workers_do_not_repeat_each_other_nor_themselves() -> None:
    data = marked()
    data.set_transform(SynchronizedAugmentation([Flip()], seed=0))
    loader = DataLoader(data, batch_size=20, num_workers=2, collate_fn=collate, persistent_workers=True)
    drawn = [flips(epoch(loader)) for _ in range(2)]
    halves = [half for one in drawn for half in (one[:20], one[20:])]
    assert len({tuple(half) for half in halves}) == 4


def test_draws_leave_the_global_generators_alone() -> None:
    augment = SynchronizedAugmentation(STEPS, columns=EVERYTHING)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = augment.row(full_row())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    torch.manual_seed(9)
    again = SynchronizedAugmentation(STEPS, columns=EVERYTHING).row(full_row())
    assert same(again, first)


def test_set_epoch_starts_afresh() -> None:
    row = marked()[0]
    augment = SynchronizedAugmentation([Flip()])
    first = flips([augment.row(row) for _ in range(30)])
    augment.set_epoch(0)
    assert flips([augment.row(row) for _ in range(30)]) == first
    augment.set_epoch(1)
    second = flips([augment.row(row) for _ in range(30)])
    assert second != first
    resumed = SynchronizedAugmentation([Flip()])
    resumed.set_epoch(1)
    assert flips([resumed.row(row) for _ in range(30)]) == second


def test_processes_of_a_distributed_run_draw_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        draws.append(torch.rand(4, generator=Keys(0).next()))
    assert not torch.equal(*draws)


def test_all_steps_on_a_full_row_and_the_same_in_a_batch() -> None:
    rows = [full_row(), full_row()]
    rows[1]["caption"] = "a right dog and a cat"
    augment = SynchronizedAugmentation(STEPS, seed=3, columns=EVERYTHING)
    batch = augment({**{name: [row[name] for row in rows] for name in rows[0]}, "other": ["x", "y"]})
    one_by_one = SynchronizedAugmentation(STEPS, seed=3, columns=EVERYTHING)
    for position, row in enumerate(rows):
        new = one_by_one.row(row)
        assert same({name: value[position] for name, value in batch.items() if name != "other"}, new)
        height, width = new["image"][0].shape[-2:]
        assert new["image"][1].shape[-2:] == new["video"].shape[-2:] == new["masks"].shape == (height, width)
        assert len(new["labels"]) == len(new["boxes"])
        assert all(0 <= phrase["box"] < len(new["boxes"]) for phrase in new["phrases"])
        captions = [new["caption"], *new["alternatives"]]
        assert all(any(phrase["text"] in caption.lower() for caption in captions) for phrase in new["phrases"])
        assert len(new["video"]) / 4 == pytest.approx(new["audio"]["array"].shape[1] / 8)
    assert batch["other"] == ["x", "y"]
    assert same(rows[0], full_row())


def test_real_rows_stay_true() -> None:
    data = load_emoji("image-text")["train"].filter(lambda c: "left" in c or "right" in c, input_columns="caption")
    before = data[:30]
    augment = SynchronizedAugmentation([Flip(), ColorJitter()], columns=Columns(caption=("caption", "keywords")))
    data.set_transform(augment)
    after = data[:30]
    changed = [new != old for old, new in zip(before["caption"], after["caption"])]
    assert 5 < sum(changed) < len(changed)
    for old, new in zip(before["caption"], after["caption"]):
        assert new in (old, mirror_words(old))
    assert after["emoji"] == before["emoji"]
    assert all(image.size == (32, 32) for image in after["image"])


def test_independent_draws_warn_once_and_break_the_alignment() -> None:
    with pytest.warns(UserWarning, match="alignment") as caught:
        augment = SynchronizedAugmentation([Flip()], synchronized=False)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = marked()[0]
        new = [augment.row(row) for _ in range(60)]
    mirrored = [bool(np.array(r["image"])[0, 0, 0] == 0) for r in new]
    said = ["right" in r["caption"] for r in new]
    assert {(a, b) for a, b in zip(mirrored, said)} == {(False, False), (False, True), (True, False), (True, True)}


def test_independent_draws_work_on_a_full_row() -> None:
    with pytest.warns(UserWarning, match="alignment"):
        augment = SynchronizedAugmentation(STEPS, columns=EVERYTHING, synchronized=False)
    new = [augment.row(full_row()) for _ in range(20)]
    assert {len(row["video"]) / 4 == row["audio"]["array"].shape[1] / 8 for row in new} == {False, True}


def test_augmentation_can_be_pickled_and_hashed_by_datasets() -> None:
    from datasets.fingerprint import Hasher

    augment = SynchronizedAugmentation([Flip(), Crop()])
    assert Hasher.hash(augment) == Hasher.hash(SynchronizedAugmentation([Flip(), Crop()]))
    assert flips([pickle.loads(pickle.dumps(augment)).row(marked()[0])])


def test_import_is_cheap() -> None:
    code = "import sys, hf_mixup.augment; print(*{'torchvision', 'PIL', 'scipy', 'librosa'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- audio in its forms ----------------------------------------------------------------------------------------------


class Decoder:
    """What `datasets` gives for an Audio column: subscriptable, and no mapping."""

    def __getitem__(self, name: str) -> Any:
        return {"array": np.zeros(400), "sampling_rate": 100}[name]


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(400, dtype=np.float32),
        torch.zeros(2, 400),
        [0.0] * 400,
        {"array": [0.0] * 400, "sampling_rate": 100},
        Decoder(),
    ],
    ids=["array", "tensor", "list", "mapping", "decoder"],
)
def test_audio_keeps_its_form(value: Any) -> None:
    whole = isinstance(value, (dict, Decoder))
    columns = Columns(image=None, caption=None, audio="audio", sampling_rate=None if whole else 100)
    new = SynchronizedAugmentation([TemporalCrop(1.5), Speed((2.0,))], columns=columns).row({"audio": value})["audio"]
    inner, before = (new["array"], value["array"]) if whole else (new, value)
    assert type(inner) is type(before)
    assert getattr(inner, "dtype", None) == getattr(before, "dtype", None)
    assert np.asarray(inner).shape[-1] == 75
    assert not whole or new["sampling_rate"] == 100


# --- refusals --------------------------------------------------------------------------------------------------------


def bad_rows() -> Iterator[Any]:
    def case(name: str, message: str, **changes: Any) -> Any:
        return pytest.param(changes, message, id=name)

    yield case("caption None", r"row 1: column 'caption' holds None where a string", caption=None)
    yield case("caption number", r"row 1: column 'caption' holds int '3'", caption=3)
    yield case("caption list with None", "column 'alternatives' holds None", alternatives=["a", None])
    yield case("image None", "row 1: column 'image' holds None", image=None)
    yield case("array image", r"ndarray of shape \[8, 10, 3\].*fromarray", image=np.zeros((8, 10, 3)))
    yield case("channels last", r"Tensor of shape \[8, 10, 3\].*movedim", image=torch.zeros(8, 10, 3))
    yield case("flat image", r"Tensor of shape \[8, 10\]", image=torch.zeros(8, 10))
    yield case("array mask", "column 'masks' holds ndarray", masks=np.zeros((8, 10)))
    yield case("sizes", "10x8, 12x9: resize", masks=torch.zeros(9, 12))
    yield case(
        "xywh", r"\[5.0, 5.0, 2.0, 2.0\].*not \(left, top, width, height\)", boxes=[[5.0, 5, 2, 2], [0, 0, 1, 1]]
    )
    yield case("box of three", r"column 'boxes' holds .* where \[N, 4\]", boxes=[[1, 2, 3]])
    yield case("boxes None", "column 'boxes' holds None", boxes=None)
    yield case("labels", "column 'labels' holds 1 entries for 2 boxes", labels=[1])
    yield case("phrase without box", "column 'phrases' holds dict", phrases=[{"text": "cat"}])
    yield case("empty phrase", "a phrase with some text", phrases=[{"text": " ", "box": 0}])
    yield case("phrase box", "'cat' is seen in box 2, but there are 2 boxes", phrases=[{"text": "cat", "box": 2}])
    yield case("phrase elsewhere", "'a bird' does not occur in", phrases=[{"text": "a bird", "box": 0}])
    yield case("phrases dict", "column 'phrases' holds dict", phrases={"text": ["cat"], "box": [0]})
    yield case("audio", "column 'audio' holds ndarray.*sampling_rate", audio=np.zeros(3))
    yield case("rate", "sampling_rate is int '0'", audio={"array": np.zeros(3), "sampling_rate": 0})
    yield case("words as audio", "an array of numbers", audio={"array": ["a"], "sampling_rate": 3})
    yield case("ragged audio", "an array of numbers", audio={"array": [[1], [1, 2]], "sampling_rate": 3})
    yield case("fps", "fps='fps' is None: it must be a number above 0", fps=None)
    yield case("video", "column 'video' holds Tensor", video=torch.zeros(3, 4, 4))
    yield case("no frames", "column 'video' holds list", video=[])
    yield case("segment", "column 'subtitles' holds dict", subtitles=[{"text": "a", "start": 1}])
    yield case("backwards", "0 <= start <= end", subtitles=[{"text": "a", "start": 2, "end": 1}])
    yield case("subtitles None", "column 'subtitles' holds None", subtitles=None)


@pytest.mark.parametrize(("changes", "message"), list(bad_rows()))
def test_bad_rows_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    rows = [full_row(), {**full_row(), **changes}]
    with pytest.raises(ValueError, match=message):
        SynchronizedAugmentation(STEPS, columns=EVERYTHING)({name: [row[name] for row in rows] for name in rows[0]})


def test_boxes_of_another_format_are_refused() -> None:
    boxes = tv_tensors.BoundingBoxes(torch.zeros(1, 4), format="XYWH", canvas_size=(8, 10))
    with pytest.raises(ValueError, match=r"XYWH.*convert_bounding_box_format"):
        read_row({"image": image(), "boxes": boxes}, Columns(caption=None, boxes="boxes"))


def test_a_missing_column_names_the_nearest() -> None:
    augment = SynchronizedAugmentation([Flip()], columns=Columns(caption="captoin"))
    with pytest.raises(ValueError, match="no column 'captoin': did you mean 'caption'"):
        augment(marked()[:2])
    with pytest.raises(ValueError, match=r"no column 'caption'.*set a kind to None"):
        SynchronizedAugmentation([Flip()]).row({"image": image()})


def test_a_row_is_not_a_batch() -> None:
    with pytest.raises(ValueError, match=r"use \.row"):
        SynchronizedAugmentation([Flip()])({"image": pil(), "caption": "left"})
    with pytest.raises(ValueError, match=r"differ in length.*\.row"):
        SynchronizedAugmentation([Flip()])({"image": [pil(), pil()], "caption": ["left"]})


def test_an_empty_batch_and_empty_captions() -> None:
    assert SynchronizedAugmentation([Flip()])({"image": [], "caption": []}) == {"image": [], "caption": []}
    assert (
        SynchronizedAugmentation([Flip(1.0), Crop(), ColorJitter()]).row({"image": pil(), "caption": ""})["caption"]
        == ""
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Flip(1.5), r"Flip\(p=1.5\)"),
        (lambda: Flip(skip="right whale"), "list of phrases"),
        (lambda: Crop(scale=(0.0, 1.0)), "scale"),
        (lambda: Crop(ratio=(2.0, 1.0)), "ratio"),
        (lambda: Crop(min_visible=2), "min_visible"),
        (lambda: ColorJitter(contrast=-1), "contrast"),
        (lambda: ColorJitter(hue=0.6), "hue"),
        (lambda: TemporalCrop(0), "seconds"),
        (lambda: Speed(()), r"Speed\(factors"),
        (lambda: TimeStretch((1.0, -1)), r"TimeStretch\(factors"),
        (lambda: Columns(video="frames"), "needs fps"),
        (lambda: Columns(image=None, boxes="boxes"), "needs image or video"),
        (lambda: Columns(caption=None, phrases="phrases"), "needs caption"),
        (lambda: Columns(image=None, caption=None), "names no column"),
        (lambda: SynchronizedAugmentation([]), "at least one"),
        (lambda: SynchronizedAugmentation([Flip]), "such as Flip"),
        (lambda: SynchronizedAugmentation([Speed()]), r"Speed would change nothing.*audio=\.\.\. or video="),
    ],
)
def test_settings_out_of_range_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_transform_of_ones_own() -> None:
    class Shout(Transform[None]):
        needs = ("caption",)

        def draw(self, sample: Sample, generator: torch.Generator) -> None:
            return None

        def apply(self, sample: Sample, params: None) -> Sample:
            return sample.map_captions(str.upper)

    new = SynchronizedAugmentation([Shout()], columns=Columns(image=None)).row({"caption": ["a cat", "b"], "id": 1})
    assert new == {"caption": ["A CAT", "B"], "id": 1}
