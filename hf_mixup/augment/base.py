"""What the transforms work on, a sample with all it holds, and what each of them is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

P = TypeVar("P")

_MODALITIES = (
    ("images", "frames", "fps", "masks", "boxes", "per_box", "phrases"),
    ("captions",),
    ("audio", "sampling_rate"),
    ("timed_text",),
)


@dataclass(frozen=True)
class Phrase:
    """Words of the caption and where they are seen: at a position in the boxes, or in a box [4] of their own.

    `entry` is that of the column it was read from, whose other fields are kept when it is written back.

    >>> phrase = Phrase({"text": "a cat", "box": 1}, "a cat", index=1)
    >>> Sample(captions={"caption": "a dog and a cat"}, phrases=(phrase,)).texts()
    ['a dog and a cat', 'a cat']
    """

    entry: Mapping[str, Any]
    text: str
    index: int | None = None
    box: Tensor | None = None


@dataclass(frozen=True)
class Segment:
    """Words, and when they are said, in seconds; `entry` as in `Phrase`.

    >>> Sample(timed_text=(Segment({}, "hello", start=0.5, end=1.0),)).texts()
    ['hello']
    """

    entry: Mapping[str, Any]
    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Sample:
    """The content of a row by modality; None or empty for what it does not have. Nothing in it is ever modified.

    Args:
        images, masks, captions, per_box: column name -> the row's value, a single one or a list.
        boxes: [N, 4] as (left, top, right, bottom) in pixels.
        audio: array [..., T] at ``sampling_rate`` hertz.
        frames: a list of images, or a tensor [T, C, H, W], at ``fps`` a second.

    >>> Sample(captions={"caption": "a cat"}).texts()
    ['a cat']
    """

    images: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, Any] = field(default_factory=dict)
    captions: Mapping[str, Any] = field(default_factory=dict)
    per_box: Mapping[str, Any] = field(default_factory=dict)
    boxes: Tensor | None = None
    phrases: tuple[Phrase, ...] = ()
    audio: np.ndarray | None = None
    sampling_rate: float = 0.0
    frames: Any = None
    fps: float = 0.0
    timed_text: tuple[Segment, ...] = ()

    def all_images(self) -> list[Any]:
        """Return all images and frames; a tensor may hold several."""
        return flatten(self.images) + ([] if self.frames is None else flatten({"": self.frames}))

    def all_captions(self) -> list[str]:
        """Return the captions of all columns."""
        return flatten(self.captions)

    def texts(self) -> list[str]:
        """Return every text that speaks of the sample."""
        spoken = [part.text for part in self.timed_text]
        return self.all_captions() + [phrase.text for phrase in self.phrases] + spoken

    def map_images(self, function: Callable[[Any], Any], masks: bool) -> Sample:
        """Change every image and frame alike, and the masks too if so wished."""
        return replace(
            self,
            images=map_each(self.images, function),
            frames=None if self.frames is None else map_each({"": self.frames}, function)[""],
            masks=map_each(self.masks, function) if masks else self.masks,
        )

    def map_boxes(self, function: Callable[[Tensor], Tensor]) -> Sample:
        """Change the boxes [N, 4], and those that phrases have of their own."""
        phrases = (
            phrase if phrase.box is None else replace(phrase, box=function(phrase.box[None])[0])
            for phrase in self.phrases
        )
        return replace(self, boxes=None if self.boxes is None else function(self.boxes), phrases=tuple(phrases))

    def map_captions(self, function: Callable[[str], str]) -> Sample:
        """Change every caption."""
        return replace(self, captions=map_each(self.captions, function))

    def alone(self) -> list[tuple[Sample, tuple[str, ...]]]:
        """Return each modality as if the row had no other, with the names of its fields."""
        return [(Sample(**{name: getattr(self, name) for name in names}), names) for names in _MODALITIES]


class Transform(ABC, Generic[P]):
    """A step of `SynchronizedAugmentation`. Subclass it to add one: `draw` may be random, `apply` must not be.

    `needs` names fields of `Columns`; a row must have one of them, or the step would silently do nothing.

    >>> class Upper(Transform[None]):
    ...     needs = ("caption",)
    ...     def draw(self, sample, generator):
    ...         return None
    ...     def apply(self, sample, params):
    ...         return sample.map_captions(str.upper)
    >>> Upper().apply(Sample(captions={"caption": "a cat"}), None).all_captions()
    ['A CAT']
    """

    needs: ClassVar[tuple[str, ...]]

    @abstractmethod
    def draw(self, sample: Sample, generator: torch.Generator) -> P:
        """Draw the parameters for a row, from the generator only."""

    @abstractmethod
    def apply(self, sample: Sample, params: P) -> Sample:
        """Return the row with the parameters applied to all that it holds."""


def map_each(values: Mapping[str, Any], function: Callable[[Any], Any]) -> dict[str, Any]:
    """Apply a function to each value, or to each entry where the value is a list."""
    return {
        name: [function(entry) for entry in value] if isinstance(value, list) else function(value)
        for name, value in values.items()
    }


def flatten(values: Mapping[str, Any]) -> list[Any]:
    """Return all values, and the entries of those that are lists, in one list."""
    return [entry for value in values.values() for entry in (value if isinstance(value, list) else [value])]
