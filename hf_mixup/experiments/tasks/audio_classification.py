"""Audio clips -> classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import AUDIO, register
from hf_mixup.experiments.tasks.shared import Cached, Classified
from hf_mixup.utils.values import check_above, check_whole, setting

if TYPE_CHECKING:
    from datasets import Dataset


@register
@dataclass(kw_only=True)
class AudioClassification(Cached, Classified):
    """One class an audio clip.

    >>> AudioClassification(model_type="hubert", audio_rate=8000).dataset
    'instruments'
    """

    task: str = AUDIO
    dataset: str = setting("instruments", "Dataset: a Hub name, a folder, a CSV, JSON or Parquet file, or instruments.")
    audio_column: str = setting("audio", "Column with the audio clips.")
    audio_rate: int | None = setting(None, "Samples a second for a new model (default: that of its feature extractor).")
    max_seconds: float = setting(10.0, "Longer audio clips are cut to this.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("audio_rate", self.audio_rate)
        check_above("max_seconds", self.max_seconds)

    @property
    def input_column(self) -> str:
        return self.audio_column

    @property
    def columns(self) -> dict[str, str]:
        return {"input": self.audio_column, **super().columns}

    def bundled(self) -> Any:
        from hf_mixup.data import load_instruments

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

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.audio import load_audio_model

        return load_audio_model(self, label_names)

    def drawing(self) -> Any:
        from hf_mixup.experiments.tasks.drawings import draw_audio

        return draw_audio

    def for_checkpoint(self, checkpoint: str, **unset: Any) -> Any:
        return super().for_checkpoint(checkpoint, audio_rate=None, **unset)
