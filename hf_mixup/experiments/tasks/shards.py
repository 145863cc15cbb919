"""The shards of a stream: found by name, pattern or address, and read one after the other by `datasets`."""

from __future__ import annotations

import sys
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from glob import glob
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import aiohttp
import pyarrow as pa
from datasets import Dataset, Features, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetsError
from datasets.utils import tqdm

from hf_mixup.experiments.tasks.folders import (
    FOLDERS,
    features_of_folder,
    file_of,
    groups_of,
    is_archive,
    kind_of_archive,
    read_folder,
)
from hf_mixup.experiments.tasks.paths import BUILDERS
from hf_mixup.experiments.tasks.streaming import is_pattern, shown
from hf_mixup.utils.suggest import shortened

SHARD, ROW = "__shard__", "__row__"  # of a row: the shard that it is from, and its number there
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
KINDS = ("parquet", "json", "csv", "webdataset", *FOLDERS)
# What the readers of these formats, of archives and of addresses raise.
_UNREADABLE = (
    *(DatasetsError, ValueError, OSError, EOFError, KeyError, StopIteration),
    *(pa.ArrowException, tarfile.TarError, zipfile.BadZipFile, zlib.error, aiohttp.ClientError),
)
# What the libraries of object stores raise besides, where they are in use.
_OF_STORES = {
    "botocore.exceptions": "BotoCoreError",
    "google.auth.exceptions": "GoogleAuthError",
    "gcsfs.retry": "HttpError",
    "azure.core.exceptions": "AzureError",
}
_LONGEST = 300  # characters of a library's reason


class StreamError(ValueError):
    """A stream that cannot go on.

    A loader's worker hands an error over with its whole traceback, of which the message is left.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class Shard(NamedTuple):
    """A file of a stream, or several of a folder.

    Attributes:
        path: a path or an address; of several files a name for them.
        kind: what `datasets` calls its format, one of `KINDS`.
        begin, end: rows that are read, None for all to the end.
        files: several, one row each.
    """

    path: str
    kind: str
    begin: int = 0
    end: int | None = None
    files: tuple[str, ...] = ()


class Source(NamedTuple):
    """The shards of a dataset by split, and the features that its files tell, None where they tell none."""

    splits: dict[str, list[Shard]]
    features: Features | None


def kind_of_shard(path: str) -> str | None:
    """Return what `datasets` calls a kind of shard by its ending; None for any other file.

    >>> kind_of_shard("https://host/part-0.jsonl.gz?version=2"), kind_of_shard("part-0.tar"), kind_of_shard("a.png")
    ('json', 'webdataset', None)
    """
    name = PurePosixPath(file_of(path))
    name = name.with_suffix("") if name.suffix in _COMPRESSED else name
    return {**BUILDERS, ".tar": "webdataset", ".zip": "imagefolder"}.get(name.suffix)


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
        raise ValueError(
            f"{shown(name)}: cannot stream such files: .parquet, .jsonl, .json, .csv, .tar and .zip are streamed"
        )
    if single and "://" not in name and not glob(name, recursive=True):
        raise FileNotFoundError(f"no such dataset: {name}")
    try:
        if single:
            builder = load_dataset_builder(kind, data_files={train_split: name})
        else:
            builder = load_dataset_builder(name, config)
        found: Any = builder.config.data_files
        files = {str(split): [str(path) for path in paths] for split, paths in found.items()}
        for split, paths in files.items():
            if not paths:
                raise FileNotFoundError(f"there are no files of split {split}")
        first = files[min(files)][0]
        kind = kind_of_archive(first) or builder.name if is_archive(first) else builder.name
    except unreadable() as error:
        raise ValueError(f"{shown(name)} cannot be reached: {reason_of(error)}") from error
    if kind not in KINDS:
        raise ValueError(f"{shown(name)} holds {kind} data, which is not streamed: write it to Parquet or tar shards")
    if kind in FOLDERS:
        splits = {split: _of_folder(shown(name), split, kind, paths) for split, paths in files.items()}
        return Source(splits, features_of_folder(kind))
    splits = {split: [Shard(path, kind) for path in paths] for split, paths in files.items()}
    return Source(splits, builder.info.features)


def _of_folder(name: str, split: str, kind: str, files: list[str]) -> list[Shard]:
    """Return archives as shards, and other files in groups."""
    tables = [each for each in files if kind_of_shard(each) in BUILDERS.values()]
    if tables:
        raise ValueError(
            f"{shown(tables[0])}: a stream reads the classes of a folder from its sub-folders, no table beside the "
            "files: write both to Parquet or tar shards, or leave streaming out"
        )
    archives = [each for each in files if is_archive(each)]
    groups = groups_of(kind, [each for each in files if not is_archive(each)])
    parts = (f"{name}, split {split}, part {number} of {len(groups)}" for number in range(1, len(groups) + 1))
    return [Shard(each, kind) for each in archives] + [
        Shard(part, kind, files=group) for part, group in zip(parts, groups, strict=True)
    ]


def rows_of(shard: Shard, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard as they are stored, images and audio not decoded, from its first one."""
    if shard.kind in FOLDERS:
        yield from read_folder(shard.kind, shard.path, shard.files, columns)
        return
    chosen: dict[str, Any] = {"columns": columns} if columns and shard.kind == "parquet" else {}
    tqdm.get_lock()  # where there is none yet, threads that open shards at the same time delete each other's
    rows: Any = load_dataset(shard.kind, data_files=[shard.path], split="train", streaming=True, **chosen)
    if rows.features:
        # As tar shards hold it: to encode audio anew, though nothing is left to do, `datasets` wants torchcodec.
        rows = rows.cast(plain(rows.features)) if shard.kind == "webdataset" else rows.decode(False)
    # Not by `iter()`: that gives each worker a part, and this shard is the worker's own.
    for row in rows.iter(batch_size=1):
        yield {name: value for name, (value,) in row.items()}


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
            for row in islice(rows_of(shard, columns), shard.begin, shard.end):
                yield {**row, SHARD: shard.path, ROW: number}
                number += 1
        except unreadable() as error:
            told = f"{shown(shard.path)}: the shard cannot be read behind row {number}: {reason_of(error)}"
            if not skip_bad:
                raise StreamError(f"{told}; mend it, or go on without its rest with on_bad_shard=skip") from error
            warnings.warn(f"{told}; its rest is skipped", stacklevel=2)


def unreadable() -> tuple[type[Exception], ...]:
    """Return what is raised for data that cannot be read."""
    stores = (getattr(sys.modules[name], kind) for name, kind in _OF_STORES.items() if name in sys.modules)
    return (*_UNREADABLE, *stores)


def plain(features: Features) -> Features:
    """Return the features as they are stored: no class has a name, and nothing is decoded."""
    return Features.from_arrow_schema(features.arrow_schema.remove_metadata())


def features_of(shards: list[Shard], rows: list[dict[str, Any]]) -> Features:
    """Return the features of a stream: those that its first shard tells, else those of its first rows."""
    if shards[0].kind in FOLDERS:
        return features_of_folder(shards[0].kind)
    told: Any = load_dataset(shards[0].kind, data_files=[shards[0].path], split="train", streaming=True)
    if told.features is not None:
        return told.features
    held = [{name: value for name, value in row.items() if name not in (SHARD, ROW)} for row in rows]
    return Dataset.from_list(held).features


def reason_of(error: BaseException) -> str:
    """Return in one line why something cannot be read: what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return shortened(shown(f"{type(error).__name__}: {text}") if text else type(error).__name__, _LONGEST)
