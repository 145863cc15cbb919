"""Train in two processes on what one of them would have to hand out: boxes, masks, rows without labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainingArguments

from hf_mixup import MixupCollator, MixupConfig
from tests.conftest import build, examples
from tests.detectors import CLASSES, SIDE, build_detector
from tests.entry_points import ENTRY_POINTS
from tests.instance_models import build as build_segmenter
from tests.instance_models import instances


class Images(IterableDataset[dict[str, Any]]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        g = torch.Generator().manual_seed(0)
        for number in range(16):
            count = 1 + number % 3
            boxes = torch.rand(count, 4, generator=g) * 0.3 + 0.3
            labels = {"class_labels": torch.randint(CLASSES, (count,), generator=g), "boxes": boxes}
            yield {"pixel_values": torch.randn(3, SIDE, SIDE, generator=g), "labels": labels}


def gathered_pixels(rows: list[dict[str, Any]]) -> torch.Tensor:
    return torch.stack([row["pixel_values"] for row in rows])


def gathered(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"pixel_values": gathered_pixels(rows), "labels": [r["labels"] for r in rows]}


def outcome(trainer: Trainer) -> dict[str, Any]:
    """Train, and return what was raised, or the weights."""
    try:
        trainer.train()
    except ValueError as error:
        return {"error": str(error)}
    return {"error": "", "weights": trainer.accelerator.unwrap_model(trainer.model).state_dict()}


def arguments(folder: str, rows: int, **settings: Any) -> TrainingArguments:
    quiet: dict[str, Any] = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "save_strategy": "no"}
    quiet |= {"optim": "sgd", "learning_rate": 1e-2, "max_steps": 2, "train_sampling_strategy": "sequential"}
    return TrainingArguments(folder, per_device_train_batch_size=rows, **{**quiet, **settings})


def boxes(folder: str, entry_point: str, rows: int, dispatch: bool | None) -> dict[str, Any]:
    settings = {} if dispatch is None else {"accelerator_config": {"dispatch_batches": dispatch}}
    args = arguments(folder, rows, remove_unused_columns=False, **settings)
    model, config, data = build_detector("detr"), MixupConfig("mixup", lam=0.3), Images()
    if entry_point == "collator":
        collator = MixupCollator(gathered, config, model=model)
        return outcome(Trainer(model, args, data_collator=collator, train_dataset=data))
    return outcome(ENTRY_POINTS[entry_point](model, args, config, train_dataset=data, data_collator=gathered))


class Segments(IterableDataset[dict[str, Any]]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        batch = instances("maskformer", 16)
        yield from (dict(zip(batch, values)) for values in zip(*batch.values()))


def stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {**{key: [row[key] for row in rows] for key in rows[0]}, "pixel_values": gathered_pixels(rows)}


def masks(folder: str, entry_point: str, rows: int, dispatch: bool | None) -> dict[str, Any]:
    """Train with a coin for each batch, which falls otherwise in each process."""
    settings = {} if dispatch is None else {"accelerator_config": {"dispatch_batches": dispatch}}
    args = arguments(folder, rows, remove_unused_columns=False, **{"max_steps": 4, **settings})
    model, config = build_segmenter("maskformer"), MixupConfig("mixup", prob=0.5)
    return outcome(ENTRY_POINTS[entry_point](model, args, config, train_dataset=Segments(), data_collator=stacked))


def unlabelled(folder: str, entry_point: str, ignored: int, **settings: Any) -> dict[str, Any]:
    """Train on rows of which the first few have a label that is ignored: those of the first process."""
    rows = examples("bert", 16)
    for row in rows[:ignored]:
        row["labels"] = -100
    return outcome(
        ENTRY_POINTS[entry_point](
            build("bert"), arguments(folder, 2, **settings), MixupConfig("embedding"), train_dataset=rows
        )
    )
