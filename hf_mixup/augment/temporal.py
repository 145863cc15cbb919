"""The cut in time: the same seconds of frames, audio and timed text."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from .base import Sample, Segment, Transform
from .keys import integer, uniform


@dataclass(frozen=True)
class TemporalCropParams:
    """The seconds that stay; by default all.

    >>> sample = Sample(frames=torch.zeros(40, 3, 2, 2), fps=10.0)
    >>> TemporalCrop(1.5).draw(sample, torch.Generator().manual_seed(0)).seconds
    1.5
    """

    start: float = 0.0
    seconds: float = math.inf


class TemporalCrop(Transform[TemporalCropParams]):
    """Cut the same random seconds out of frames, audio and timed text; times then count from the cut.

    With frames, the cut is a whole number of them, so that audio and frames stay in step: ``seconds`` is rounded to
    that. Words on the edge are kept, with their times clipped. A row that is not longer stays whole. Captions stay.

    Args:
        seconds: length of the cut, above 0.

    Raises:
        ValueError: seconds is not above 0.

    >>> sample = Sample(frames=torch.zeros(40, 3, 2, 2), fps=10.0, timed_text=(Segment({}, "hello", 1.5, 2.5),))
    >>> cut = TemporalCrop(1.0).apply(sample, TemporalCropParams(start=2.0, seconds=1.0))
    >>> len(cut.frames), cut.timed_text[0].start, cut.timed_text[0].end
    (10, 0.0, 0.5)
    """

    needs: ClassVar[tuple[str, ...]] = ("audio", "video", "timed_text")

    def __init__(self, seconds: float) -> None:
        if not 0 < seconds < math.inf:
            raise ValueError(f"TemporalCrop(seconds={seconds}): must be above 0")
        self.seconds = seconds

    def draw(self, sample: Sample, generator: torch.Generator) -> TemporalCropParams:
        """Draw the start, on a frame where there are frames."""
        length = _duration(sample)
        if length <= self.seconds:
            return TemporalCropParams()
        if sample.frames is None:
            return TemporalCropParams(uniform(0, length - self.seconds, generator), self.seconds)
        stay = max(1, round(self.seconds * sample.fps))
        fit = math.floor(length * sample.fps + 1e-6)
        start = integer(max(0, fit - stay) + 1, generator)
        return TemporalCropParams(start / sample.fps, stay / sample.fps)

    def apply(self, sample: Sample, params: TemporalCropParams) -> Sample:
        """Keep these seconds of everything."""
        if params == TemporalCropParams():
            return sample
        audio, frames = sample.audio, sample.frames
        if audio is not None:
            audio = audio[..., _span(params, sample.sampling_rate)]
        if frames is not None:
            frames = frames[_span(params, sample.fps)]
        moved = (_clip(part, params) for part in sample.timed_text)
        return replace(sample, audio=audio, frames=frames, timed_text=tuple(part for part in moved if part is not None))


def _duration(sample: Sample) -> float:
    """How many seconds all of frames and audio last; timed text tells only where there is neither."""
    lengths = []
    if sample.frames is not None:
        lengths.append(len(sample.frames) / sample.fps)
    if sample.audio is not None:
        lengths.append(sample.audio.shape[-1] / sample.sampling_rate)
    return min(lengths) if lengths else max((part.end for part in sample.timed_text), default=0.0)


def _span(params: TemporalCropParams, rate: float) -> slice:
    start = round(params.start * rate)
    return slice(start, None if params.seconds == math.inf else start + max(1, round(params.seconds * rate)))


def _clip(part: Segment, params: TemporalCropParams) -> Segment | None:
    """The part of a segment within the cut; None if there is none. A moment without length may be in it."""
    stop = params.start + params.seconds
    start, end = max(part.start, params.start), min(part.end, stop)
    if start > end or (start == end and not part.start == part.end < stop):
        return None
    return replace(part, start=start - params.start, end=end - params.start)
