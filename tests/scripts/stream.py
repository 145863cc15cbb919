"""Train in two processes on what one of them would have to hand out: boxes, masks, rows without labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainingArguments, set_seed

from hf_mixup import MixupCollator, MixupConfig
from hf_mixup.experiments.tasks.prepare import make_trainer, prepare
from hf_mixup.experiments.tasks.stream import Batches
from tests.conftest import build, examples
from tests.detectors import CLASSES, SIDE, build_detector
from tests.entry_points import ENTRY_POINTS
from tests.instance_models import build as build_segmenter
from tests.instance_models import instances
from tests.shards import captioned, pair_task, table_task, tables, tars


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


def shares(folder: str, sizes: list[int]) -> dict[str, Any]:
    """Read and train on shards with two workers a process; return the ids that each process reads in a pass."""
    path = Path(folder) / f"shards-{len(sizes)}"
    if torch.distributed.get_rank() == 0:
        tables(path, sizes)
    torch.distributed.barrier()
    args = arguments(folder, 2, dataloader_num_workers=2, max_steps=9, average_tokens_across_devices=True)
    task = table_task(path / "*.parquet", validation_samples=2, shuffle_buffer=4)
    prepared = prepare(task)
    stream = replace(prepared.train, prepare=just_ids)
    seen: list[int] = []
    for batch in stream.loader(args, list):
        if set(batch) & set(seen):
            break
        seen += batch
    args.dataloader_drop_last = True  # neighbours are blended, of which an odd batch has one without
    torch.manual_seed(0)
    trainer = make_trainer(prepared, prepared.build_model(), args, MixupConfig("tabular", lam=0.3))
    trainer.train()
    weights = torch.cat([each.detach().flatten() for each in trainer.model.parameters()])  # type: ignore[union-attr]
    found: list[Any] = [None, None]
    torch.distributed.all_gather_object(found, (seen, weights))
    return {
        "ids": [ids for ids, _ in found],
        "weights": [held for _, held in found],
        "steps": trainer.state.global_step,
    }


def pairs(folder: str, rows: int) -> dict[str, Any]:
    """Train on pairs of a stream, and on the same samples in memory, handed out to both processes in the same order."""
    path = Path(folder) / "pairs"
    if torch.distributed.get_rank() == 0:
        tars(path, 4, captioned(28))
    torch.distributed.barrier()
    args, steps = arguments(folder, rows, max_steps=3, remove_unused_columns=False), 3
    prepared = prepare(pair_task(path / "*.tar", validation_samples=4, shuffle_buffer=4))
    own = list(islice(Batches(prepared.train, args, list), steps))
    found: list[Any] = [None, None]
    torch.distributed.all_gather_object(found, own)
    in_turn = [sample for batches in zip(*found, strict=True) for batch in batches for sample in batch]
    weights = []
    for train in (prepared.train, in_turn):
        set_seed(0)
        made = replace(prepared, train=train)
        trainer = make_trainer(made, prepared.build_model(), args, MixupConfig("cross_modal", chunk_size=2))
        trainer.train()
        weights.append(torch.cat([each.detach().flatten() for each in trainer.model.parameters()]))  # type: ignore[union-attr]
    set_seed(0)
    first = torch.cat([each.detach().flatten() for each in prepared.build_model().parameters()])
    return {"streamed": weights[0], "held": weights[1], "first": first}


def just_ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]
