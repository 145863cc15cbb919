"""Folders and archives of images or audio, one sub-folder a class, as shards of a stream."""

from __future__ import annotations

import random
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import fsspec
from datasets import Audio, Features, Image, Value
from datasets.packaged_modules.audiofolder.audiofolder import AudioFolder
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

FOLDERS: dict[str, tuple[str, Any, frozenset[str]]] = {
    "imagefolder": ("image", Image(), frozenset(ImageFolder.EXTENSIONS)),
    "audiofolder": ("audio", Audio(), frozenset(AudioFolder.EXTENSIONS)),
}
"""What `datasets` calls such a folder -> the column of its files, their feature and their endings."""
ARCHIVES = (".zip", ".tar", ".tar.gz")
_FILES = 64  # of a folder that make a shard
_SEED = 0  # of the order of files: they lie sorted by class


def features_of_folder(kind: str) -> Features:
    """Return the features of the rows of such a folder.

    >>> list(features_of_folder("audiofolder"))
    ['audio', 'label']
    """
    column, feature, _ = FOLDERS[kind]
    return Features({column: feature, "label": Value("string")})


def kind_of_media(name: str) -> str | None:
    """Return whether a file belongs to a folder of images or of audio; None for other and for hidden files.

    >>> kind_of_media("cat/one.JPG"), kind_of_media("one.wav"), kind_of_media("cat/._one.jpg")
    ('imagefolder', 'audiofolder', None)
    """
    path = PurePosixPath(name)
    kinds = (kind for kind, (_, _, endings) in FOLDERS.items() if path.suffix.lower() in endings)
    return None if path.name.startswith(".") else next(kinds, None)


def kind_of_archive(path: str) -> str | None:
    """Return the kind of an archive of sub-folders; None for samples of several files each, as WebDataset has them."""
    names = [PurePosixPath(name) for name, _ in islice(_entries(path), 2)]
    kinds = {kind_of_media(str(name)) for name in names}
    alike = len({name.with_suffix("") for name in names}) < len(names)
    return kinds.pop() if len(kinds) == 1 and not alike else None


def file_of(path: str) -> str:
    """Return the file that a path or an address leads to: within an archive, or behind a cache, and without a query.

    >>> file_of("a?.csv"), file_of("https://host/a.csv?token=1")
    ('a?.csv', 'https://host/a.csv')
    >>> file_of("zip://a.csv::s3://bucket/a.zip"), file_of("simplecache::s3://bucket/a.parquet")
    ('zip://a.csv', 's3://bucket/a.parquet')
    """
    inner = next((part for part in path.split("::") if "://" in part), path)
    return inner.partition("?")[0] if "://" in inner else inner


def is_archive(path: str) -> bool:
    """Whether a path or an address is that of a zip or tar file."""
    return file_of(path).endswith(ARCHIVES)


def groups_of(kind: str, files: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the media files of a folder in groups, in an order that mixes the classes and is always the same.

    >>> [len(group) for group in groups_of("imagefolder", [f"cat/{number}.png" for number in range(70)])]
    [35, 35]
    """
    found = sorted(each for each in files if kind_of_media(each) == kind)
    random.Random(_SEED).shuffle(found)
    count = -(-len(found) // _FILES)
    return [tuple(found[number::count]) for number in range(count)]


def read_folder(kind: str, path: str, files: tuple[str, ...], only: list[str] | None) -> Iterator[dict[str, Any]]:
    """Yield a row a file: its content or its local path, and the sub-folder that it lies in as its label.

    Args:
        path: of an archive, where `files` is empty.
        only: columns that are needed.
    """
    column = FOLDERS[kind][0]
    wanted = only is None or column in only
    for name, read in ((name, partial(_read, name)) for name in files) if files else _entries(path):
        if kind_of_media(name) == kind:
            content = read() if wanted else None
            yield {column: {"path": name, "bytes": content}, "label": PurePosixPath(name).parent.name}


def _read(path: str) -> bytes | None:
    if "://" not in path:
        return None  # read where it is decoded
    with fsspec.open(path, "rb") as file:
        return bytes(file.read())


def _entries(path: str) -> Iterator[tuple[str, Callable[[], bytes | None]]]:
    """Yield the files of an archive, with what reads each."""
    with fsspec.open(path, "rb") as file:
        if file_of(path).endswith(".zip"):
            with zipfile.ZipFile(file) as archive:
                names = sorted(name for name in archive.namelist() if kind_of_media(name))
                random.Random(_SEED).shuffle(names)
                yield from ((name, partial(archive.read, name)) for name in names)
            return
        with tarfile.open(fileobj=file, mode="r|*") as entries:  # from begin to end, as a stream comes
            yield from ((entry.name, partial(_content, entries, entry)) for entry in entries if entry.isfile())


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes | None:
    file = archive.extractfile(entry)
    return None if file is None else file.read()
