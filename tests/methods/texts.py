"""Batches of texts and tiny text models for the methods that mix tokens or vectors of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForTokenClassification,
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    CTRLConfig,
    CTRLForSequenceClassification,
    DebertaV2Config,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedConfig,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from hf_mixup import Mixup, MixupConfig
from hf_mixup.utils.constants import IGNORE_INDEX

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TAGGERS: list[PreTrainedConfig] = [
    BertConfig(vocab_size=40, max_position_embeddings=16, num_labels=5, **SIZES),
    DebertaV2Config(vocab_size=40, max_position_embeddings=16, num_labels=5, **SIZES),
    XLNetConfig(vocab_size=40, d_model=16, n_layer=2, n_head=2, d_inner=32, num_labels=5),  # samples on the second axis
]


PAD, CLS, SEP = 0, 1, 2
SPECIAL = (PAD, CLS, SEP)
TOKENIZER = SimpleNamespace(all_special_ids=list(SPECIAL), unk_token_id=None, pad_token_id=PAD)
BERT = BertConfig(vocab_size=60, max_position_embeddings=32, num_labels=4, **SIZES)
ARCHITECTURES: dict[str, Any] = {
    "bert": lambda: (BERT, BertForSequenceClassification),
    "roberta": lambda: (
        RobertaConfig(vocab_size=60, max_position_embeddings=32, num_labels=4, pad_token_id=PAD, **SIZES),
        RobertaForSequenceClassification,
    ),
    "gpt2": lambda: (
        GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=2, num_labels=4, pad_token_id=PAD),
        GPT2ForSequenceClassification,
    ),
    "ctrl": lambda: (  # scales the embeddings in place
        CTRLConfig(
            vocab_size=60, n_positions=32, n_embd=16, dff=32, n_layer=1, n_head=2, num_labels=4, pad_token_id=PAD
        ),
        CTRLForSequenceClassification,
    ),
    "xlnet": lambda: (
        XLNetConfig(vocab_size=60, d_model=16, n_layer=2, n_head=2, d_inner=32, num_labels=4),  # [T, B, D] inside
        XLNetForSequenceClassification,
    ),
    "bart": lambda: (
        BartConfig(
            vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
            num_labels=4, pad_token_id=PAD, eos_token_id=SEP, decoder_start_token_id=SEP,
        ),
        BartForSequenceClassification,
    ),
    "t5": lambda: (
        T5Config(
            vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, num_labels=4, pad_token_id=PAD,
            eos_token_id=SEP, decoder_start_token_id=PAD,
        ),
        T5ForSequenceClassification,
    ),
}  # fmt: skip


def tagger(config: PreTrainedConfig = TAGGERS[0]) -> Any:
    torch.manual_seed(0)
    return enlarge_weights(AutoModelForTokenClassification.from_config(config), 4).double()


def tagged(rows: int = 4, length: int = 9) -> dict[str, Tensor]:
    """Make samples of different length; the ends and some tokens in between have no label."""
    torch.manual_seed(1)
    ids, mask = torch.randint(5, 40, (rows, length)), torch.ones(rows, length, dtype=torch.long)
    labels = torch.randint(0, 5, (rows, length))
    for row in range(rows):
        end = length - 2 * row
        mask[row, end:] = 0
        labels[row, [0, *range(end - 1, length)]] = IGNORE_INDEX
    labels[0, 3] = IGNORE_INDEX
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def texts(counts: list[int], left: bool = False, seed: int = 0, pairs: bool = False) -> dict[str, Tensor]:
    """Make samples CLS words SEP (CLS words SEP words SEP for pairs) with so many words, padded on one side."""
    generator = torch.Generator().manual_seed(seed)
    length = max(counts) + 4
    names = ("input_ids", "attention_mask", "token_type_ids")
    made = {name: torch.zeros(len(counts), length, dtype=torch.long) for name in names}
    for row, count in enumerate(counts):
        words = torch.randint(3, 60, (count,), generator=generator).tolist()
        half = count // 2
        ids = [CLS, *words[:half], SEP, *words[half:], SEP] if pairs else [CLS, *words, SEP]
        at = slice(length - len(ids), length) if left else slice(0, len(ids))
        made["input_ids"][row, at] = torch.tensor(ids)
        made["attention_mask"][row, at] = 1
        if pairs:
            made["token_type_ids"][row, at] = torch.tensor([0] * (half + 2) + [1] * (count - half + 1))
    return made


def enlarge_weights(model: Any, factor: float = 3) -> Any:
    """Make weights so large that samples score apart."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor if parameter.dim() > 1 else 1)
    return model.eval()


def classifier(config: PreTrainedConfig = BERT, head: Any = BertForSequenceClassification) -> Any:
    torch.manual_seed(0)
    return enlarge_weights(head(config))


def words_of(batch: dict[str, Tensor], row: int) -> list[int]:
    """Return the positions of a sample's words, found one by one."""
    visible = [t for t in range(batch["input_ids"].shape[1]) if batch["attention_mask"][row, t]]
    return [t for t in visible[1:-1] if int(batch["input_ids"][row, t]) not in SPECIAL]


def mixed_texts(config: MixupConfig | str, batch: dict[str, Any], model: Any = None, **kwargs: Any) -> Any:
    """Return a mixed batch after its context."""
    rows = len(batch["input_ids"])
    labels = torch.arange(rows) % 4
    model = model or classifier()
    with Mixup(config, tokenizer=TOKENIZER)(model, {"labels": labels, **batch}, **kwargs) as mixed:
        return mixed


def inputs_of(name: str) -> dict[str, Tensor]:
    batch = texts([5, 3, 8, 2])
    return {key: value for key, value in batch.items() if key != "token_type_ids" or name == "bert"}
