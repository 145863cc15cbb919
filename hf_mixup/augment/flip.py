"""The mirror: left becomes right in images, boxes, masks, stereo audio and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from .base import Phrase, Sample, Transform, flatten, map_each
from .keys import uniform
from .phrases import has_phrase
from .pixels import canvas, flip_boxes, functional
from .words import mirror_words


@dataclass(frozen=True)
class FlipParams:
    """Whether the row is mirrored.

    >>> Flip(p=1.0).draw(Sample({"image": torch.zeros(3, 2, 2)}), torch.Generator().manual_seed(0))
    FlipParams(flipped=True)
    """

    flipped: bool


@dataclass
class Flip(Transform[FlipParams]):
    """Mirror a row with probability p: pixels, masks, boxes, the directions in its words, its two channels of audio.

    A row is left as it is where its audio speaks of left or right, which no mirror can turn: where it has both audio
    and timed text, and the text names a direction. Writing seen in an image does come out mirrored.

    Args:
        p: probability in [0, 1].
        skip: phrases that stay though they hold "left" or "right", beyond those `mirror_words` knows.
        stereo: the two images of a row are what a left and a right eye see. A mirror swaps them as well. Without it,
            several images keep their order.

    Raises:
        ValueError: p outside [0, 1]; with ``stereo``, a row that has not two images, or has masks or boxes, of which
            nobody says whose they are.

    >>> sample = Sample({"image": torch.tensor([[[1, 2, 3]]])}, captions={"caption": "the left of a bright room"})
    >>> mirrored = Flip().apply(sample, FlipParams(flipped=True))
    >>> mirrored.images["image"], mirrored.all_captions()
    (tensor([[[3, 2, 1]]]), ['the right of a bright room'])
    """

    needs: ClassVar[tuple[str, ...]] = ("image", "video")

    p: float = 0.5
    skip: Sequence[str] = ()
    stereo: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"Flip(p={self.p}): p must lie in [0, 1]")
        if isinstance(self.skip, str):
            raise ValueError(f"Flip(skip={self.skip!r}): skip must be a list of phrases, as [{self.skip!r}]")

    def draw(self, sample: Sample, generator: torch.Generator) -> FlipParams:
        """Toss the coin."""
        flipped = uniform(0, 1, generator) < self.p
        spoken = [] if sample.audio is None else [part.text for part in sample.timed_text]
        return FlipParams(flipped and not any(mirror_words(text, self.skip) != text for text in spoken))

    def apply(self, sample: Sample, params: FlipParams) -> Sample:
        """Mirror everything, or nothing."""
        if not params.flipped:
            return sample
        if sample.boxes is not None or sample.phrases:
            size = canvas(sample)
            sample = sample.map_boxes(lambda boxes: flip_boxes(boxes, size))
        if sample.all_images():
            sample = sample.map_images(lambda image: functional().horizontal_flip(image), masks=True)
        if self.stereo and sample.images:
            sample = _swap_eyes(sample)
        return self._mirror_words(_swap_channels(sample))

    def _mirror_words(self, sample: Sample) -> Sample:
        def mirror(text: str) -> str:
            return mirror_words(text, self.skip)

        mirrored = sample.map_captions(mirror)
        captions = mirrored.all_captions()

        def follow(phrase: Phrase) -> Phrase:
            """A phrase stays where its caption did: "left shoes" in "has left shoes behind"."""
            text = mirror(phrase.text)
            return replace(phrase, text=text) if any(has_phrase(caption, text) for caption in captions) else phrase

        timed_text = (replace(part, text=mirror(part.text)) for part in sample.timed_text)
        return replace(mirrored, phrases=tuple(map(follow, sample.phrases)), timed_text=tuple(timed_text))


def _swap_channels(sample: Sample) -> Sample:
    """What was heard on the left comes from the right: only [2, T] has sides."""
    if sample.audio is None or sample.audio.ndim != 2 or len(sample.audio) != 2:
        return sample
    return replace(sample, audio=sample.audio[::-1].copy())


def _swap_eyes(sample: Sample) -> Sample:
    images = flatten(sample.images)
    if len(images) != 2:
        raise ValueError(
            f"Flip(stereo=True) needs two images in a row, the left eye's and the right eye's, not {len(images)}"
        )
    if sample.masks or sample.boxes is not None or sample.phrases:
        raise ValueError("Flip(stereo=True) cannot tell which eye masks and boxes belong to: leave them out of Columns")
    other = reversed(images)
    return replace(sample, images=map_each(sample.images, lambda _: next(other)))
