"""Classes that differ in contrast only, of which blends have less: the story of the fabric photographs, synthetic."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch.optim.swa_utils import update_bn
from transformers import PreTrainedModel, ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

from hf_mixup import MixupConfig
from tests.entry_points import ENTRY_POINTS

Rows = list[dict[str, Any]]


def contrasts(rows: int, seed: int = 0) -> Rows:
    """Make images of noise, of 0.5, 1.0 or 1.5 times its strength."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    images = torch.randn(rows, 3, 16, 16, generator=rng) * (0.5 + 0.5 * labels)[:, None, None, None]
    return [{"pixel_values": image, "labels": int(label)} for image, label in zip(images, labels)]


def resnet(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_sizes": [8, 12], "depths": [1, 1], "embedding_size": 8, "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(num_labels=3, **sizes))


def batch_of(rows: Rows) -> dict[str, torch.Tensor]:
    return {key: torch.stack([torch.as_tensor(row[key]) for row in rows]) for key in rows[0]}


@torch.no_grad()
def clean_loss(model: PreTrainedModel, rows: Rows) -> float:
    return float(model.eval()(**batch_of(rows)).loss)


def arguments(folder: str, **settings: Any) -> TrainingArguments:
    quiet: dict[str, Any] = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "save_strategy": "no"}
    quiet |= {"per_device_train_batch_size": 32, "max_steps": 48, "learning_rate": 1e-2}
    return TrainingArguments(folder, **{**quiet, **settings})


def trained(
    folder: str, entry_point: str = "trainer", refresh: bool = True, model: Any = None, rows: Any = None, **kwargs: Any
) -> Trainer:
    """Train a small ResNet; `resume` names a checkpoint, `callbacks` those of the Trainer, all else its arguments."""
    resume = kwargs.pop("resume", None)
    others = {name: kwargs.pop(name) for name in ("callbacks", "mixup") if name in kwargs}
    config = MixupConfig(**{"alpha": 4, "refresh_batch_norm": refresh, **others.pop("mixup", {})})
    others |= {"train_dataset": contrasts(96) if rows is None else rows, "eval_dataset": contrasts(24, seed=1)}
    trainer = ENTRY_POINTS[entry_point](model or resnet(), arguments(folder, **kwargs), config, **others)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def by_torch(model: PreTrainedModel, rows: Rows) -> PreTrainedModel:
    """Return a copy with the statistics of all samples as one batch, by torch's own function."""
    copied = deepcopy(model)
    update_bn([batch_of(rows)["pixel_values"]], copied)
    return copied


def contrast(folder: str, entry_point: str, rows: int) -> dict[str, Any]:
    """Train; return the statistics of each process, those that torch finds for these weights, and what both score."""
    data, test = contrasts(192), contrasts(192, seed=1)
    trainer = trained(folder, entry_point, rows=data, per_device_train_batch_size=rows)
    model = trainer.accelerator.unwrap_model(trainer.model)
    models = [model, by_torch(model, data)]
    held, expected = (
        torch.cat([value.double() for name, value in each.named_buffers() if "running" in name]) for each in models
    )
    losses = [clean_loss(each, test) for each in models]
    return {"held": trainer.accelerator.gather(held[None]), "expected": expected, "losses": losses}
