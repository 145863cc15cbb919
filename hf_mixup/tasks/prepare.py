"""A task, ready to train: what `hf-mixup train`, `compare` and `preview` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

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
from hf_mixup.metrics import compute_metrics
from hf_mixup.tasks.arguments import TaskArguments
from hf_mixup.tasks.data import Splits, load_splits
from hf_mixup.trainer import MixupTrainer


@dataclass(frozen=True)
class Prepared:
    """Data and model of a task.

    Attributes:
        train, evaluated: rows that a model takes, the latter by the name of their split.
        processing_class: image processor or tokenizer.
        build_model: makes a model anew; seed before calling.
    """

    splits: Splits
    train: Any
    evaluated: dict[str, Any]
    processing_class: Any
    collator: Callable[..., Any]
    build_model: Callable[[], PreTrainedModel]


def prepare(task: TaskArguments) -> Prepared:
    """Load data and processor of a task.

    Raises:
        ValueError, FileNotFoundError: as `load_splits` and the loaders of its modality.
        ImportError: if the default text model is not installed.
    """
    splits = load_splits(task)
    return _image(task, splits) if task.is_image else _text(task, splits)


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


def check_mixing(prepared: Prepared, model: PreTrainedModel, mixup: MixupConfig) -> None:
    """Mix one small batch, so that a method that does not fit the model or the data is refused before training.

    Weights, buffers and the global generators are left as they are.

    Raises:
        ValueError: with the engine's reason.
    """
    if mixup.off:
        return
    engine = Mixup(replace(mixup, prob=1.0, prob_warmup=0.0, off_ratio=0.0, off_epochs=0.0))
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
        "compute_metrics": compute_metrics,
    }
    return Trainer(**common) if mixup.plain else MixupTrainer(**common, mixup=mixup)
