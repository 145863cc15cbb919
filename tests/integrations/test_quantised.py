"""Mixing over a quantised base with adapters: what is blended are hidden states, which are floats all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification, TorchAoConfig

from hf_mixup import Mixup, MixupTrainer

pytest.importorskip("torchao", reason="torchao is not installed: `make slow` does it")
from torchao.quantization import Int8Tensor, Int8WeightOnlyConfig


def quantised(folder: Path) -> Any:
    """Make a tiny decoder with weights of 8 bits, and adapters of full precision."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = LlamaConfig(vocab_size=40, pad_token_id=1, num_labels=3, max_position_embeddings=16, **sizes)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    loading = TorchAoConfig(Int8WeightOnlyConfig())
    base = AutoModelForSequenceClassification.from_pretrained(folder, quantization_config=loading, dtype=torch.float32)
    assert isinstance(base.model.layers[0].mlp.up_proj.weight, Int8Tensor)
    return get_peft_model(base, LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"], r=2))


def rows() -> list[dict[str, Any]]:
    torch.manual_seed(1)
    ids = torch.randint(5, 40, (8, 7))
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": k % 3} for k, row in enumerate(ids)]


pytestmark = pytest.mark.slow  # not for its time: torchao writes into the output of every command


@pytest.mark.parametrize("method", ["embedding", "manifold", "sentence"])
def test_adapters_over_a_quantised_base_learn_from_mixed_batches(method: str, tmp_path: Path, arguments: Any) -> None:
    model = quantised(tmp_path)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer = MixupTrainer(model, arguments(max_steps=2), mixup=method, train_dataset=rows())
    trainer.train()  # after the exchange of two rows has shown that it is exact
    for name, parameter in model.named_parameters():
        if "lora_A" in name or not parameter.requires_grad:  # B begins at 0, and A has no gradient until it moved
            continue
        assert not torch.equal(parameter, before[name]), name
    layer = model.base_model.model.model.layers[0].mlp.up_proj.weight
    assert isinstance(layer, Int8Tensor)
    assert not layer.requires_grad


def test_a_quantised_model_is_blended_where_a_whole_one_is(tmp_path: Path) -> None:
    model = quantised(tmp_path).eval()
    batch = {key: torch.stack([torch.as_tensor(row[key]) for row in rows()]) for key in rows()[0]}
    partner, table = torch.arange(8).roll(1), model.get_input_embeddings()
    with Mixup("embedding")(model, batch, partner=partner, lam=0.3) as mixed:
        found = model(**mixed.inputs).logits
    vectors = table(batch["input_ids"])
    blended = 0.3 * vectors + 0.7 * vectors[partner]
    expected = model(inputs_embeds=blended, attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(found, expected)
