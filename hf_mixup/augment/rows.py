"""From a row of a dataset to a `Sample` and back, each value in the form it came in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .base import Sample
from .columns import Columns
from .phrases import has_phrase
from .pixels import canvas, check_image, check_mask, tv_tensors
from .values import (
    audio_like,
    check_caption,
    checked,
    like,
    positive,
    read_audio,
    read_boxes,
    read_frames,
    read_phrases,
    read_timed_text,
    refuse,
    write_phrase,
)


def read_row(row: Mapping[str, Any], columns: Columns) -> Sample:
    """Read what a row holds.

    Raises:
        ValueError: a column is missing or holds what does not belong there, naming the column, what was found and the
            way out.
        ImportError: there are images, and torchvision or Pillow is not installed.

    >>> read_row({"text": "a cat"}, Columns(image=None, caption="text")).all_captions()
    ['a cat']
    """
    columns.check(row)
    audio, rate = _read_audio(row, columns)
    boxes = read_boxes(row[columns.boxes], columns.boxes) if columns.boxes else None
    sample = Sample(
        images={name: checked(row[name], name, check_image) for name in columns.names("image")},
        masks={name: checked(row[name], name, check_mask) for name in columns.names("masks")},
        captions={name: checked(row[name], name, check_caption) for name in columns.names("caption")},
        per_box={name: row[name] for name in columns.names("per_box")},
        boxes=boxes,
        audio=audio,
        sampling_rate=rate,
        frames=read_frames(row[columns.video], columns.video) if columns.video else None,
        fps=_number(row, columns.fps, "fps") if columns.video else 0.0,
        phrases=read_phrases(row[columns.phrases], columns.phrases, boxes) if columns.phrases else (),
        timed_text=read_timed_text(row[columns.timed_text], columns.timed_text) if columns.timed_text else (),
    )
    _check_together(sample)
    return sample


def write_row(sample: Sample, row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Return the row that was read with what the sample holds now, each value in the form that the row had it in.

    >>> columns = Columns(image=None, caption="text")
    >>> write_row(Sample(captions={"text": "a dog"}), {"text": "a cat", "label": 1}, columns)
    {'text': 'a dog', 'label': 1}
    """
    new = {**row, **sample.images, **sample.masks, **sample.captions, **sample.per_box}
    if columns.boxes:
        new[columns.boxes] = _boxes_like(sample, row[columns.boxes])
    if columns.phrases:
        new[columns.phrases] = [write_phrase(phrase) for phrase in sample.phrases]
    if columns.audio:
        new[columns.audio] = audio_like(sample, row[columns.audio])
    if columns.video:
        new[columns.video] = sample.frames
    if columns.timed_text:
        new[columns.timed_text] = [
            {**part.entry, "text": part.text, "start": part.start, "end": part.end} for part in sample.timed_text
        ]
    return new


def _read_audio(row: Mapping[str, Any], columns: Columns) -> tuple[np.ndarray | None, float]:
    if not columns.audio:
        return None, 0.0
    value, rate = row[columns.audio], 0.0
    if columns.sampling_rate is not None:
        rate = _number(row, columns.sampling_rate, "sampling_rate")
    else:
        try:
            value, rate = value["array"], positive(value["sampling_rate"], "sampling_rate")
        except (TypeError, KeyError, IndexError) as error:
            wanted = '{"array": ..., "sampling_rate": ...} (or an array, and Columns(sampling_rate=...))'
            raise refuse(columns.audio, value, wanted) from error
    return read_audio(value, columns.audio), rate


def _number(row: Mapping[str, Any], named: str | float | None, what: str) -> float:
    return positive(row[named] if isinstance(named, str) else named, f"{what}={named!r}")


def _check_together(sample: Sample) -> None:
    if sample.boxes is not None or sample.masks or sample.phrases:
        canvas(sample)
    for name, value in sample.per_box.items():
        if sample.boxes is not None and len(value) != len(sample.boxes):
            raise ValueError(
                f"column {name!r} holds {len(value)} entries for {len(sample.boxes)} boxes: one each, please"
            )
    for phrase in sample.phrases:
        if not any(has_phrase(caption, phrase.text) for caption in sample.all_captions()):
            raise ValueError(
                f"the phrase {phrase.text!r} does not occur in {sample.all_captions()}: give it as the caption has it"
            )


def _boxes_like(sample: Sample, original: Any) -> Any:
    boxes = sample.boxes
    if boxes is None or not hasattr(original, "canvas_size"):
        return like(boxes, original) if boxes is not None else original
    return tv_tensors().wrap(boxes, like=original, canvas_size=canvas(sample))
