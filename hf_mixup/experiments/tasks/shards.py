"""The shards of a stream: found by name, pattern or address, and read one after the other by `datasets`."""

from __future__ import annotations

import tarfile
import warnings
import zlib
from collections.abc import Iterable, Iterator
from glob import glob
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import aiohttp
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetsError

from hf_mixup.experiments.tasks.paths import BUILDERS
from hf_mixup.experiments.tasks.streaming import is_pattern
from hf_mixup.utils.suggest import shortened

SHARD, ROW = "__shard__", "__row__"  # of a row: the shard that it is from, and its number there
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
KINDS = ("parquet", "json", "csv", "webdataset")
# What the readers of these formats, of archives and of addresses raise.
_UNREADABLE = (
    *(DatasetsError, ValueError, OSError, EOFError, KeyError, StopIteration),
    *(pa.ArrowException, tarfile.TarError, zlib.error, aiohttp.ClientError),
)
_LONGEST = 300  # characters of a library's reason


class StreamError(ValueError):
    """A stream that cannot go on.

    A loader's worker hands an error over with its whole traceback, of which the message is left.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class Shard(NamedTuple):
    """A file of a stream.

    Attributes:
        path: a path or an address.
        kind: what `datasets` calls its format, one of `KINDS`.
        begin, end: rows that are read, None for all to the end.
    """

    path: str
    kind: str
    begin: int = 0
    end: int | None = None


class Source(NamedTuple):
    """The shards of a dataset by split, and the features that its files tell, None where they tell none."""

    splits: dict[str, list[Shard]]
    features: Features | None


def kind_of_shard(path: str) -> str | None:
    """Return what `datasets` calls a kind of shard by its ending; None for any other file.

    >>> kind_of_shard("https://host/part-0.jsonl.gz?version=2"), kind_of_shard("part-0.tar"), kind_of_shard("a.png")
    ('json', 'webdataset', None)
    """
    name = PurePosixPath(path.partition("?")[0] if "://" in path else path)
    name = name.with_suffix("") if name.suffix in _COMPRESSED else name
    return {**BUILDERS, ".tar": "webdataset"}.get(name.suffix)


def find_shards(name: str, config: str | None, train_split: str) -> Source:
    """Return the shards of a folder, of a dataset of the Hub, of a file, a pattern of files or an address.

    The files of a pattern are of the training split; in folders, names tell the splits, as `datasets` has it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an address that cannot be reached, or files of a format that is not streamed.
    """
    single = is_pattern(name) or Path(name).is_file()
    kind = kind_of_shard(name) if single else name
    if kind is None:
        raise ValueError(f"{name}: cannot stream such files: .parquet, .jsonl, .json, .csv and .tar are streamed")
    if single and "://" not in name and not glob(name):
        raise FileNotFoundError(f"no such dataset: {name}")
    try:
        if single:
            builder = load_dataset_builder(kind, data_files={train_split: name})
        else:
            builder = load_dataset_builder(name, config)
    except _UNREADABLE as error:
        raise ValueError(f"{name} cannot be reached: {reason_of(error)}") from error
    if builder.name not in KINDS:
        raise ValueError(f"{name} holds {builder.name} data, which is not streamed: write it to Parquet or tar shards")
    files: Any = builder.config.data_files
    splits = {str(split): [Shard(str(path), builder.name) for path in paths] for split, paths in files.items()}
    return Source(splits, builder.info.features)


def open_shard(shard: Shard, columns: list[str] | None = None) -> IterableDataset:
    """Return the rows of a shard as they are stored, images and audio not decoded."""
    chosen: dict[str, Any] = {"columns": columns} if columns and shard.kind == "parquet" else {}
    rows: Any = load_dataset(shard.kind, data_files=[shard.path], split="train", streaming=True, **chosen)
    return rows.decode(False) if rows.features else rows


def read_shards(
    shards: Iterable[Shard], skip_bad: bool = False, columns: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of shards, with `SHARD` and `ROW`.

    Args:
        skip_bad: go on with the next shard where one cannot be read further, with a warning.
        columns: the only ones that are needed; other ones may come all the same.

    Raises:
        StreamError: for a shard that cannot be read, naming it and the row.
    """
    for shard in shards:
        number = shard.begin
        try:
            # Not by `iter()`: that gives each worker a part, and this shard is the worker's own.
            rows = open_shard(shard, columns).iter(batch_size=1)
            for row in islice(rows, shard.begin, shard.end):
                yield {**{name: value for name, (value,) in row.items()}, SHARD: shard.path, ROW: number}
                number += 1
        except _UNREADABLE as error:
            told = f"{shard.path}: the shard cannot be read behind row {number}: {reason_of(error)}"
            if not skip_bad:
                raise StreamError(f"{told}; mend it, or go on without its rest with on_bad_shard=skip") from error
            warnings.warn(f"{told}; its rest is skipped", stacklevel=2)


def features_of(shards: list[Shard], rows: list[dict[str, Any]]) -> Features:
    """Return the features of a stream: those that its first shard tells, else those of its first rows."""
    told: Any = load_dataset(shards[0].kind, data_files=[shards[0].path], split="train", streaming=True)
    if told.features is not None:
        return told.features
    plain = [{name: value for name, value in row.items() if name not in (SHARD, ROW)} for row in rows]
    return Dataset.from_list(plain).features


def reason_of(error: BaseException) -> str:
    """Return in one line why something cannot be read: what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return shortened(f"{type(error).__name__}: {text}" if text else type(error).__name__, _LONGEST)
