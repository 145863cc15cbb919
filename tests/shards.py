"""Shards of rows for tests of streams."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image, Value

from hf_mixup.data import load_emoji
from hf_mixup.experiments.tasks import TaskArguments

FEATURES = Features({"id": Value("int64"), "x": Value("float32"), "label": ClassLabel(names=["even", "odd"])})


def tables(folder: Path, sizes: Sequence[int], first: int = 0, name: str = "part") -> list[Path]:
    """Write Parquet shards of so many rows each, whose ids count on from one to the next."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, size in enumerate(sizes):
        paths.append(folder / f"{name}-{number:03d}.parquet")
        Dataset.from_dict(numbered(first, size), features=FEATURES).to_parquet(paths[-1])
        first += size
    return paths


def numbered(first: int, size: int) -> dict[str, list[Any]]:
    """Return rows with an id, a number and a class each."""
    ids = list(range(first, first + size))
    return {"id": ids, "x": [float(each % 7) for each in ids], "label": [each % 2 for each in ids]}


def table_task(dataset: Path | str, **settings: Any) -> Any:
    """Return a task that streams such shards."""
    shape = {"task": "tabular-classification", "numerical_columns": ["x"], "categorical_columns": []}
    return TaskArguments(**{**shape, "streaming": True, "dataset": str(dataset), **settings})


def captioned(count: int) -> Dataset:
    """Return emoji with captions, not decoded."""
    rows = load_emoji("image-text")["train"].select(range(count)).select_columns(["image", "caption"])
    return rows.cast_column("image", Image(decode=False))


def tars(folder: Path, shards: int, rows: Dataset) -> list[Path]:
    """Write images and captions to tar shards, as WebDataset has them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"pairs-{number}.tar" for number in range(shards)]
    for number, path in enumerate(paths):
        part = rows.shard(shards, number, contiguous=True)
        tar(
            path,
            {
                f"{number}{place:04d}": {"png": row["image"]["bytes"], "txt": row["caption"].encode()}
                for place, row in enumerate(part)
            },
        )
    return paths


def tar(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> Path:
    """Write samples, of several files each."""
    with tarfile.open(path, "w") as archive:
        for name, files in samples.items():
            for ending, content in files.items():
                entry = tarfile.TarInfo(f"{name}.{ending}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


def pair_task(dataset: Path | str, **settings: Any) -> Any:
    """Return a task that streams such pairs to a tiny dual encoder."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = {"projection_dim": 8, "text_config": sizes, "vision_config": {**sizes, "patch_size": 16}}
    shape = {"task": "image-text", "model_type": "clip", "image_size": 32, "config_overrides": model}
    columns = {"image_column": "png", "caption_column": "txt"}
    return TaskArguments(**{**shape, **columns, "streaming": True, "dataset": str(dataset), **settings})


def lines(path: Path, rows: dict[str, list[Any]]) -> Path:
    """Write rows as JSON lines."""
    each = ({name: values[place] for name, values in rows.items()} for place in range(len(next(iter(rows.values())))))
    path.write_text("".join(f"{json.dumps(row)}\n" for row in each))
    return path
