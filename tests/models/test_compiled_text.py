"""torch.compile over the sites in language models: no recompilation over new draws, and the same loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor
from transformers import (
    BertConfig,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_mixup import Mixup

SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


def tokens() -> dict[str, Tensor]:
    torch.manual_seed(1)
    ids, mask = torch.randint(5, 40, (4, 9)), torch.ones(4, 9, dtype=torch.long)
    for row, length in enumerate([9, 5, 7, 3]):
        ids[row, length:], mask[row, length:] = 1, 0
    return {"input_ids": ids, "attention_mask": mask}


def causal() -> tuple[Any, dict[str, Tensor]]:
    config = GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=3, n_head=2, pad_token_id=1)
    batch = tokens()
    return GPT2LMHeadModel(config), {**batch, "labels": batch["input_ids"].where(batch["attention_mask"] > 0, -100)}


def pooled() -> tuple[Any, dict[str, Tensor]]:
    config = LlamaConfig(vocab_size=40, pad_token_id=1, num_labels=3, max_position_embeddings=16, **SMALL)
    return LlamaForSequenceClassification(config), {**tokens(), "labels": torch.tensor([0, 1, 2, 1])}


def translated() -> tuple[Any, dict[str, Tensor]]:
    config = T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=3, num_heads=2, pad_token_id=1, decoder_start_token_id=1
    )
    return T5ForConditionalGeneration(config), {**tokens(), "labels": torch.randint(5, 40, (4, 6))}


def tagged() -> tuple[Any, dict[str, Tensor]]:
    config = BertConfig(vocab_size=40, num_labels=5, max_position_embeddings=16, **SMALL)
    return BertForTokenClassification(config), {**tokens(), "labels": torch.randint(0, 5, (4, 9))}


CASES = [
    ("embedding", causal),
    ("manifold", causal),
    ("sftmix", causal),
    ("embedding", pooled),
    ("manifold", pooled),
    ("embedding", translated),
    ("manifold", translated),
    ("embedding", tagged),
    ("intra", tagged),
]


@pytest.mark.parametrize(("method", "task"), CASES, ids=lambda each: getattr(each, "__name__", each))
def test_compiled_models_mix_and_do_not_recompile(method: str, task: Callable[[], Any]) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    model, batch = task()
    model.eval()
    eager, mixup = Mixup({"method": method}), Mixup({"method": method})
    mixup.prepare(model)
    compiled = torch.compile(model, backend=counter)
    for step in range(12):
        with mixup(compiled, batch) as mixed:
            found = mixed.loss(compiled(**mixed.inputs))
        if step == 8:
            frames = counter.frame_count
        with eager(model, batch) as mixed, torch.compiler.set_stance("force_eager"):
            expected = mixed.loss(model(**mixed.inputs))
        torch.testing.assert_close(found, expected)
    assert 0 < counter.frame_count == frames
    torch._dynamo.reset()
