"""Language models: prompts and answers for one that reads on, sources and targets for one that reads and writes."""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from hf_mixup.experiments.tasks.models import new_config, with_adapters
from hf_mixup.experiments.tasks.shared import WithTexts
from hf_mixup.experiments.tasks.text import special_tokens
from hf_mixup.utils.constants import IGNORE_INDEX


def load_causal_model(task: WithTexts, tokenizer: Any) -> PreTrainedModel:
    """Return a model that predicts the next token: a checkpoint, or a new one of `model_type`, with its adapters.

    Seed before calling, as a new model (or new adapters) is drawn at random.

    Raises:
        ValueError: if the task names no model, or for an architecture or setting that does not exist.
        OSError: for a checkpoint that cannot be loaded.
        ImportError: if PEFT is not installed and `lora_rank` is given.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.text import load_tokenizer
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> task = TaskArguments(task="causal-lm", model_type="llama", config_overrides=sizes)
    >>> type(load_causal_model(task, load_tokenizer(task))).__name__
    'LlamaForCausalLM'
    """
    return _language_model(AutoModelForCausalLM, task, tokenizer)


def load_seq2seq_model(task: WithTexts, tokenizer: Any) -> PreTrainedModel:
    """Return a model that reads one text and writes another; otherwise as `load_causal_model`.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.text import load_tokenizer
    >>> sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    >>> task = TaskArguments(task="seq2seq", model_type="t5", config_overrides=sizes)
    >>> type(load_seq2seq_model(task, load_tokenizer(task))).__name__
    'T5ForConditionalGeneration'
    """
    return _language_model(AutoModelForSeq2SeqLM, task, tokenizer)


def _language_model(auto_class: Any, task: WithTexts, tokenizer: Any) -> PreTrainedModel:
    if task.model is not None:
        return with_adapters(auto_class.from_pretrained(task.model), task)
    if task.model_type is None:
        raise ValueError(
            f"{task.task}: no language model is packaged; name a checkpoint (model) or the architecture of a new one "
            "(model_type)"
        )
    tokens = special_tokens(tokenizer)
    config = new_config(task, vocab_size=len(tokenizer), forced_eos_token_id=tokens["eos_token_id"], **tokens)
    if config.is_encoder_decoder:  # what the decoder reads before the first token it writes; not all have a default
        config.decoder_start_token_id = tokens["bos_token_id"]
    return with_adapters(auto_class.from_config(config), task)


def prompted(rows: Dataset, tokenizer: Any, task: WithTexts) -> Dataset:
    """Return rows of `input_ids`, `attention_mask` and `labels` [T] for a causal model, not yet padded.

    A row is the prompt, with the special tokens that the tokenizer gives it (as it will when the model is used), the
    answer and the token that ends a text. The labels of the prompt are -100: the answer alone is learnt. Both are
    tokenized apart and follow each other as they are. Where a row is longer than `max_length`, the prompt loses its
    begin, and then the answer its end.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.text import load_tokenizer
    >>> task = TaskArguments(task="causal-lm", model_type="llama")
    >>> rows = Dataset.from_dict({"source": ["a cat"], "target": ["miaow"]})
    >>> prompted(rows, load_tokenizer(task), task)[0]["labels"]
    [-100, -100, -100, -100, 8764, 5004, 102]
    """
    end = special_tokens(tokenizer)["eos_token_id"]
    source, target = task.columns.get("source"), task.columns["target"]

    def row(prompt: list[int], answer: list[int]) -> dict[str, list[int]]:
        answer = [*answer, *([] if end is None else [end])][: task.max_length]
        prompt = prompt[max(0, len(prompt) + len(answer) - task.max_length) :]
        labels = [IGNORE_INDEX] * len(prompt) + answer
        labels[0] = IGNORE_INDEX  # nothing stands before it from which it could be predicted
        return {
            "input_ids": prompt + answer,
            "attention_mask": [1] * len(labels),
            "labels": labels,
        }

    def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
        answers = tokenizer(batch[target], add_special_tokens=False)["input_ids"]
        prompts = [""] * len(answers) if source is None else batch[source]
        made = [row(*texts) for texts in zip(tokenizer(prompts)["input_ids"], answers, strict=True)]
        return {name: [each[name] for each in made] for name in made[0]}

    return rows.map(tokens, batched=True, remove_columns=rows.column_names)


def translated(rows: Dataset, tokenizer: Any, task: WithTexts) -> Dataset:
    """Return rows of `input_ids`, `attention_mask` (of the source) and `labels` [T'] (the target), not yet padded.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.text import load_tokenizer
    >>> task = TaskArguments(task="seq2seq", model_type="t5")
    >>> rows = Dataset.from_dict({"source": ["a cat"], "target": ["a dog"]})
    >>> translated(rows, load_tokenizer(task), task)[0]
    {'input_ids': [101, 1037, 4937, 102], 'attention_mask': [1, 1, 1, 1], 'labels': [1037, 3899, 102]}
    """

    source, target = task.columns["source"], task.columns["target"]

    def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
        lengths: dict[str, Any] = {"truncation": True, "max_length": task.max_length}
        encoded = tokenizer(batch[source], **lengths)
        if task.model is not None:
            labels = tokenizer(text_target=batch[target], **lengths)["input_ids"]
        else:  # a borrowed tokenizer would put its [CLS] first, which a new model's decoder is given anyway
            lengths["max_length"] -= 1
            plain = tokenizer(batch[target], add_special_tokens=False, **lengths)["input_ids"]
            labels = [[*ids, tokenizer.sep_token_id] for ids in plain]
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": labels}

    return rows.map(tokens, batched=True, remove_columns=rows.column_names)
