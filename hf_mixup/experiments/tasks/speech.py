"""Speech and its transcripts: processor, model and rows, for models that learn by CTC and for encoder-decoders."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset as Rows
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2Processor,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING_NAMES as BY_CTC
from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES as BY_DECODER
from transformers.utils import cached_file

from hf_mixup.experiments.tasks.audio import AudioRows, load_feature_extractor
from hf_mixup.experiments.tasks.models import new_config
from hf_mixup.experiments.tasks.shared import Transcribed
from hf_mixup.experiments.tasks.text import special_tokens
from hf_mixup.experiments.tasks.transcribing import FrameCounts
from hf_mixup.functional.ctc import frames_needed
from hf_mixup.models.batches import DECODER_IDS
from hf_mixup.models.inputs import decoder_inputs
from hf_mixup.utils.constants import IGNORE_INDEX

_PAD, _BEGIN, _END, _UNKNOWN, _SPACE = "<pad>", "<s>", "</s>", "<unk>", "|"
_TRIED = 8  # transcripts for which frames are counted: those with the least to spare


def config_of(task: Transcribed, **settings: Any) -> PretrainedConfig:
    """Return the configuration of a task's model.

    Raises:
        ValueError: for an architecture that does not write what it hears.
    """
    if task.model is None and task.model_type is None:
        raise ValueError("name a checkpoint (model) or the architecture of a new one (model_type)")
    config = new_config(task, **settings) if task.model is None else AutoConfig.from_pretrained(task.model, **settings)
    if config.model_type not in (*BY_CTC, *BY_DECODER):
        raise ValueError(
            f"{task.model or task.model_type} is a {config.model_type}, which writes no transcripts: wav2vec2-bert and "
            "wav2vec2 (by CTC) or whisper (by a decoder) do"
        )
    return config


def load_speech_processor(task: Transcribed, transcripts: list[str]) -> Any:
    """Return the checkpoint's processor; a new model, or a checkpoint without a tokenizer, gets one of characters.

    Args:
        transcripts: whose characters such a tokenizer knows.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> processor = load_speech_processor(TaskArguments(task="speech-recognition", model_type="whisper"), ["a cat"])
    >>> processor.tokenizer.convert_ids_to_tokens(processor.tokenizer("at a")["input_ids"])
    ['a', 't', '|', 'a']
    """
    seconds = {"chunk_length": math.ceil(task.max_seconds)} if config_of(task).model_type == "whisper" else {}
    extractor = load_feature_extractor(task, **seconds)
    if task.model is None or not _has_tokenizer(task.model):
        return Wav2Vec2Processor(extractor, character_tokenizer(transcripts))
    processor = AutoProcessor.from_pretrained(task.model)
    if hasattr(processor, "tokenizer") and hasattr(processor, "feature_extractor"):
        return processor
    return Wav2Vec2Processor(extractor, AutoTokenizer.from_pretrained(task.model))


def _has_tokenizer(model: str) -> bool:
    return cached_file(model, "tokenizer_config.json", _raise_exceptions_for_missing_entries=False) is not None


def character_tokenizer(transcripts: list[str]) -> Wav2Vec2CTCTokenizer:
    """Return a tokenizer of the characters of some transcripts; its padding is the blank of CTC.

    >>> len(character_tokenizer(["ten", "net"]))  # e, n, t and five of its own
    8
    """
    characters = sorted({character for text in transcripts for character in text} - {" ", _SPACE})
    tokens = [_PAD, _BEGIN, _END, _UNKNOWN, _SPACE, *characters]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "vocab.json")
        file.write_text(json.dumps({token: number for number, token in enumerate(tokens)}), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(str(file))


def load_speech_model(task: Transcribed, processor: Any) -> PreTrainedModel:
    """Return the model of a task: by CTC, or an encoder-decoder, as its architecture is.

    A CTC loss is the mean over the samples: a sum would change with the size of a batch.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    >>> sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, **heads}
    >>> task = TaskArguments(task="speech-recognition", model_type="whisper", config_overrides=sizes)
    >>> type(load_speech_model(task, load_speech_processor(task, ["a cat"]))).__name__
    'WhisperForConditionalGeneration'
    """
    if config_of(task).model_type in BY_CTC:
        kind, tokenizer = transformers.AutoModelForCTC, processor.tokenizer
        size = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        dictated = {**size, "ctc_loss_reduction": "mean"}
        if task.model is None:
            return kind.from_config(config_of(task, **dictated))
        return kind.from_pretrained(task.model, ignore_mismatched_sizes=True, **dictated)
    if task.model is not None:
        return transformers.AutoModelForSpeechSeq2Seq.from_pretrained(task.model)
    return _new_encoder_decoder(task, processor)


def _new_encoder_decoder(task: Transcribed, processor: Any) -> PreTrainedModel:
    tokenizer, extractor = processor.tokenizer, processor.feature_extractor
    tokens = special_tokens(tokenizer)
    dictated = {"vocab_size": len(tokenizer), **tokens, "decoder_start_token_id": tokens["bos_token_id"]}
    dictated |= {"max_target_positions": task.max_length + 2, "num_mel_bins": extractor.feature_size}
    dictated |= {"suppress_tokens": None, "begin_suppress_tokens": None}  # numbers of tokens of another vocabulary
    if hasattr(extractor, "nb_max_frames"):
        dictated["max_source_positions"] = extractor.nb_max_frames // 2
    model = transformers.AutoModelForSpeechSeq2Seq.from_config(config_of(task, **dictated))
    model.generation_config.max_length = task.max_length + 1
    return model


class SpeechRows(AudioRows):
    """Samples of features (what the extractor makes) and `labels`, the tokens of the transcript; not yet padded.

    The labels of an encoder-decoder end with its last token, and do not hold the one it begins with.

    Raises:
        ValueError: for a transcript with a character that the tokenizer does not know, or that is too long to be
            written; (at the first use) for audio that cannot be read, or that is longer than `task.max_seconds`.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.data import load_splits
    >>> task = TaskArguments(task="speech-recognition", model_type="wav2vec2-bert", max_train_samples=4)
    >>> rows = load_splits(task).train
    >>> sample = SpeechRows(rows, load_speech_processor(task, rows["text"][:]), task)[0]
    >>> sample["input_features"].shape[1], len(sample["labels"]) == len(rows[0]["text"])
    (160, True)
    """

    def __init__(self, rows: Rows, processor: Any, task: Transcribed) -> None:
        super().__init__(rows, processor.feature_extractor, task)
        held = getattr(self.processor, "chunk_length", None)  # a Whisper's extractor cuts what is longer
        self.max_seconds = min(task.max_seconds, held or task.max_seconds)
        self.texts: list[str] = rows[task.text_column][:]
        config = config_of(task)
        start = getattr(config, "decoder_start_token_id", None) if task.model else None
        writes = config.model_type in BY_DECODER
        tokens = [_tokens(processor.tokenizer, text, row) for row, text in enumerate(self.texts)]
        self.labels: Any = [_to_write(ids, processor.tokenizer, start) for ids in tokens] if writes else tokens
        longest = max(map(len, self.labels))
        if writes and longest > task.max_length:
            text = next(text for text, ids in zip(self.texts, self.labels) if len(ids) == longest)
            raise ValueError(
                f"max_length={task.max_length}: {text[:60]!r} has {longest} tokens: raise it or drop the row"
            )

    def _waveforms(self, start: int, stop: int) -> list[Any]:
        waveforms = self._whole_waveforms(start, stop)
        for row, audio in enumerate(waveforms, start):
            if len(audio) > self.max_seconds * self.processor.sampling_rate:
                seconds = len(audio) / self.processor.sampling_rate
                raise ValueError(
                    f"row {row} lasts {seconds:.1f} s, more than {self.max_seconds:g} s, and its transcript is that of "
                    "all of it: raise max_seconds, if the model hears more, or drop the row"
                )
        return waveforms


def _tokens(tokenizer: Any, text: str, row: int) -> list[int]:
    ids = list(tokenizer(text)["input_ids"])
    if tokenizer.unk_token_id in ids and tokenizer.unk_token_id != tokenizer.eos_token_id:
        known = set(tokenizer.get_vocab())
        unknown = next((character for character in text if character not in known and character != " "), "?")
        raise ValueError(
            f"row {row}: the tokenizer does not know {unknown!r} of {text[:60]!r}: bring the texts into its letters "
            f"(it knows {''.join(sorted(each for each in known if len(each) == 1))[:80]}), or drop the row"
        )
    return ids


def _to_write(ids: list[int], tokenizer: Any, start: int | None) -> list[int]:
    """Return the tokens that a decoder writes: without the one it begins with, and with the one that ends it."""
    last: Any = special_tokens(tokenizer)["eos_token_id"]
    ids = ids[1:] if ids and ids[0] == start else ids
    return ids if ids and ids[-1] == last else [*ids, last]


class SpeechCollator:
    """Make a batch of `SpeechRows`: audio is padded as the extractor pads it, transcripts with -100.

    Args:
        model: an encoder-decoder, whose decoder's inputs are put beside the labels: where these are smoothed, it does
            not see them.

    >>> from transformers import Wav2Vec2FeatureExtractor
    >>> collator = SpeechCollator(Wav2Vec2FeatureExtractor(return_attention_mask=True))
    >>> samples = [{"input_values": torch.ones(length), "labels": [7] * length} for length in (2, 3)]
    >>> batch = collator(samples)
    >>> batch["attention_mask"].tolist(), batch["labels"].tolist()
    ([[1, 1, 0], [1, 1, 1]], [[7, 7, -100], [7, 7, 7]])
    """

    def __init__(self, extractor: Any, model: Any = None) -> None:
        self.extractor, self.model = extractor, model

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch."""
        features = [{name: value for name, value in each.items() if name != "labels"} for each in samples]
        padded = self.extractor.pad(features, padding=True, return_tensors="pt")
        each_own = [torch.tensor(each["labels"]) for each in samples]
        labels = pad_sequence(each_own, batch_first=True, padding_value=IGNORE_INDEX)
        if self.model is None or not self.model.config.is_encoder_decoder:
            return {**padded, "labels": labels}
        return {**padded, "labels": labels, DECODER_IDS: decoder_inputs(self.model, labels)}


def check_frames(model: PreTrainedModel, rows: SpeechRows, collator: SpeechCollator) -> None:
    """Refuse a recording with fewer frames than CTC needs for its transcript, whose loss would be infinite.

    The model is run on those recordings that have the least to spare.

    Raises:
        ValueError: naming row, transcript and frames.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.data import load_splits
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> kind = {"model_type": "wav2vec2-bert", "config_overrides": sizes}
    >>> task = TaskArguments(task="speech-recognition", max_train_samples=4, **kind)
    >>> rows = load_splits(task).train
    >>> processor = load_speech_processor(task, rows["text"][:])
    >>> collator = SpeechCollator(processor.feature_extractor)
    >>> check_frames(load_speech_model(task, processor), SpeechRows(rows, processor, task), collator)
    """
    if model.config.model_type not in BY_CTC or getattr(model.config, "ctc_zero_infinity", False):
        return
    needed = [int(frames_needed(torch.tensor([ids]), torch.tensor([len(ids)]))) for ids in rows.labels]
    key = rows.processor.model_input_names[0]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row][key]) / needed[row])[:_TRIED]
    training = model.training
    model.eval()
    with torch.no_grad(), FrameCounts() as counts:
        model(**collator([rows[row] for row in order]))
    model.train(training)
    for row, frames in zip(order, counts.frames or ()):
        if frames < needed[row]:
            raise ValueError(
                f"row {row}: CTC needs {needed[row]} frames for {rows.texts[row][:60]!r}, and the model makes {frames} "
                "of its audio: drop the row, or take a model with more frames a second"
            )
