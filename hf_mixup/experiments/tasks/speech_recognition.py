"""Speech -> its transcript."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mixup.data import load_spoken_numbers
from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.shared import Transcribed
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared, Splits


@register
@dataclass(kw_only=True)
class SpeechRecognition(Transcribed):
    """A transcript a recording, by a model that learns by CTC (wav2vec2, ...) or by an encoder-decoder (whisper).

    Audio is brought to the rate that the model takes. A new model, and a checkpoint without a tokenizer, gets one of
    the characters of the transcripts, those of the tests, too: references must be spelled with them.
    """

    task: str = "speech-recognition"
    hub_task = "automatic-speech-recognition"
    dataset: str = setting(
        "spoken_numbers", "Dataset: a Hub name, a folder, a CSV, JSON or Parquet file, or spoken_numbers."
    )
    preview_kind = "speech"
    preview_rows = 16

    @property
    def smooths(self) -> bool:
        from hf_mixup.experiments.tasks.speech import BY_DECODER, config_of

        return config_of(self).model_type in BY_DECODER

    @property
    def columns(self) -> dict[str, str]:
        return {"audio": self.audio_column, "text": self.text_column}

    def bundled(self) -> Any:
        return {"spoken_numbers": load_spoken_numbers}

    def read_folder(self, path: Path) -> Any:
        from hf_mixup.experiments.tasks.columns import speech_folder

        return speech_folder(path, self.audio_column)

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_audio, read_transcripts

        rows = read_transcripts(rows, split, self.dataset, self.text_column)
        return read_audio(rows, split, self.dataset, self.audio_column)

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.speech import load_speech_processor

        return load_speech_processor(self, train[self.text_column][:])

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.speech import SpeechRows

        return SpeechRows(rows, processor, self)

    def collator(self, processor: Any) -> Any:
        from hf_mixup.experiments.tasks.speech import SpeechCollator

        return SpeechCollator(processor.feature_extractor)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.speech import load_speech_model

        return load_speech_model(self, processor)

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.report.score_sums import transcript_sums
        from hf_mixup.experiments.tasks.speech import SpeechCollator, check_frames
        from hf_mixup.experiments.tasks.transcribing import SpeechTrainer
        from hf_mixup.metrics import speech_metrics
        from hf_mixup.metrics.results import SPEECH_METRICS

        made = self.prepared_with(self.load_processor(splits.rows), splits)
        tokenizer, collator = made.processing_class.tokenizer, SpeechCollator(made.processing_class.feature_extractor)

        def build_model() -> Any:
            model = collator.model = made.build_model()
            check_frames(model, made.train, collator)
            return model

        return replace(
            made,
            collator=collator,
            build_model=build_model,
            trainer_class=SpeechTrainer,
            compute_metrics=partial(speech_metrics, tokenizer=tokenizer),
            metrics=SPEECH_METRICS,
            select_by="wer",
            classified=None,
            rows=partial(transcript_sums, tokenizer=tokenizer),
        )
