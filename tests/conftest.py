"""Tiny models built from configs, and batches to feed them."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach a hub

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    PreTrainedModel,
    ResNetConfig,
    TrainingArguments,
    ViTConfig,
)

CLASSES = 4

torch.set_num_threads(1)  # tiny models gain nothing from threads, and lose much when cores are shared

CONFIGS: dict[str, Any] = {
    "resnet": lambda **kw: ResNetConfig(
        hidden_sizes=[8, 12], depths=[1, 1], embedding_size=8, layer_type="basic", num_labels=CLASSES, **kw
    ),
    "vit": lambda **kw: ViTConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        num_labels=CLASSES,
        **kw,
    ),
    "bert": lambda **kw: BertConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=60,
        max_position_embeddings=32,
        num_labels=CLASSES,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **kw,
    ),
    "distilbert": lambda **kw: DistilBertConfig(
        dim=16,
        n_layers=3,
        n_heads=2,
        hidden_dim=32,
        vocab_size=60,
        max_position_embeddings=32,
        num_labels=CLASSES,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
        **kw,
    ),
}
TEXT_MODELS = ("bert", "distilbert")


def build(name: str, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """Build a tiny model with weights large enough that its rows score apart."""
    torch.manual_seed(seed)
    auto = AutoModelForSequenceClassification if name in TEXT_MODELS else AutoModelForImageClassification
    model = auto.from_config(CONFIGS[name](**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4 if name != "resnet" else 1)
    return model


def examples(name: str, rows: int, seed: int = 1, lengths: bool = False) -> list[dict[str, Any]]:
    """Make rows as a data set holds them; with `lengths`, texts of different length, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for row in range(rows):
        label = int(torch.randint(CLASSES, (), generator=generator))
        if name in TEXT_MODELS:
            ids = torch.randint(3, 60, (10,), generator=generator)
            mask = torch.ones(10, dtype=torch.long)
            if lengths:
                length = 3 + (row * 3) % 8
                ids[length:], mask[length:] = 0, 0
            made.append({"input_ids": ids, "attention_mask": mask, "labels": label})
        else:
            made.append({"pixel_values": torch.randn(3, 16, 16, generator=generator), "labels": label})
    return made


def batch_of(name: str, rows: int = 6, **kwargs: Any) -> dict[str, torch.Tensor]:
    """Collate `examples`."""
    made = examples(name, rows, **kwargs)
    return {key: torch.as_tensor([r[key] for r in made]) if key == "labels" else torch.stack([r[key] for r in made])
            for key in made[0]}  # fmt: skip


@pytest.fixture
def arguments(tmp_path: Any) -> Any:
    """Make quiet TrainingArguments on the CPU."""

    def make(**settings: Any) -> TrainingArguments:
        quiet = {
            "output_dir": str(tmp_path / "out"),
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            "save_strategy": "no",
            "logging_strategy": "no",
            "per_device_train_batch_size": 4,
            "num_train_epochs": 1,
            "learning_rate": 1e-2,
        }
        return TrainingArguments(**{**quiet, **settings})

    return make
