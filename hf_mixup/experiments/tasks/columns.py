"""Columns of inputs: checked, with the place of what is wrong, and brought into the form that samples are made of."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset, DatasetDict, Image, List, Value

from hf_mixup.data.pair_collator import check_caption
from hf_mixup.experiments.tasks.broken_files import source_of
from hf_mixup.experiments.tasks.checks import check_media, check_texts
from hf_mixup.experiments.tasks.labels import with_column

_AUDIO_FILES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au")  # soundfile reads them
_FILE = "file_name"  # as `datasets` calls it
_STRINGS = ("string", "large_string")


def read_images(rows: Dataset, split: str, dataset: str, column: str) -> Dataset:
    """Return the rows with images decoded as such."""
    rows = _with_files(rows, split, dataset, "image", column)
    if isinstance(rows.features[column], Image):
        check_media(rows, split, dataset, "image", column)
    return rows.cast_column(column, Image(mode="RGB"))


def read_audio(rows: Dataset, split: str, dataset: str, column: str) -> Dataset:
    """Return the rows with audio clips as files, which are decoded where their features are extracted."""
    rows = _with_files(rows, split, dataset, "audio", column)
    feature: Any = rows.features[column]
    if not isinstance(feature, Audio) and getattr(feature, "dtype", None) not in _STRINGS:
        raise ValueError(f"audio column {column!r} holds {feature}, expected audio clips, or texts that name files")
    if isinstance(feature, Audio):
        check_media(rows, split, dataset, "audio", column)
    return rows.cast_column(column, Audio(decode=False))


def read_videos(rows: Dataset, column: str) -> Dataset:
    """Return the rows with the frames of videos decoded as images."""
    feature: Any = rows.features[column]
    if not isinstance(feature, List) or not isinstance(feature.feature, Image):
        raise ValueError(f"video column {column!r} holds {feature}, expected lists of images: decode the videos first")
    return rows.cast_column(column, List(Image(mode="RGB")))


def read_texts(rows: Dataset, split: str, dataset: str, setting: str, column: str) -> Dataset:
    """Return the rows, each of which has a text in this column."""
    feature: Any = rows.features[column]
    if not isinstance(feature, Value) or feature.dtype in _STRINGS:
        check_texts(rows, split, dataset, setting, column)
    if getattr(feature, "dtype", None) not in _STRINGS:
        raise ValueError(f"{setting} column {column!r} holds {feature}, expected texts")
    return rows


def read_transcripts(rows: Dataset, split: str, dataset: str, column: str) -> Dataset:
    """Return the rows, each of which has something said in this column."""
    rows = read_texts(rows, split, dataset, "text", column)
    for row, text in enumerate(rows[column]):
        if not text.strip():
            raise ValueError(
                f"{source_of(dataset, split)}, row {row}: the transcript in text column {column!r} is empty: write "
                "what is said, or drop the row"
            )
    return rows


def read_words(rows: Dataset, split: str, dataset: str, column: str) -> Dataset:
    """Return the rows, each of which has a list of words in this column."""
    feature: Any = rows.features[column]
    if not isinstance(feature, List) or getattr(feature.feature, "dtype", None) not in _STRINGS:
        raise ValueError(f"text column {column!r} holds {feature}, expected a list of words a row")
    check_texts(rows, split, dataset, "text", column)
    return rows


def check_captions(rows: Dataset, split: str, dataset: str, column: str) -> None:
    """Refuse a row without a caption, or with a list that holds anything else."""
    source = source_of(dataset, split)
    for row, caption in enumerate(rows[column]):
        check_caption(caption, f"{source}, row {row}", column)


def _with_files(rows: Dataset, split: str, dataset: str, setting: str, column: str) -> Dataset:
    """Return the rows; where texts name files, their paths count from the folder of the file that names them."""
    folder, feature = Path(dataset), rows.features[column]
    if getattr(feature, "dtype", None) not in _STRINGS:
        return rows
    folder = folder.parent if folder.is_file() else folder
    paths = [value and str(folder / value) for value in rows[column]]
    for row, path in enumerate(paths):
        if not path or not Path(path).is_file():
            found = f"no such file: {path}" if path else "it names no file"
            source = source_of(dataset, split)
            raise ValueError(f"{source}, row {row}: {found}: mend {setting} column {column!r} or drop the row")
    return with_column(rows, column, paths, Value("string"))


def audio_folder(path: Path, audio_column: str, label_column: str) -> DatasetDict | None:
    """Return the audio files and classes of a folder `[split/]class/file`; None for any other folder.

    `datasets` has this, too, but writes no audio without torchcodec, which needs FFmpeg's libraries.
    """
    folders = [each for each in sorted(path.iterdir()) if each.is_dir()]
    named = folders if any(each.name == "train" for each in folders) else [path]
    parts = {each.name if each != path else "train": files for each in named if (files := _by_class(each))}
    made = {}
    for split, files in parts.items():
        clips = [str(file.relative_to(path)) for file in files]
        made[split] = Dataset.from_dict({audio_column: clips, label_column: [file.parent.name for file in files]})
    return DatasetDict(made) if made else None


def speech_folder(path: Path, audio_column: str) -> DatasetDict | None:
    """Return the rows of a folder `[split/]metadata.csv`, whose column file_name names audio; None for any other.

    `datasets` has this, too, see `audio_folder`.
    """
    tables = {
        file.parent: file for file in (path / "metadata.csv", *sorted(path.glob("*/metadata.csv"))) if file.is_file()
    }
    made = {}
    for folder, file in tables.items():
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        if not rows or _FILE not in rows[0]:
            raise ValueError(f"{file} has no column {_FILE!r}: name the audio files there")
        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0] if name != _FILE}
        columns[audio_column] = [row[_FILE] and str((folder / row[_FILE]).relative_to(path)) for row in rows]
        made["train" if folder == path else folder.name] = Dataset.from_dict(columns)
    return DatasetDict(made) if made else None


def _by_class(path: Path) -> list[Path]:
    return sorted(file for file in path.glob("*/*") if file.suffix.lower() in _AUDIO_FILES)
