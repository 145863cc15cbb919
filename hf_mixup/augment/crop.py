"""The crop: what lies outside the window leaves the image, the boxes and the caption."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import Phrase, Sample, Transform
from .keys import integer, uniform
from .phrases import drop_phrase, has_phrase, has_words
from .pixels import area, canvas, crop_boxes, functional

_TRIES = 10


@dataclass(frozen=True)
class CropParams:
    """The window that stays, in pixels.

    >>> CropParams(top=0, left=5, height=8, width=4).window
    (0, 5, 8, 4)
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def window(self) -> tuple[int, int, int, int]:
        """(top, left, height, width), as torchvision wants it."""
        return self.top, self.left, self.height, self.width


@dataclass
class Crop(Transform[CropParams]):
    """Crop a row to a random window: images and masks, boxes (moved and clipped), and phrases of the caption.

    A box of which less than ``min_visible`` is seen is removed, with its entries in the columns ``per_box``; so are the
    phrases that it shows, from the caption together with the comma or "and" that joined them. A window is drawn anew if
    a caption would lose all its phrases, or a phrase would be seen in part of its boxes only, or a phrase that goes is
    part of one that stays. After ten of these, the image stays whole: no caption ever gets empty. What the caption
    names outside of its phrases is not known, and stays; so does "on the left" of what is seen, though it may be in the
    middle now. Images are not resized: the processor does that.

    Source: the window is drawn as in Szegedy et al., "Going deeper with convolutions", 2014,
    https://arxiv.org/abs/1409.4842, section 6, and torchvision's RandomResizedCrop.

    Args:
        scale: share of the image's area that stays, drawn uniformly between two numbers in (0, 1].
        ratio: width / height of the window, drawn log-uniformly between two numbers above 0.
        min_visible: share of a box's area in [0, 1] that must be seen for it to stay.

    Raises:
        ValueError: numbers out of range; images of one row that differ in size.

    >>> dog, cat = torch.tensor([0, 0, 4, 4]), torch.tensor([6, 0, 9, 4])
    >>> phrases = Phrase({}, "a dog", box=dog), Phrase({}, "a cat", box=cat)
    >>> sample = Sample({"image": torch.zeros(3, 8, 10)}, captions={"caption": "A dog and a cat"}, phrases=phrases)
    >>> cropped = Crop().apply(sample, CropParams(top=0, left=5, height=8, width=5))
    >>> cropped.all_captions(), cropped.phrases[0].box
    (['A cat'], tensor([1, 0, 4, 4]))
    """

    needs: ClassVar[tuple[str, ...]] = ("image", "video")

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    min_visible: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"Crop(scale={self.scale}): needs 0 < low <= high <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"Crop(ratio={self.ratio}): needs 0 < low <= high")
        if not 0 <= self.min_visible <= 1:
            raise ValueError(f"Crop(min_visible={self.min_visible}): must lie in [0, 1]")

    def draw(self, sample: Sample, generator: torch.Generator) -> CropParams:
        """Draw a window that leaves the captions true, or the whole image if none of ten does."""
        if not sample.all_images():
            return CropParams(0, 0, 0, 0)
        height, width = canvas(sample)
        for _ in range(_TRIES):
            params = self._window(height, width, generator)
            if params is not None and self._leaves_captions_true(sample, params):
                return params
        return CropParams(0, 0, height, width)

    def _window(self, height: int, width: int, generator: torch.Generator) -> CropParams | None:
        """Draw one window, None if it does not fit."""
        space = height * width * uniform(*self.scale, generator)
        shape = math.exp(uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), generator))
        wide, high = max(1, round(math.sqrt(space * shape))), max(1, round(math.sqrt(space / shape)))
        if wide > width or high > height:
            return None
        return CropParams(integer(height - high + 1, generator), integer(width - wide + 1, generator), high, wide)

    def _leaves_captions_true(self, sample: Sample, params: CropParams) -> bool:
        kept, gone = self._split(sample, params)
        if any(has_phrase(stays, goes) for stays in kept for goes in gone):
            return False
        for caption in sample.all_captions():
            shorter = _drop(caption, gone)
            if shorter != caption and not (has_words(shorter) and any(has_phrase(shorter, text) for text in kept)):
                return False
        return True

    def _split(self, sample: Sample, params: CropParams) -> tuple[list[str], list[str]]:
        """The texts of phrases that are seen, and of those that are not."""
        seen = self._seen(_phrase_boxes(sample), canvas(sample), params).tolist()
        kept = [phrase.text for phrase, stays in zip(sample.phrases, seen) if stays]
        return kept, [phrase.text for phrase, stays in zip(sample.phrases, seen) if not stays]

    def _seen(self, boxes: Tensor, size: tuple[int, int], params: CropParams) -> Tensor:
        """Which boxes [N] are seen well enough. A box without any area never is."""
        if not len(boxes):
            return torch.zeros(0, dtype=torch.bool)
        boxes = boxes.double()  # one precision, whatever the boxes come in
        inside = area(crop_boxes(boxes, size, params.window))
        return (inside > 0) & (inside >= self.min_visible * area(boxes))

    def apply(self, sample: Sample, params: CropParams) -> Sample:
        """Crop to the window. What has no images stays."""
        if not sample.all_images() or params.window == (0, 0, *canvas(sample)):
            return sample
        size = canvas(sample)
        _, gone = self._split(sample, params)
        sample = self._drop_boxes(sample, size, params)
        sample = sample.map_boxes(lambda boxes: crop_boxes(boxes, size, params.window))
        sample = sample.map_images(lambda image: functional().crop(image, *params.window), masks=True)
        return sample.map_captions(lambda caption: _drop(caption, gone))

    def _drop_boxes(self, sample: Sample, size: tuple[int, int], params: CropParams) -> Sample:
        seen = self._seen(_phrase_boxes(sample), size, params).tolist()
        phrases = [phrase for phrase, stays in zip(sample.phrases, seen) if stays]
        if sample.boxes is None:
            return replace(sample, phrases=tuple(phrases))
        keep = self._seen(sample.boxes, size, params).nonzero().flatten().tolist()
        return replace(
            sample,
            boxes=sample.boxes[keep],
            per_box={name: _pick(value, keep) for name, value in sample.per_box.items()},
            phrases=tuple(_renumber(phrase, keep) for phrase in phrases),
        )


def _drop(caption: str, phrases: list[str]) -> str:
    for phrase in sorted(phrases, key=len, reverse=True):  # the longer one may hold the shorter one
        caption = drop_phrase(caption, phrase)
    return caption


def _phrase_boxes(sample: Sample) -> Tensor:
    """The box of each phrase, [P, 4]."""
    rows = [
        phrase.box if sample.boxes is None or phrase.box is not None else sample.boxes[phrase.index]
        for phrase in sample.phrases
    ]
    return torch.stack([row.double() for row in rows if row is not None]) if rows else torch.zeros(0, 4)


def _renumber(phrase: Phrase, keep: list[int]) -> Phrase:
    return phrase if phrase.index is None else replace(phrase, index=keep.index(phrase.index))


def _pick(values: Any, keep: list[int]) -> Any:
    return [values[position] for position in keep] if isinstance(values, (list, tuple)) else values[keep]
