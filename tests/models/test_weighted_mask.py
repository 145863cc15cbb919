"""The mask that shows each token as much as its row counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLNetConfig,
)

from hf_mixup import Mixup, MixupConfig
from hf_mixup.models.weighted_mask import additive

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "pad_token_id": 1,
    "num_labels": 3,
}
CONFIGS: list[PreTrainedConfig] = [
    BertConfig(max_position_embeddings=16, **SIZES),
    RobertaConfig(max_position_embeddings=16, **SIZES),
    DistilBertConfig(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32, pad_token_id=1, num_labels=3),
    GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2, pad_token_id=1, num_labels=3),
    LlamaConfig(max_position_embeddings=16, **SIZES),
]
PARTNER = torch.tensor([1, 2, 3, 0])


def model_of(config: PreTrainedConfig, attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1)
    return model.eval()


def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    ids, mask = torch.randint(5, 40, (4, 9)), torch.ones(4, 9, dtype=torch.long)
    for row, length in enumerate([9, 5, 7, 3]):
        ids[row, length:], mask[row, length:] = 1, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 2, 1])}


def logits(model: Any, lam: float, mask: str) -> Tensor:
    with Mixup(MixupConfig("embedding", attention_mask_mode=mask))(model, batch(), partner=PARTNER, lam=lam) as mixed:  # type: ignore[arg-type]
        return model(**mixed.inputs).logits.detach()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_ends_are_exact_and_near_them_is_near(config: PreTrainedConfig, attention: str) -> None:
    model = model_of(config, attention)
    plain = model(**{key: value for key, value in batch().items() if key != "labels"}).logits.detach()
    torch.testing.assert_close(logits(model, 1.0, "weighted"), plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(model, 0.0, "weighted"), plain[PARTNER], rtol=1e-4, atol=1e-5)
    shorter = torch.tensor([1, 3])  # rows with a longer partner: only these see more than their own tokens
    jump, step = (
        (logits(model, 1 - 1e-5, mask)[shorter] - plain[shorter]).abs().max() for mask in ("union", "weighted")
    )
    pools_last = config.model_type in ("gpt2", "llama")  # the last token of the longer row, however little it counts
    assert pools_last or (step < jump / 20 and jump > 1e-3)
    between = logits(model, 0.5, "weighted")
    assert (between - logits(model, 0.5, "union")).abs().max() > 1e-3


def test_it_is_a_weighted_softmax() -> None:
    """Attention with log(w) added to its scores is a mean with weights w * exp(score)."""
    torch.manual_seed(0)
    scores, values, visible = torch.randn(2, 1, 5, 5), torch.randn(2, 1, 5, 3), torch.rand(2, 5)
    visible[0, 2] = 0
    found = (scores + additive(visible, "all", torch.float32)).softmax(-1) @ values
    for row in range(2):
        for query in range(5):
            weights = visible[row] * scores[row, 0, query].exp()
            expected = sum(w * v for w, v in zip(weights, values[row, 0])) / weights.sum()
            torch.testing.assert_close(found[row, 0, query], expected)
    causal = (scores + additive(torch.ones(2, 5), "causal", torch.float32)).softmax(-1)
    assert (causal.triu(1) == 0).all()


def test_equal_lengths_see_no_difference() -> None:
    model, rows = model_of(CONFIGS[0]), batch()
    rows["attention_mask"] = torch.ones_like(rows["attention_mask"])
    found = []
    for mask in ("union", "weighted"):
        with Mixup(MixupConfig("embedding", attention_mask_mode=mask))(model, rows, partner=PARTNER, lam=0.3) as mixed:  # type: ignore[arg-type]
            found.append(model(**mixed.inputs).logits)
    torch.testing.assert_close(found[0], found[1])


def test_what_takes_no_such_mask_is_refused() -> None:
    xlnet = XLNetConfig(vocab_size=40, d_model=16, n_layer=1, n_head=2, d_inner=32, pad_token_id=1, num_labels=3)
    with (
        pytest.raises(ValueError, match="XLNetForSequenceClassification takes no mask"),
        Mixup(MixupConfig("embedding", attention_mask_mode="weighted"))(model_of(xlnet, "eager"), batch()),
    ):
        pass
    flash = model_of(CONFIGS[0])
    flash.config._attn_implementation = "flash_attention_2"
    with (
        pytest.raises(ValueError, match="flash_attention_2 of BertForSequenceClassification does not take"),
        Mixup(MixupConfig("embedding", attention_mask_mode="weighted", self_check=False))(flash, batch()),
    ):
        pass
    with pytest.raises(ValueError, match="attention_mask_mode='weigthed' is not known: did you mean 'weighted'"):
        MixupConfig("embedding", attention_mask_mode="weigthed")  # type: ignore[arg-type]
