"""Audio clips: feature extractor, and rows of features that are extracted once."""

from __future__ import annotations

import inspect
import io
from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np
import torch
from datasets import Dataset as Rows
from torch import Tensor
from transformers import (
    FEATURE_EXTRACTOR_MAPPING,
    AutoFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    default_data_collator,
)

from hf_mixup.experiments.tasks.cached import CachedRows
from hf_mixup.experiments.tasks.models import new_config
from hf_mixup.experiments.tasks.shared import WithAudio
from hf_mixup.utils.suggest import require

# Where the table of transformers names one that makes waveforms, and the model takes spectrograms.
_EXTRACTORS = {"wav2vec2-bert": SeamlessM4TFeatureExtractor}


def load_feature_extractor(task: WithAudio, **settings: Any) -> Any:
    """Return the checkpoint's feature extractor, or that of a new model's architecture.

    That of a new model is also given those settings of `config_overrides` that it has, such as `num_mel_bins` and
    `max_length` of an AST.

    Args:
        settings: further ones for that of a new model.

    Raises:
        ValueError: if the task names no model, one that takes no audio clips, or an `audio_rate` beside a checkpoint.
        OSError: for a checkpoint that has none.
    """
    if task.model is not None:
        if task.audio_rate is not None:
            raise ValueError(f"audio_rate is for a new model: {task.model} has a rate of its own")
        extractor = AutoFeatureExtractor.from_pretrained(task.model)
        if not hasattr(extractor, "sampling_rate"):
            raise ValueError(f"model={task.model!r} takes no audio clips: its feature extractor has no sampling_rate")
        return extractor
    if task.model_type is None:
        raise ValueError("name a checkpoint (model) or the architecture of a new one (model_type)")
    plain = new_config(replace(task, config_overrides=None))
    kind: Any = _EXTRACTORS.get(plain.model_type) or FEATURE_EXTRACTOR_MAPPING.get(type(plain), None)
    if kind is None or "sampling_rate" not in inspect.signature(kind).parameters:
        raise ValueError(f"model_type={task.model_type!r} takes no audio: audio-spectrogram-transformer and hubert do")
    known = inspect.signature(kind).parameters
    shared = settings | {name: value for name, value in task.overrides.items() if name in known}
    if task.audio_rate is not None:
        shared["sampling_rate"] = task.audio_rate
    if getattr(new_config(task), "feat_extract_norm", None) == "layer":  # such models see where an audio clip ends
        shared["return_attention_mask"] = True
    return kind(**shared)


def decoded(audio: Any, rate: int, where: str) -> np.ndarray:
    """Return an audio clip as float32 [T], one channel, `rate` samples a second.

    Args:
        audio: a mapping with the `bytes` of a file or its `path`, as `datasets.Audio(decode=False)` gives them.
        where: what errors call the row.

    Raises:
        ValueError: for an audio clip that is missing, empty or cannot be read.
        ImportError: if soundfile is not installed.

    >>> from hf_mixup.data import load_instruments
    >>> decoded(load_instruments()["train"][0]["audio"], 16000, "row 0").shape  # half a second
    (8000,)
    """
    require("reading audio clips needs", "soundfile", "audio")
    import soundfile

    if not isinstance(audio, dict) or not (audio.get("bytes") or audio.get("path")):
        raise ValueError(f"{where}: no audio, found {type(audio).__name__}")
    file = io.BytesIO(audio["bytes"]) if audio.get("bytes") else audio["path"]
    try:
        values, own_rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{where}: the audio {audio.get('path') or ''} cannot be read: {error}") from error
    if not len(values):
        raise ValueError(f"{where}: the audio {audio.get('path') or ''} is empty")
    return resampled(values.mean(axis=1), own_rate, rate)


def resampled(values: np.ndarray, own_rate: int, rate: int) -> np.ndarray:
    """Return an audio clip [T] at another rate."""
    if own_rate == rate:
        return values
    from scipy.signal import resample_poly

    common = gcd(own_rate, rate)
    return resample_poly(values, rate // common, own_rate // common).astype(np.float32)


class AudioRows(CachedRows):
    """Samples of features (`input_values` or `input_features`, what the extractor makes) and integer `labels`.

    Audio clips longer than `task.max_seconds` are cut. They are extracted as `CachedRows` says.

    Raises:
        ValueError: (at the first use) for an audio clip that cannot be read, naming its row.
    """

    chunk = 64

    def __init__(self, rows: Rows, extractor: Any, task: WithAudio) -> None:
        super().__init__(rows, extractor, task)
        self.audio_column, self.max_seconds = task.audio_column, task.max_seconds

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self._item(index), "labels": self.labels[index]}

    def waveform(self, index: int) -> np.ndarray:
        """Return one audio clip as the feature extractor is given it, float32 [T]."""
        return self._waveforms(index, index + 1)[0]

    def _waveforms(self, start: int, stop: int) -> list[np.ndarray]:
        longest = round(self.max_seconds * self.processor.sampling_rate)
        return [audio[:longest] for audio in self._whole_waveforms(start, stop)]

    def _whole_waveforms(self, start: int, stop: int) -> list[np.ndarray]:
        clips = self.rows[start:stop][self.audio_column]
        rate = self.processor.sampling_rate
        return [decoded(audio, rate, f"row {row}") for row, audio in enumerate(clips, start)]

    def _processed(self, start: int, stop: int) -> list[dict[str, Tensor]]:
        made = []
        for audio in self._waveforms(start, stop):  # one by one, so that none is padded to the length of another
            features = self.processor(audio, sampling_rate=self.processor.sampling_rate, return_tensors="pt")
            made.append({name: value[0] for name, value in features.items()})
        return made


class AudioCollator:
    """Make a batch of `AudioRows`; audio clips of different length are padded as the extractor pads them.

    >>> from transformers import Wav2Vec2FeatureExtractor
    >>> collator = AudioCollator(Wav2Vec2FeatureExtractor(return_attention_mask=True))
    >>> rows = [{"input_values": torch.ones(length), "labels": 0} for length in (2, 3)]
    >>> collator(rows)["attention_mask"].tolist()
    [[1, 1, 0], [1, 1, 1]]
    """

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch, with `labels`."""
        features = [{name: value for name, value in row.items() if name != "labels"} for row in rows]
        key = self.extractor.model_input_names[0]
        if len({row[key].shape for row in features}) == 1:
            return default_data_collator(rows)
        padded = self.extractor.pad(features, padding=True, return_tensors="pt")
        return {**padded, "labels": torch.tensor([row["labels"] for row in rows])}
