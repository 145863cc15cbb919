"""Adapters of PEFT: those that leave rows, places and loss alone are mixed exactly, the others are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_mixup import Mixup, MixupConfig
from tests.conftest import CLASSES, build
from tests.entry_points import ENTRY_POINTS
from tests.integrations.parts import QUIET, SMALL

peft = pytest.importorskip("peft")
PARTNER = torch.tensor([1, 0, 3, 2])
PROMPT = {"num_virtual_tokens": 3}
CONFIGS: dict[str, Any] = {
    "lora": lambda task: peft.LoraConfig(task_type=task, r=2),
    "dora": lambda task: peft.LoraConfig(task_type=task, r=2, use_dora=True),
    "vera": lambda task: peft.VeraConfig(task_type=task, r=2),
    "loha": lambda task: peft.LoHaConfig(task_type=task, r=2),
    "ia3": lambda task: peft.IA3Config(task_type=task, feedforward_modules=[]),
    "ln": lambda task: peft.LNTuningConfig(task_type=task),
    "tokens": lambda task: peft.TrainableTokensConfig(task_type=task, token_indices=[4, 5]),
    "adaption": lambda task: peft.AdaptionPromptConfig(task_type=task, adapter_len=3, adapter_layers=1),
    "prompt": lambda task: peft.PromptTuningConfig(task_type=task, **PROMPT),
    "p": lambda task: peft.PromptEncoderConfig(task_type=task, encoder_hidden_size=16, **PROMPT),
    "prefix": lambda task: peft.PrefixTuningConfig(task_type=task, **PROMPT),
    "adalora": lambda task: peft.AdaLoraConfig(task_type=task, total_step=10),
    "poly": lambda task: peft.PolyConfig(task_type=task, r=2),
    "multitask": lambda task: peft.MultitaskPromptTuningConfig(task_type=task, num_tasks=2, num_ranks=1, **PROMPT),
}
T5 = {"vocab_size": 63, "decoder_start_token_id": 0, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2}
BASES: dict[str, Any] = {
    "SEQ_CLS": lambda: LlamaForSequenceClassification(LlamaConfig(**SMALL, num_labels=CLASSES)),
    "BERT": lambda: build("bert"),
    "CAUSAL_LM": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "SEQ_2_SEQ_LM": lambda: T5ForConditionalGeneration(T5Config(**T5, num_heads=2, dropout_rate=0.0)),
}
ORDINARY = ["lora", "dora", "vera", "loha", "ia3", "ln", "tokens"]
MIXED = [
    *((name, task) for name in ORDINARY for task in BASES if (name, task) != ("ln", "BERT")),  # not in PEFT
    ("adaption", "CAUSAL_LM"),
    *((name, task) for name in ("prompt", "p") for task in ("SEQ_CLS", "BERT", "SEQ_2_SEQ_LM")),
    ("prefix", "CAUSAL_LM"),
    ("prefix", "SEQ_2_SEQ_LM"),
]
REFUSED = [
    *((name, "CAUSAL_LM", "puts 3 tokens before each sample") for name in ("prompt", "p")),
    ("adalora", "SEQ_CLS", "ADALORA adds a loss on its own weights"),
    ("poly", "SEQ_CLS", "POLY gives each sample the weights of its task"),
    ("multitask", "SEQ_CLS", "MULTITASK_PROMPT_TUNING gives each sample the weights of its task"),
]


def adapted(name: str, task: str) -> Any:
    torch.manual_seed(0)
    base = BASES[task]()
    with torch.no_grad():
        for parameter in base.parameters():
            if parameter.dim() > 1 and task != "BERT":
                parameter.mul_(6)
    config = CONFIGS[name]("SEQ_CLS" if task == "BERT" else task)
    if name in (*ORDINARY[:5], "adalora", "poly"):
        config.target_modules = {"BERT": {"query", "value"}, "SEQ_2_SEQ_LM": {"q", "v"}}.get(task, {"q_proj", "v_proj"})
    return peft.get_peft_model(base, config)


def batch_for(task: str) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    ids, mask = torch.randint(3, 60, (4, 10), generator=g), torch.ones(4, 10, dtype=torch.long)
    mask[1, 6:], mask[3, 4:] = 0, 0
    labels = {"CAUSAL_LM": torch.where(mask > 0, ids, -100), "SEQ_2_SEQ_LM": ids[:, :6].clone()}
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels.get(task, torch.arange(4))}


@pytest.mark.parametrize(("name", "task"), MIXED)
def test_the_other_end_is_the_models_own_loss(name: str, task: str) -> None:
    model, batch = adapted(name, task).eval(), batch_for(task)
    own = float(model(**batch).loss.detach())
    with Mixup("embedding")(model, batch, partner=PARTNER, lam=0.0) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    assert float(loss.detach()) == pytest.approx(own, rel=1e-4)
    loss.backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("name", "task", "why"), REFUSED)
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_what_cannot_be_mixed_is_refused_by_name(
    entry_point: str, name: str, task: str, why: str, arguments: Any
) -> None:
    batch = batch_for(task)
    rows = [{key: value[row] for key, value in batch.items()} for row in range(4)]
    model = adapted(name, task)
    with pytest.raises(ValueError, match=rf"^the adapter .*{why}.*Use LoRA"):
        ENTRY_POINTS[entry_point](model, arguments(max_steps=1), MixupConfig("embedding"), train_dataset=rows).train()
    with pytest.raises(ValueError, match=why):
        Mixup("manifold")(model, batch)


@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_prompts_before_a_fused_head(entry_point: str, tmp_path: Any) -> None:
    trl = pytest.importorskip("trl")
    from tests.integrations.test_sft import MixupCallback, MixupSFTTrainer, data, tiny, tokenizer

    args = trl.SFTConfig(str(tmp_path), **QUIET)
    shared = {"args": args, "train_dataset": data(), "processing_class": tokenizer()}
    shared["peft_config"] = CONFIGS["prefix"]("CAUSAL_LM")

    def train() -> None:
        if entry_point == "mixin":
            MixupSFTTrainer(tiny(LlamaForCausalLM), mixup="embedding", **shared)
        else:
            trl.SFTTrainer(tiny(LlamaForCausalLM), callbacks=[MixupCallback("embedding")], **shared).train()

    with pytest.raises(ValueError, match="the adapter PREFIX_TUNING puts 3 tokens before each sample"):
        train()
