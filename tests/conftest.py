"""Tiny models built from configs, and batches to feed them."""

from __future__ import annotations

import gc
import multiprocessing
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach a hub

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    CLIPConfig,
    CLIPModel,
    DistilBertConfig,
    PreTrainedModel,
    ResNetConfig,
    TrainingArguments,
    ViTConfig,
)

from tests import ragged_models, streams
from tests.browser import start

CLASSES = 4
LONG = (
    "test_distributed.py",
    "test_recipes.py",
    "test_notebooks.py",
    "test_architectures.py",
    "test_reach.py",
    "test_pair_training.py",
    "test_gradient_cache.py",
    "test_invariants.py",
    "test_own_loss_everywhere.py",
    "test_dense_training.py",
    "test_compare.py",
    "test_dual_encoders.py",
    "test_compiled_text.py",
    "test_others.py",
    "test_sft.py",
)

# From Python 3.14 on each worker of a data loader would import anew what its collator needs.
multiprocessing.set_forkserver_preload(["hf_mixup.integrations.collator"])
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
# A run of the command line that takes a second.
TINY_RUN: dict[str, Any] = {
    "task": "image-classification",
    "image_size": 16,
    "max_train_samples": 24,
    "max_eval_samples": 12,
    "model_type": "resnet",
    "config_overrides": {"layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]},
    "max_steps": 2,
    "per_device_train_batch_size": 8,
    "report_to": "none",
    "use_cpu": True,
}
TEXT_MODELS = ("bert", "distilbert")
BOS, EOS = 58, 59
CLIP = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def build(name: str, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """Build a tiny model with weights large enough that its rows score apart."""
    torch.manual_seed(seed)
    if name in streams.BY_NAME:
        return streams.without_dropout(streams.BY_NAME[name]()[0])
    if name in ragged_models.BUILD:
        return enlarged(ragged_models.BUILD[name](), 3)
    if name == "clip":
        return enlarged(build_clip(**settings), 4)
    return enlarged(auto_of(name).from_config(CONFIGS[name](**settings)), 1 if name == "resnet" else 4)


@torch.no_grad()
def enlarged(model: PreTrainedModel, factor: int) -> PreTrainedModel:
    """Multiply the weights of all layers in place."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(factor)
    return model


def auto_of(name: str) -> Any:
    return AutoModelForSequenceClassification if name in TEXT_MODELS else AutoModelForImageClassification


def build_clip(dropout: float = 0.0, **settings: Any) -> CLIPModel:
    """Build a tiny dual encoder; its captions end at EOS."""
    text = {**CLIP, "vocab_size": 60, "max_position_embeddings": 16, "bos_token_id": BOS, "eos_token_id": EOS}
    text |= {"pad_token_id": 0, "attention_dropout": dropout}
    vision = {**CLIP, "image_size": 16, "patch_size": 8, "attention_dropout": dropout}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12, **settings))


def pairs(rows: int, generator: torch.Generator) -> list[dict[str, Any]]:
    """Make rows of image and caption, the captions of different length."""
    made = []
    for row in range(rows):
        end = 3 + (row * 3) % 7
        ids, mask = torch.zeros(10, dtype=torch.long), torch.zeros(10, dtype=torch.long)
        ids[1:end] = torch.randint(3, BOS, (end - 1,), generator=generator)
        ids[0], ids[end], mask[: end + 1] = BOS, EOS, 1
        pixels = torch.randn(3, 16, 16, generator=generator)
        made.append({"pixel_values": pixels, "input_ids": ids, "attention_mask": mask})
    return made


def examples(name: str, rows: int, seed: int = 1, lengths: bool = False) -> list[dict[str, Any]]:
    """Make rows as a dataset holds them; with `lengths`, texts of different length, padded on the right."""
    if name in ragged_models.BUILD:
        return ragged_models.rows(name, rows, seed)
    if name in streams.BY_NAME:
        return streams.samples(name, rows, seed)
    generator = torch.Generator().manual_seed(seed)
    if name == "clip":
        return pairs(rows, generator)
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
    return {key: torch.stack([torch.as_tensor(row[key]) for row in made]) for key in made[0]}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that none of them is the last while other processes have no work."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    yield from start()


@pytest.fixture(autouse=True, scope="module")
def imported_objects_stay() -> None:
    """Spare the collector what the libraries hold: each end of training collects, which took half of a tiny run.

    What is frozen stays so: to look at all of it again for each file took half a second a file.
    """
    gc.collect()
    gc.freeze()


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
