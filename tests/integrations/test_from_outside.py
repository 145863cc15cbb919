"""Trainers with a loss of their own behind a callback or a collator: what the error names, and ways out that work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard
from transformers import BertConfig, BertModel, LlamaForCausalLM, LlamaForSequenceClassification

from hf_mixup import MixupCallback, MixupCollator, MixupConfig
from tests.integrations.parts import QUIET, WORDS, logged, text, tiny, tokenizer

trl = pytest.importorskip("trl")
st = pytest.importorskip("sentence_transformers")


def rows(*columns: str, count: int = 8) -> Dataset:
    g = torch.Generator().manual_seed(0)
    return Dataset.from_list([{name: text(g) + " " for name in columns} for _ in range(count)])


def mixing(entry: str, model: Any) -> dict[str, Any]:
    if entry == "callback":
        return {"callbacks": [MixupCallback("embedding")]}
    return {"data_collator": MixupCollator(tokenizer(), mixup="embedding", model=model)}


def train(trainer: Any) -> Any:
    trainer.train()
    return trainer


def sft(tmp: Path, entry: str) -> Any:
    model, args = tiny(LlamaForCausalLM), trl.SFTConfig(str(tmp), **{**QUIET, "max_steps": 1})
    shared = {"train_dataset": rows("prompt", "completion"), "processing_class": tokenizer()}
    return train(trl.SFTTrainer(model, args=args, **shared, **mixing(entry, model)))


def reward(tmp: Path, entry: str) -> Any:
    model = tiny(LlamaForSequenceClassification, num_labels=1)
    args = trl.RewardConfig(str(tmp), **{**QUIET, "max_steps": 1})
    shared = {"train_dataset": rows("prompt", "chosen", "rejected"), "processing_class": tokenizer()}
    return train(trl.RewardTrainer(model, args=args, **shared, **mixing(entry, model)))


def dpo(tmp: Path, entry: str) -> Any:
    model, args = tiny(LlamaForCausalLM), trl.DPOConfig(str(tmp), **{**QUIET, "max_steps": 1})
    shared = {"train_dataset": rows("prompt", "chosen", "rejected"), "processing_class": tokenizer()}
    return train(trl.DPOTrainer(model, tiny(LlamaForCausalLM), args=args, **shared, **mixing(entry, model)))


def grpo(tmp: Path, entry: str) -> Any:
    model, args = tiny(LlamaForCausalLM), trl.GRPOConfig(str(tmp), **{**QUIET, "max_steps": 1, "num_generations": 2})
    shared = {"train_dataset": rows("prompt"), "processing_class": tokenizer()}
    same = lambda completions, **given: [0.0] * len(completions)  # noqa: E731
    return train(trl.GRPOTrainer(model, reward_funcs=same, args=args, **shared, **mixing(entry, model)))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("bert"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=WORDS + 3, max_position_embeddings=32, **sizes)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def sentences(tmp: Path, path: str, entry: str) -> Any:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    from hf_mixup.integrations.sentence_transformers import MixedNegativesRankingLoss

    model = st.SentenceTransformer(modules=[Transformer(path), Pooling(16)], device="cpu")
    args = st.SentenceTransformerTrainingArguments(str(tmp), **{**QUIET, "save_strategy": "steps", "save_steps": 3})
    mixed = MixedNegativesRankingLoss(model, {"lam": 0.6}) if entry == "loss" else None
    loss, extra = mixed or MultipleNegativesRankingLoss(model), {} if mixed else mixing(entry, model)
    data = rows("anchor", "positive", count=16)
    return train(st.SentenceTransformerTrainer(model, args, data, loss=loss, **extra))


@pytest.mark.parametrize(
    ("make", "entry", "message"),
    [
        (dpo, "callback", "^DPOTrainer compares answers"),
        (dpo, "collator", "^DPOTrainer compares answers"),
        (grpo, "callback", "^GRPOTrainer compares answers"),
        (sft, "collator", "^SFTTrainer computes its loss itself.*use MixupCallback, or class MixupSFTTrainer"),
        (reward, "collator", "^RewardTrainer computes its loss itself.*use MixupCallback, or class MixupRewardTrainer"),
    ],
)
def test_trainers_of_trl(make: Any, entry: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path, entry)


@pytest.mark.parametrize("make", [sft, reward])
def test_the_way_out_of_those_logs_saves_and_documents(make: Any, tmp_path: Path) -> None:
    trainer = make(tmp_path, "callback")
    trainer.save_model()
    trainer.create_model_card()
    assert logged(trainer, "mixup_rate") == [[1.0]]
    assert MixupConfig.from_pretrained(tmp_path) == MixupConfig("embedding")
    assert "Trained with **Embedding" in ModelCard.load(tmp_path / "README.md").text


@pytest.mark.parametrize("entry", ["callback", "collator"])
def test_sentence_transformers(entry: str, path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"SentenceTransformer.*loss=MixedNegativesRankingLoss\(model\)"):
        sentences(tmp_path, path, entry)


def test_the_loss_for_sentences_needs_no_callback(path: str, tmp_path: Path) -> None:
    trainer = sentences(tmp_path, path, "loss")
    assert logged(trainer, "mixup_rate", "mixup_lam") == [[1.0, pytest.approx(0.6)]] * 3
    assert MixupConfig.from_pretrained(os.path.join(tmp_path, "checkpoint-3")).lam == 0.6
    trainer.create_model_card()
    assert "Trained with **Mixup**" in ModelCard.load(tmp_path / "README.md").text
