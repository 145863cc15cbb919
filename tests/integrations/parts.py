"""What the tests of outer trainers share: a tokenizer, a tiny language model, quiet arguments, equal weights."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast, Trainer

WORDS = 60
SMALL = {
    "vocab_size": WORDS + 3,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
QUIET = {
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "save_strategy": "no",
    "logging_steps": 1,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "max_steps": 3,
    "learning_rate": 1e-2,
    "seed": 7,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer of the words w0, w1, ..."""
    words = {"[PAD]": 0, "[EOS]": 1, "[UNK]": 2, **{f"w{i}": i + 3 for i in range(WORDS)}}
    made = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]")


def text(generator: torch.Generator, low: int = 3, high: int = 9) -> str:
    """Make a text of a few words."""
    count = int(torch.randint(low, high, (), generator=generator))
    return " ".join(f"w{int(i)}" for i in torch.randint(WORDS, (count,), generator=generator))


def tiny(model_class: Any, **settings: Any) -> PreTrainedModel:
    """Build a tiny Llama of some task."""
    torch.manual_seed(0)
    model = model_class(LlamaConfig(**{**SMALL, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)  # so that rows score apart
    return model


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts have the same bits."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def logged(trainer: Trainer, *names: str) -> list[list[float]]:
    """Return what each step's log says under these names."""
    return [[entry[name] for name in names] for entry in trainer.state.log_history if "loss" in entry]


def moved(before: nn.Module, trainer: Trainer) -> bool:
    """Whether training has changed every trainable parameter; nobody reads BERT's pooler in a sentence encoder."""
    old, new = dict(before.named_parameters()), trainer.model.named_parameters()
    return all(not torch.equal(p, old[n]) for n, p in new if p.requires_grad and "pooler" not in n)
