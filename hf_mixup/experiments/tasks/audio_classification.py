"""Audio clips -> classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mixup.data import load_instruments
from hf_mixup.experiments.tasks.arguments import AUDIO, register
from hf_mixup.experiments.tasks.bases import MediaClassification
from hf_mixup.experiments.tasks.shared import WithAudio
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset


@register
@dataclass(kw_only=True)
class AudioClassification(WithAudio, MediaClassification):
    """One class an audio clip."""

    task: str = AUDIO
    dataset: str = setting("instruments", "Dataset: a Hub name, a folder, a CSV, JSON or Parquet file, or instruments.")
    auto_class = "AutoModelForAudioClassification"
    input_setting = "audio_column"
    preview_kind = "audio"

    def bundled(self) -> Any:
        return {"instruments": load_instruments}

    def read_folder(self, path: Path) -> Any:
        from hf_mixup.experiments.tasks.columns import audio_folder

        return audio_folder(path, self.audio_column, self.label_column)

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_audio

        return read_audio(rows, split, self.dataset, self.audio_column)

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.audio import load_feature_extractor

        return load_feature_extractor(self)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.audio import AudioRows

        return AudioRows(rows, processor, self)

    def collator(self, processor: Any) -> Any:
        from hf_mixup.experiments.tasks.audio import AudioCollator

        return AudioCollator(processor)
