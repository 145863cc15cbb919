"""What each task is made of: rows, collator, model and scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    default_data_collator,
)

from hf_mixup.experiments.report.score_sums import RowSums, class_sums, token_sums, value_sums
from hf_mixup.experiments.tasks.arguments import (
    AUDIO,
    CAUSAL,
    IMAGE,
    PAIRS,
    REGRESSION,
    SEQ2SEQ,
    TABULAR,
    TABULAR_REGRESSION,
    TEXT,
    TOKENS,
    VIDEO,
    TaskArguments,
)
from hf_mixup.experiments.tasks.data import Splits
from hf_mixup.metrics import (
    compute_metrics,
    language_metrics,
    next_token_scores,
    pair_compute_metrics,
    tag_metrics,
    token_scores,
)
from hf_mixup.metrics.results import (
    DEFAULT_METRICS,
    LANGUAGE_METRICS,
    PAIR_METRICS,
    REGRESSION_METRICS,
    TAG_METRICS,
)


def _no_scores(model: Any, rows: Any, predictions: Any) -> dict[str, float]:
    return {}


def _as_they_are(*arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return arrays[0], arrays[-1]


@dataclass(frozen=True)
class Prepared:
    """Data and model of a task, and how it is scored.

    Attributes:
        train, evaluated: rows that a model takes, the latter by the name of their split.
        processing_class: image processor, tokenizer, processor of both, feature extractor, or processor of columns.
        build_model: makes a model anew; seed before calling.
        paired: whether rows are pairs, without labels. Then `MixupTrainer` evaluates also where nothing is mixed.
        compute_metrics: scores a split from its predictions.
        preprocess_logits: what the Trainer keeps of the logits of a batch, given labels: (logits, labels) -> kept.
        more_metrics: scores that need the model, too: (model, rows, predictions) -> scores.
        metrics: scores that tables and images show, those of them that there are.
        select_by: the one that tells the best model on validation rows, where nobody says otherwise.
        classified: stored predictions and labels -> logits [..., C] and classes [...], for a reliability diagram; None
            where there are no classes to draw one of.
        rows: stored predictions and labels -> what they add up to row by row, for intervals; None for scores that do
            not add up.

    >>> from hf_mixup.experiments.tasks.prepare import prepare
    >>> prepared = prepare(TaskArguments(task="tabular-regression", dataset="diabetes"))
    >>> prepared.select_by, sorted(prepared.evaluated), len(prepared.train[0]["numerical_values"])
    ('mse', ['test', 'validation'], 10)
    """

    splits: Splits
    train: Any
    evaluated: dict[str, Any]
    processing_class: Any
    collator: Callable[..., Any]
    build_model: Callable[[], PreTrainedModel]
    paired: bool = False
    compute_metrics: Callable[..., dict[str, float]] = compute_metrics
    preprocess_logits: Callable[..., Any] | None = None
    more_metrics: Callable[[Any, Any, Any], dict[str, float]] = _no_scores
    metrics: tuple[str, ...] = DEFAULT_METRICS
    select_by: str = "nll"
    classified: Callable[..., tuple[np.ndarray, np.ndarray]] | None = _as_they_are
    rows: Callable[..., RowSums] | None = class_sums


_OF_NUMBERS: dict[str, Any] = {
    "metrics": REGRESSION_METRICS,
    "select_by": "mse",
    "classified": None,
    "rows": value_sums,
}


def _image(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.experiments.tasks.augmentation import Augmentation
    from hf_mixup.experiments.tasks.image import ImageRows, load_image_model, load_image_processor

    processor = load_image_processor(task)
    augmentation = Augmentation(task.augment, processor) if task.augment else None
    return Prepared(
        splits=splits,
        train=ImageRows(splits.train, processor, task, task.flip, augmentation),
        evaluated={split: ImageRows(rows, processor, task) for split, rows in splits.evaluated.items()},
        processing_class=processor,
        collator=default_data_collator,
        build_model=lambda: load_image_model(task, splits.label_names),
    )


def _audio(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.experiments.tasks.audio import AudioCollator, AudioRows, load_audio_model, load_feature_extractor

    extractor = load_feature_extractor(task)
    return Prepared(
        splits=splits,
        train=AudioRows(splits.train, extractor, task),
        evaluated={split: AudioRows(rows, extractor, task) for split, rows in splits.evaluated.items()},
        processing_class=extractor,
        collator=AudioCollator(extractor),
        build_model=lambda: load_audio_model(task, splits.label_names),
    )


def _video(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.experiments.tasks.video import VideoRows, load_video_model, load_video_processor

    processor = load_video_processor(task)
    return Prepared(
        splits=splits,
        train=VideoRows(splits.train, processor, task),
        evaluated={split: VideoRows(rows, processor, task) for split, rows in splits.evaluated.items()},
        processing_class=processor,
        collator=default_data_collator,
        build_model=lambda: load_video_model(task, splits.label_names),
    )


def _tabular(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.experiments.tasks.tables import load_tabular_model, load_tabular_processor, tabular_rows

    processor = load_tabular_processor(task, splits.train)
    return Prepared(
        splits=splits,
        train=tabular_rows(splits.train, processor, task),
        evaluated={split: tabular_rows(rows, processor, task) for split, rows in splits.evaluated.items()},
        processing_class=processor,
        collator=default_data_collator,
        build_model=lambda: load_tabular_model(task, splits.label_names, processor),
    )


def _tabular_regression(task: TaskArguments, splits: Splits) -> Prepared:
    return replace(_tabular(task, splits), **_OF_NUMBERS)


def _tokenized(
    rows: Callable[[Dataset, Any, TaskArguments], Dataset], task: TaskArguments, splits: Splits, tokenizer: Any
) -> dict[str, Any]:
    return {
        "splits": splits,
        "train": rows(splits.train, tokenizer, task),
        "evaluated": {split: rows(part, tokenizer, task) for split, part in splits.evaluated.items()},
        "processing_class": tokenizer,
    }


def _text(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.experiments.tasks.text import load_text_model, load_tokenizer, tokenized

    tokenizer = load_tokenizer(task)
    return Prepared(
        **_tokenized(tokenized, task, splits, tokenizer),
        collator=DataCollatorWithPadding(tokenizer),
        build_model=lambda: load_text_model(task, splits.label_names, tokenizer),
    )


def _regression(task: TaskArguments, splits: Splits) -> Prepared:
    return replace(_text(task, splits), **_OF_NUMBERS)


def _tokens(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.experiments.tasks.text import load_token_model, load_tokenizer, tagged_tokens

    tokenizer = load_tokenizer(task)
    return Prepared(
        **_tokenized(tagged_tokens, task, splits, tokenizer),
        collator=DataCollatorForTokenClassification(tokenizer),
        build_model=lambda: load_token_model(task, splits.label_names, tokenizer),
        compute_metrics=partial(tag_metrics, tags=splits.label_names),
        metrics=TAG_METRICS,
    )


def _causal(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.experiments.tasks.language import load_causal_model, prompted
    from hf_mixup.experiments.tasks.text import load_tokenizer

    tokenizer = load_tokenizer(task)
    return Prepared(
        **_tokenized(prompted, task, splits, tokenizer),
        collator=DataCollatorForSeq2Seq(tokenizer),  # it pads the labels, too
        build_model=lambda: load_causal_model(task, tokenizer),
        compute_metrics=language_metrics,
        preprocess_logits=next_token_scores,
        metrics=LANGUAGE_METRICS,
        classified=None,
        rows=token_sums,
    )


def _seq2seq(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.experiments.tasks.language import load_seq2seq_model, translated
    from hf_mixup.experiments.tasks.text import load_tokenizer

    tokenizer = load_tokenizer(task)
    collator = DataCollatorForSeq2Seq(tokenizer)

    def build_model() -> PreTrainedModel:
        collator.model = load_seq2seq_model(task, tokenizer)  # which knows how its decoder's inputs follow from labels
        return collator.model

    return Prepared(
        **_tokenized(translated, task, splits, tokenizer),
        collator=collator,
        build_model=build_model,
        compute_metrics=language_metrics,
        preprocess_logits=token_scores,
        metrics=LANGUAGE_METRICS,
        classified=None,
        rows=token_sums,
    )


def _pairs(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.experiments.tasks.pairs import (
        PairRows,
        class_names,
        id_logits,
        load_pair_model,
        load_pair_processor,
        pair_collator,
        zero_shot,
    )

    processor = load_pair_processor(task)
    collator, classes = pair_collator(task, processor), class_names(splits, task)
    train = PairRows(splits.train, processor, task, train=True)
    evaluated = {split: PairRows(rows, processor, task, classes=classes) for split, rows in splits.evaluated.items()}
    for split in splits.tests or ["validation"]:
        if task.eval_caption_noise:
            evaluated[f"{split}_noisy"] = evaluated[split].spoilt(caption_noise=task.eval_caption_noise)
        if task.eval_image_blank:
            evaluated[f"{split}_blank"] = evaluated[split].spoilt(image_blank=task.eval_image_blank)

    def zero_shot_scores(model: Any, rows: PairRows, predictions: Any) -> dict[str, float]:
        return zero_shot(model, collator, rows, predictions[0], classes, task) if classes else {}

    return Prepared(
        splits=splits,
        train=train.spoilt(task.caption_noise, task.image_blank),
        evaluated=evaluated,
        processing_class=processor,
        collator=collator,
        build_model=lambda: load_pair_model(task, processor),
        paired=True,
        compute_metrics=pair_compute_metrics,
        more_metrics=zero_shot_scores,
        metrics=(*PAIR_METRICS, "zero_shot_accuracy") if classes else PAIR_METRICS,
        classified=id_logits,
        rows=None,
    )


PREPARE: dict[str, Callable[[TaskArguments, Splits], Prepared]] = {
    IMAGE: _image,
    TEXT: _text,
    PAIRS: _pairs,
    TOKENS: _tokens,
    REGRESSION: _regression,
    CAUSAL: _causal,
    SEQ2SEQ: _seq2seq,
    AUDIO: _audio,
    VIDEO: _video,
    TABULAR: _tabular,
    TABULAR_REGRESSION: _tabular_regression,
}
