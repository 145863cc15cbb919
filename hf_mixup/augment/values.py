"""The single values of a row: checked, read, and given back the type they came in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Phrase, Sample, Segment
from .pixels import check_image


def _found(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} of shape {list(shape)}"
    return "None" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"


def refuse(name: str, value: Any, wanted: str) -> ValueError:
    """Return the error for a value that does not belong in its column."""
    return ValueError(f"column {name!r} holds {_found(value)} where {wanted} belongs")


def checked(value: Any, name: str, check: Callable[[Any], str | None]) -> Any:
    """Check a value, or each entry where it is a list, by a function that returns what is wanted instead."""
    value = list(value) if isinstance(value, tuple) else value
    for entry in value if isinstance(value, list) else [value]:
        wanted = check(entry)
        if wanted:
            raise refuse(name, entry, wanted)
    return value


def check_caption(value: Any) -> str | None:
    """Say what a value should be instead of what it is, None if it is a caption."""
    return None if isinstance(value, str) else "a string, or a list of strings (filter such rows, or put an empty one)"


def read_boxes(value: Any, name: str) -> Tensor:
    """Read boxes [N, 4] of any form; an empty list is none."""
    wanted = "[N, 4] numbers (left, top, right, bottom)"
    box_format = getattr(getattr(value, "format", None), "value", "XYXY")  # of torchvision's BoundingBoxes
    if box_format != "XYXY":
        raise ValueError(
            f"column {name!r} holds boxes as {box_format}: make them XYXY by "
            "torchvision.transforms.v2.functional.convert_bounding_box_format"
        )
    try:
        boxes = value.detach().as_subclass(Tensor) if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise refuse(name, value, wanted) from error
    boxes = boxes.reshape(0, 4) if boxes.numel() == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise refuse(name, value, wanted)
    _check_corners(boxes, name)
    return boxes


def _check_corners(boxes: Tensor, name: str) -> None:
    wrong = ~((boxes[:, 2:] >= boxes[:, :2]).all(1) & boxes.isfinite().all(1))
    if wrong.any():
        raise ValueError(
            f"column {name!r} holds the box {boxes[wrong][0].tolist()}, whose right or bottom lies before its left or "
            "top: boxes are (left, top, right, bottom) in pixels, not (left, top, width, height)"
        )


def read_phrases(value: Any, name: str, boxes: Tensor | None) -> tuple[Phrase, ...]:
    """Read phrases, each with its position in the boxes or a box of its own."""
    wanted = 'a list of {"text": ..., "box": ...}'
    if not isinstance(value, (list, tuple)):
        raise refuse(name, value, wanted)
    return tuple(_read_phrase(entry, name, wanted, boxes) for entry in value)


def _read_phrase(entry: Any, name: str, wanted: str, boxes: Tensor | None) -> Phrase:
    if not isinstance(entry, Mapping) or not {"text", "box"} <= entry.keys():
        raise refuse(name, entry, wanted)
    text, where = entry["text"], entry["box"]
    if not isinstance(text, str) or not text.strip():
        raise refuse(name, entry, "a phrase with some text")
    if isinstance(where, (int, np.integer)) and not isinstance(where, bool):
        count = 0 if boxes is None else len(boxes)
        if not 0 <= where < count:
            raise ValueError(
                f"column {name!r} says that {text!r} is seen in box {where}, but there are {count} boxes: "
                "count from 0, and name the column of the boxes in Columns(boxes=...)"
            )
        return Phrase(entry, text, index=int(where))
    return Phrase(entry, text, box=read_boxes([where], name)[0])


def write_phrase(phrase: Phrase) -> dict[str, Any]:
    """Return a phrase as the entry that it was read from, changed."""
    where = phrase.index if phrase.box is None else like(phrase.box, phrase.entry["box"])
    return {**phrase.entry, "text": phrase.text, "box": where}


def read_audio(value: Any, name: str) -> np.ndarray:
    """Read an array of numbers [..., T], which shares its memory with the value where it can."""
    wanted = "an array of numbers [..., T]"
    try:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise refuse(name, value, wanted) from error
    if array.ndim == 0 or array.dtype.kind not in "fiu":
        raise refuse(name, value, wanted)
    return array


def positive(value: Any, what: str) -> float:
    """Read a rate."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value < float("inf"):
        raise ValueError(f"{what} is {_found(value)}: it must be a number above 0")
    return float(value)


def read_frames(value: Any, name: str) -> Any:
    """Read frames: a list of images, or a tensor [T, C, H, W]."""
    if (
        not isinstance(value, (Tensor, list, tuple))
        or len(value) == 0
        or (isinstance(value, Tensor) and value.ndim != 4)
    ):
        raise refuse(name, value, "a list of frames, or a tensor [T, C, H, W],")
    return checked(value, name, check_image)


def read_timed_text(value: Any, name: str) -> tuple[Segment, ...]:
    """Read words with their times in seconds."""
    if not isinstance(value, (list, tuple)):
        raise refuse(name, value, 'a list of {"text": ..., "start": seconds, "end": seconds}')
    return tuple(_read_segment(entry, name) for entry in value)


def _read_segment(entry: Any, name: str) -> Segment:
    try:
        text, start, end = entry["text"], float(entry["start"]), float(entry["end"])
    except (TypeError, KeyError, ValueError) as error:
        raise refuse(name, entry, '{"text": ..., "start": seconds, "end": seconds}') from error
    if not isinstance(text, str) or not 0 <= start <= end < float("inf"):
        raise refuse(name, entry, "a text with 0 <= start <= end")
    return Segment(entry, text, start, end)


def like(numbers: Tensor, original: Any) -> Any:
    """Give numbers the type of the value that they were read from."""
    if isinstance(original, Tensor):
        return numbers
    return numbers.numpy() if isinstance(original, np.ndarray) else numbers.tolist()


def audio_like(sample: Sample, original: Any) -> Any:
    """Give the audio of a sample the form of the value that it was read from."""
    array: Any = sample.audio
    whole = not isinstance(original, (list, tuple, np.ndarray, Tensor))
    inner = original["array"] if whole else original
    if isinstance(inner, Tensor):
        array = torch.from_numpy(np.ascontiguousarray(array)).to(inner.device)
    elif isinstance(inner, (list, tuple)):
        array = array.tolist()
    if not whole:
        return array
    kept = dict(original) if isinstance(original, Mapping) else {"sampling_rate": original["sampling_rate"]}
    return {**kept, "array": array}
