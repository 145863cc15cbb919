"""Faster and slower: frames, audio and timed text together, with or without the pitch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .base import Sample, Transform
from .keys import integer

_FINEST = 1000  # the largest denominator of a factor when audio is resampled


@dataclass(frozen=True)
class SpeedParams:
    """How many times as fast the row gets; 1 changes nothing.

    >>> sample = Sample(audio=np.zeros(1000), sampling_rate=1000)
    >>> Speed([0.5]).draw(sample, torch.Generator().manual_seed(0))
    SpeedParams(factor=0.5)
    """

    factor: float = 1.0


class Speed(Transform[SpeedParams]):
    """Play a row faster or slower: frames and audio are resampled, timed text keeps up. The pitch changes, as on tape.

    The frame rate and the sampling rate stay as they were, so that twice the speed leaves half the frames and samples.
    Each new frame is the old one shown at its middle. Audio is resampled by `scipy.signal.resample_poly`.

    Source: Ko et al., "Audio Augmentation for Speech Recognition", 2015, section 2.1.

    Args:
        factors: one of these is drawn, each above 0; 2 is twice as fast. Resampling takes them to the nearest fraction
            with a denominator up to 1000.

    Raises:
        ValueError: no factor, or one that is not above 0.001 and below 1000.

    >>> sample = Sample(audio=np.zeros(1600), sampling_rate=1600, frames=torch.arange(8).view(8, 1, 1, 1), fps=8)
    >>> fast = Speed().apply(sample, SpeedParams(2.0))
    >>> fast.audio.shape, fast.frames.flatten()
    ((800,), tensor([1, 3, 5, 7]))
    """

    needs: ClassVar[tuple[str, ...]] = ("audio", "video", "timed_text")

    def __init__(self, factors: Sequence[float] = (0.9, 1.0, 1.1)) -> None:
        name = type(self).__name__
        if not factors:
            raise ValueError(f"{name}(factors={factors}): name at least one")
        for factor in factors:
            if not 1 / _FINEST < factor < _FINEST:
                raise ValueError(f"{name}(factors={factors}): {factor} must lie between {1 / _FINEST} and {_FINEST}")
        self.factors = tuple(factors)

    def draw(self, sample: Sample, generator: torch.Generator) -> SpeedParams:
        """Draw one of the factors."""
        return SpeedParams(self.factors[integer(len(self.factors), generator)])

    def apply(self, sample: Sample, params: SpeedParams) -> Sample:
        """Change the speed of everything that has a time."""
        factor = params.factor
        if factor == 1:
            return sample
        parts = (replace(part, start=part.start / factor, end=part.end / factor) for part in sample.timed_text)
        audio, frames = sample.audio, sample.frames
        if audio is not None:
            audio = _as_floats(audio, lambda floats: self._audio(floats, factor))
        if frames is not None:
            frames = _frames(frames, factor)
        return replace(sample, audio=audio, frames=frames, timed_text=tuple(parts))

    def _audio(self, audio: np.ndarray, factor: float) -> np.ndarray:
        from scipy.signal import resample_poly

        ratio = Fraction(factor).limit_denominator(_FINEST)
        return resample_poly(audio, ratio.denominator, ratio.numerator, axis=-1)


class TimeStretch(Speed):
    """Play a row faster or slower with its pitch kept, by librosa's phase vocoder. Otherwise as `Speed`.

    Raises:
        ImportError: there is audio to stretch, and librosa is not installed.

    >>> stretch = TimeStretch(factors=[0.8, 1.25])
    >>> stretch.apply(Sample(frames=torch.zeros(10, 3, 2, 2), fps=5), SpeedParams(1.25)).frames.shape
    torch.Size([8, 3, 2, 2])
    """

    def _audio(self, audio: np.ndarray, factor: float) -> np.ndarray:
        try:
            from librosa.effects import time_stretch
        except ImportError as error:
            message = 'TimeStretch needs librosa for audio: pip install "hf-mixup[audio]", or use Speed'
            raise ImportError(message) from error
        return time_stretch(audio, rate=factor)


def _frames(frames: Any, factor: float) -> Any:
    count = max(1, round(len(frames) / factor))
    shown = [min(len(frames) - 1, int((position + 0.5) * factor)) for position in range(count)]
    return frames[shown] if isinstance(frames, Tensor) else [frames[position] for position in shown]


def _as_floats(audio: np.ndarray, function: Any) -> np.ndarray:
    """Apply a function of floating-point audio to audio of any type, which is returned."""
    if audio.dtype.kind == "f":
        return function(audio).astype(audio.dtype)
    limits = np.iinfo(audio.dtype)
    return function(audio.astype(np.float64)).round().clip(limits.min, limits.max).astype(audio.dtype)
