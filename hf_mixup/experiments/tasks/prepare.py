"""A task, ready to train: what `hf-mixup train`, `compare` and `preview` share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments

from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.mixup import Mixup
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.prepared import Prepared, refitted, temperature_of
from hf_mixup.experiments.tasks.stream import Stream, StreamTrainer
from hf_mixup.experiments.tasks.stream_splits import prepare_stream
from hf_mixup.integrations.trainer import MixupTrainer
from hf_mixup.methods.capabilities import NeedsAttention, NeedsSamplingRate
from hf_mixup.methods.registry import each_part


def prepare(task: TaskArguments) -> Prepared:
    """Load data and processor of a task.

    Raises:
        ValueError, FileNotFoundError: as `load_splits` and the loaders of its modality.
        ImportError: if the default text model is not installed.

    >>> prepared = prepare(TaskArguments(task="tabular-classification", dataset="wine"))
    >>> sorted(prepared.evaluated), prepared.build_model().config.num_labels
    (['test', 'validation'], 3)
    """
    return prepare_stream(task) if task.streaming else task.prepared(load_splits(task))


def rows_of(prepared: Prepared, task: TaskArguments) -> str:
    """Return the rows of each split, and how many the rarest and the most frequent class have to train on.

    >>> task = TaskArguments(task="tabular-classification", dataset="wine")
    >>> rows_of(prepare(task), task)
    'rows: train 111, validation 13, test 54; classes: 3, of 29 to 45 training rows'
    """
    splits = prepared.splits
    parts = [f"{name} {len(rows):,}" for name, rows in {"train": splits.train, **splits.evaluated}.items()]
    if isinstance(prepared.train, Stream):
        shards = sum(map(len, prepared.train.sources))
        return f"rows: train a stream of {shards:,} {'shard' if shards == 1 else 'shards'}, {', '.join(parts[1:])}"
    text = f"rows: {', '.join(parts)}"
    if task.label_kind == "class":
        counts = Counter(splits.train[task.columns["label"]])
        found = [counts[number] for number in range(len(splits.label_names))]
        text += f"; classes: {len(found)}, of {min(found):,} to {max(found):,} training rows"
    return text


def check_readable(prepared: Prepared) -> None:
    """Read the first row of every split, and with it all that are kept in memory, before a model is built.

    A broken file in a test split would be found only after the training.
    """
    for rows in (prepared.looked_at, *prepared.evaluated.values()):
        rows[0]


def check_mixing(prepared: Prepared, model: PreTrainedModel, mixup: MixupConfig) -> None:
    """Mix one small batch, so that a method that does not fit the model or the data is refused before training.

    Weights, buffers and the global generators are left as they are.

    Raises:
        ValueError: with the engine's reason, or for another sampling rate than that of the audio clips.
    """
    if mixup.off:
        return
    _check_rate(prepared, mixup)
    _show_attention(model, mixup)
    half = {"lam": 0.5} if "lam" in mixup.known else {}
    always = mixup.replace(prob=1.0, prob_warmup_ratio=0.0, disable_last_ratio=0.0, disable_last_epochs=0.0, **half)
    engine = Mixup(always, tokenizer=getattr(prepared.processing_class, "tokenizer", None))
    batch = prepared.collator([prepared.looked_at[row] for row in range(min(8, len(prepared.looked_at)))])
    training = model.training
    model.eval()  # batch norm would count this batch
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), engine(model, batch) as mixed:
            mixed.loss(model(**mixed.inputs))
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).removeprefix(f"method {mixup.method!r} ")
        raise ValueError(f"method {mixup.method!r} does not work here: {reason}") from error
    finally:
        model.train(training)


def _show_attention(model: PreTrainedModel, mixup: MixupConfig) -> None:
    """Let the model compute attention so that it can be returned, where a method reads it in the mixed pass."""
    if any(isinstance(each, NeedsAttention) for each in each_part(mixup.mixing)):
        model.set_attn_implementation("eager")


def _check_rate(prepared: Prepared, mixup: MixupConfig) -> None:
    for method in each_part(mixup.mixing):
        if not isinstance(method, NeedsSamplingRate):
            continue
        rate = getattr(prepared.processing_class, "sampling_rate", method.sampling_rate)
        if rate != method.sampling_rate:
            raise ValueError(
                f"sampling_rate={method.sampling_rate}: method {method.name!r} would measure how loud these clips "
                f"are wrongly, which have {rate} samples a second: set sampling_rate to {rate}"
            )


def make_trainer(prepared: Prepared, model: PreTrainedModel, args: TrainingArguments, mixup: MixupConfig) -> Trainer:
    """Return a trainer of a model: a `MixupTrainer`, or the plain one where nothing would be mixed.

    Labels are smoothed by a `MixupTrainer`, too: the plain one does not shift those of all models of next tokens.

    >>> import tempfile
    >>> prepared = prepare(TaskArguments(task="tabular-classification", dataset="wine"))
    >>> args = TrainingArguments(tempfile.mkdtemp(), use_cpu=True, report_to="none")
    >>> trainer = make_trainer(prepared, prepared.build_model(), args, MixupConfig(method="tabular"))
    >>> type(trainer).__name__
    'MixupTrainer'
    """
    _show_attention(model, mixup)
    common: dict[str, Any] = {
        "model": model,
        "args": args,
        "train_dataset": prepared.train,
        "eval_dataset": prepared.evaluated["validation"],
        "data_collator": prepared.collator,
        "processing_class": prepared.processing_class,
        "compute_metrics": prepared.compute_metrics,
        "preprocess_logits_for_metrics": prepared.preprocess_logits,
    }
    by_us = prepared.paired or prepared.trainer_class is not None or args.label_smoothing_factor
    plain = mixup.plain and not by_us
    kind: Any = Trainer if plain else prepared.trainer_class or MixupTrainer
    if isinstance(prepared.train, Stream):
        kind = type(kind.__name__, (StreamTrainer, kind), {})
    return kind(**common) if plain else kind(**common, mixup=mixup)


Scored = tuple[str, dict[str, float], tuple[np.ndarray, ...]]


def score_all(trainer: Trainer, prepared: Prepared) -> Iterator[tuple[str, Scored]]:
    """Evaluate and log each split, see `score`: the validation rows first, whose temperature the others are given."""
    temperature = None
    for split in sorted(prepared.evaluated, key=lambda name: name != "validation"):
        scored = score(trainer, prepared, split, temperature)
        if split == "validation" and prepared.refits:
            temperature = temperature_of(scored[2])
        yield split, scored


def score(trainer: Trainer, prepared: Prepared, split: str, temperature: float | None = None) -> Scored:
    """Evaluate and log one split.

    Args:
        temperature: that of the validation rows, for scores after it on other rows; where it is None they are
            cross-fitted within the split.

    Returns:
        The prefix of its scores ("eval" for the validation rows, as cards and trackers look for it), the scores under
        that prefix, and the predictions followed by the labels.

    >>> import tempfile
    >>> prepared = prepare(TaskArguments(task="tabular-classification", dataset="wine"))
    >>> args = TrainingArguments(tempfile.mkdtemp(), use_cpu=True, report_to="none")
    >>> trainer = make_trainer(prepared, prepared.build_model(), args, MixupConfig(method="tabular"))
    >>> prefix, scores, (logits, labels) = score(trainer, prepared, "test")
    >>> prefix, "test_accuracy" in scores, logits.shape
    ('test', True, (54, 3))
    """
    prefix = "eval" if split == "validation" else split
    output = trainer.predict(prepared.evaluated[split], metric_key_prefix=prefix)
    scores = dict(output.metrics or {})
    predictions = output.predictions if isinstance(output.predictions, tuple) else (output.predictions,)
    kept = predictions if prepared.paired else predictions[:1]  # a classifier may return hidden states, too
    if finite(kept):
        more = prepared.more_metrics(trainer.model, prepared.evaluated[split], kept)
        scores.update({f"{prefix}_{name}": value for name, value in more.items()})
    found = (*kept, np.asarray(output.label_ids))
    if temperature is not None:
        scores.update({f"{prefix}_{name}": value for name, value in refitted(found, temperature).items()})
    trainer.log(scores)
    return prefix, scores, found


def finite(predictions: Any) -> bool:
    """Whether no prediction of a run is NaN or infinite, as those of a run that diverged are."""
    arrays = predictions if isinstance(predictions, tuple) else (predictions,)
    return all(bool(np.isfinite(array).all()) for array in arrays)
