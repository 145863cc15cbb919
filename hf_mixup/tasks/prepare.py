"""A task, ready to train: what `hf-mixup train`, `compare` and `preview` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from hf_mixup.config import MixupConfig
from hf_mixup.engine import Mixup
from hf_mixup.metrics import compute_metrics, pair_compute_metrics
from hf_mixup.report.results import DEFAULT_METRICS, PAIR_METRICS
from hf_mixup.tasks.arguments import IMAGE, PAIRS, TEXT, TaskArguments
from hf_mixup.tasks.data import Splits, load_splits
from hf_mixup.trainer import MixupTrainer


def _no_scores(model: Any, rows: Any, predictions: Any) -> dict[str, float]:
    return {}


def _as_they_are(*arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return arrays[0], arrays[-1]


@dataclass(frozen=True)
class Prepared:
    """Data and model of a task, and how it is scored.

    Attributes:
        train, evaluated: rows that a model takes, the latter by the name of their split.
        processing_class: image processor, tokenizer, or processor of both.
        build_model: makes a model anew; seed before calling.
        paired: whether rows are pairs, without labels. Then `MixupTrainer` evaluates also where nothing is mixed.
        compute_metrics: scores a split from its predictions.
        more_metrics: scores that need the model, too: (model, rows, predictions) -> scores.
        metrics: scores that tables and pictures show.
        classified: stored predictions and labels -> logits [N, C] and classes [N], for a reliability diagram.
    """

    splits: Splits
    train: Any
    evaluated: dict[str, Any]
    processing_class: Any
    collator: Callable[..., Any]
    build_model: Callable[[], PreTrainedModel]
    paired: bool = False
    compute_metrics: Callable[..., dict[str, float]] = compute_metrics
    more_metrics: Callable[[Any, Any, Any], dict[str, float]] = _no_scores
    metrics: tuple[str, ...] = DEFAULT_METRICS
    classified: Callable[..., tuple[np.ndarray, np.ndarray]] = _as_they_are


def prepare(task: TaskArguments) -> Prepared:
    """Load data and processor of a task.

    Raises:
        ValueError, FileNotFoundError: as `load_splits` and the loaders of its modality.
        ImportError: if the default text model is not installed.
    """
    return _PREPARE[task.task](task, load_splits(task))


def _image(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.tasks.image import ImageRows, load_image_model, load_image_processor

    processor = load_image_processor(task)
    return Prepared(
        splits=splits,
        train=ImageRows(splits.train, processor, task, flip=task.flip),
        evaluated={split: ImageRows(rows, processor, task) for split, rows in splits.evaluated.items()},
        processing_class=processor,
        collator=default_data_collator,
        build_model=lambda: load_image_model(task, splits.label_names),
    )


def _text(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.tasks.text import load_text_model, load_tokenizer, tokenized

    tokenizer = load_tokenizer(task)
    return Prepared(
        splits=splits,
        train=tokenized(splits.train, tokenizer, task),
        evaluated={split: tokenized(rows, tokenizer, task) for split, rows in splits.evaluated.items()},
        processing_class=tokenizer,
        collator=DataCollatorWithPadding(tokenizer),
        build_model=lambda: load_text_model(task, splits.label_names, tokenizer),
    )


def _pairs(task: TaskArguments, splits: Splits) -> Prepared:
    from hf_mixup.tasks.pairs import (
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
    )


_PREPARE = {IMAGE: _image, TEXT: _text, PAIRS: _pairs}


def check_mixing(prepared: Prepared, model: PreTrainedModel, mixup: MixupConfig) -> None:
    """Mix one small batch, so that a method that does not fit the model or the data is refused before training.

    Weights, buffers and the global generators are left as they are.

    Raises:
        ValueError: with the engine's reason.
    """
    if mixup.off:
        return
    always = replace(mixup, prob=1.0, prob_warmup=0.0, off_ratio=0.0, off_epochs=0.0)
    engine = Mixup(always, tokenizer=getattr(prepared.processing_class, "tokenizer", None))
    batch = prepared.collator([prepared.train[row] for row in range(min(8, len(prepared.train)))])
    training = model.training
    model.eval()  # batch norm would count this batch
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), engine(model, batch, lam=0.5) as mixed:
            mixed.loss(model(**mixed.inputs))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"method {mixup.method!r} does not work here: {error}") from error
    finally:
        model.train(training)


def make_trainer(prepared: Prepared, model: PreTrainedModel, args: TrainingArguments, mixup: MixupConfig) -> Trainer:
    """Return a trainer of a model: a `MixupTrainer`, or the plain one where nothing would be mixed."""
    common: dict[str, Any] = {
        "model": model,
        "args": args,
        "train_dataset": prepared.train,
        "eval_dataset": prepared.evaluated["validation"],
        "data_collator": prepared.collator,
        "processing_class": prepared.processing_class,
        "compute_metrics": prepared.compute_metrics,
    }
    return Trainer(**common) if mixup.plain and not prepared.paired else MixupTrainer(**common, mixup=mixup)


def score(trainer: Trainer, prepared: Prepared, split: str) -> tuple[str, dict[str, float], tuple[np.ndarray, ...]]:
    """Evaluate and log one split.

    Returns:
        The prefix of its scores ("eval" for the validation rows, as cards and trackers look for it), the scores under
        that prefix, and the predictions followed by the labels.
    """
    prefix = "eval" if split == "validation" else split
    output = trainer.predict(prepared.evaluated[split], metric_key_prefix=prefix)
    scores = dict(output.metrics or {})
    predictions = output.predictions if isinstance(output.predictions, tuple) else (output.predictions,)
    kept = predictions if prepared.paired else predictions[:1]  # a classifier may return hidden states, too
    if finite(kept):
        more = prepared.more_metrics(trainer.model, prepared.evaluated[split], kept)
        scores.update({f"{prefix}_{name}": value for name, value in more.items()})
    trainer.log(scores)
    return prefix, scores, (*kept, np.asarray(output.label_ids))


def finite(predictions: Any) -> bool:
    """Whether no prediction of a run is NaN or infinite, as those of a run that diverged are."""
    arrays = predictions if isinstance(predictions, tuple) else (predictions,)
    return all(bool(np.isfinite(array).all()) for array in arrays)
