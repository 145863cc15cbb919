"""Values come back in the form they had; bad rows and settings are refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from hf_mixup.augment import (
    ColorJitter,
    Columns,
    Crop,
    Flip,
    Sample,
    Speed,
    SynchronizedAugmentation,
    TemporalCrop,
    TimeStretch,
    Transform,
    read_row,
)
from tests.augment.common import EVERYTHING, STEPS, full_row, image, marked, pil


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
    with pytest.raises(ValueError, match=r"no column 'caption'.*set a field to None"):
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
