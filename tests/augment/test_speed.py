"""Faster and slower: frames, audio and timed text stay in step."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from hf_mixup.augment import (
    Sample,
    Speed,
    SpeedParams,
    TimeStretch,
)
from tests.augment.common import clip, rng


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
