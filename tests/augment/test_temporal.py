"""Cuts in time take the same seconds of everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_mixup.augment import (
    Sample,
    Segment,
    Speed,
    SpeedParams,
    TemporalCrop,
    TemporalCropParams,
)
from tests.augment.common import clip, pil, rng


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


def test_temporal_crop_of_short_rows_and_of_one_modality() -> None:
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
