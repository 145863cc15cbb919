"""Rows that miss what a task needs: told with file, row and column, before any model is loaded."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, List, Value

from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.broken_files import is_number, kind_of, source_of
from hf_mixup.utils.suggest import did_you_mean

_NUMBERS = ("float", "double", "half", "int", "uint")
_WITH_POINT = _NUMBERS[:3]
Wrong = Callable[[Any], str | None]
"""A value of a column -> what is wrong with it, None if nothing is."""


def check_columns(names: Mapping[str, Any], task: TaskArguments) -> None:
    """Refuse data that lacks a column which the task reads."""
    for name, column in task.columns.items():
        if column not in names:
            raise ValueError(
                f"the dataset has no {name} column {column!r}: {did_you_mean(column, names)}. "
                f"Name it with --{task.column_setting(name)}"
            )


def check_labels(rows: Dataset, split: str, task: TaskArguments) -> None:
    """Refuse a row without the label that the task needs, naming file, row and column, and a column of another kind."""
    column = task.columns["label"]
    feature: Any = rows.features[column]
    dtype = str(getattr(feature, "dtype", ""))
    if task.label_kind in ("tags", "answers"):
        wrong, expected = _no_tags, f"a list of {task.label_kind}"
        fits = isinstance(feature, List) and isinstance(feature.feature, (ClassLabel, Value))
    elif task.label_kind == "number":
        wrong, expected = _no_number, "a number"
        fits = not isinstance(feature, ClassLabel) and dtype.startswith(_NUMBERS)
    else:
        wrong, expected = (_no_name if isinstance(feature, ClassLabel) else _no_class), "one class"
        fits = isinstance(feature, (ClassLabel, Value)) and not dtype.startswith(_WITH_POINT)
    values = rows[column][:]
    _refuse_first(values, wrong, split, task.dataset, f"label column {column!r}")
    if not fits:
        _refuse_first(values, _other_kind(values[0]), split, task.dataset, f"label column {column!r}")
        raise ValueError(f"label column {column!r} holds {feature}: expected {expected} a row")
    if dtype in ("string", "large_string"):
        _warn_of_numbers(values, split, task)
    if task.label_kind == "tags":
        _check_lengths(rows[task.input_column][:], values, split, task)


def _warn_of_numbers(values: list[str], split: str, task: TaskArguments) -> None:
    """Tell of numbers among names of classes: a slip of the pen in a CSV file would be a class of its own."""
    numbers = [is_number(value) for value in values]
    count = sum(numbers)
    if 0 < count < len(values):
        row = numbers.index(count <= len(values) / 2)
        warnings.warn(
            f"{source_of(task.dataset, split)}: label column {task.columns['label']!r} holds {count} numbers and "
            f"{len(values) - count} other texts, {values[row]!r} in row {row}: all are taken for names of classes",
            stacklevel=2,
        )


def _refuse_first(values: Iterable[Any], wrong: Wrong, split: str, dataset: str, column: str) -> None:
    for row, value in enumerate(values):
        found = wrong(value)
        if found is not None:
            raise ValueError(f"{source_of(dataset, split)}, row {row}: {column} {found}")


def _no_class(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "is empty: give the row a class or drop it"
    return None


def _no_name(value: Any) -> str | None:
    if value is not None and value < 0:
        return f"is {value}, which stands for no label: drop such rows, or leave the split out of test_splits"
    return _no_class(value)


def _no_number(value: Any) -> str | None:
    try:
        finite = value is not None and math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return f"holds {value!r}: expected a number a row"
    return None if finite else f"has no finite number, found {value}: mend or drop the row"


def _no_tags(value: Any) -> str | None:
    if value is None:
        return "is empty: give the row a list of tags or drop it"
    if isinstance(value, list) and None in value:
        return f"has no tag at position {value.index(None)}: give each word its tag"
    return None


def _other_kind(first: Any) -> Wrong:
    """Return what finds a value of another kind than the first one."""

    def wrong(value: Any) -> str | None:
        if kind_of(value) == kind_of(first):
            return None
        return f"holds {value!r}, {kind_of(value)}, where the first row holds {first!r}, {kind_of(first)}"

    return wrong


def _check_lengths(words: list[Any], tags: list[Any], split: str, task: TaskArguments) -> None:
    def wrong(pair: tuple[Any, Any]) -> str | None:
        found, own = pair
        if len(found or ()) == len(own):
            return None
        words, tags = task.input_column, task.columns["label"]
        return f"{words!r} has {len(found or ())} words and column {tags!r} {len(own)} tags: give each word its tag"

    _refuse_first(zip(words, tags, strict=True), wrong, split, task.dataset, "column")


def check_texts(rows: Dataset, split: str, dataset: str, setting: str, column: str) -> None:
    """Refuse a row without a text (or, in lists of words, with a word missing), naming file, row and column."""

    def wrong(value: Any) -> str | None:
        if value is None or value == []:
            return f"{setting} column {column!r}; drop the row"
        if not isinstance(value, (str, list)):
            return f"{setting} column {column!r}, found {value!r}; mend or drop the row"
        if isinstance(value, list) and None in value:
            return f"{setting} column {column!r} at position {value.index(None)}; mend or drop the row"
        return None

    _refuse_first(rows[column][:], wrong, split, dataset, "no text in")


def check_media(rows: Dataset, split: str, dataset: str, setting: str, column: str) -> None:
    """Refuse a row without an image or audio file, or whose file is not there or empty; name file, row and column."""
    stored = rows.select_columns(column).with_format("arrow")[:][column]
    paths, held = (pc.struct_field(stored, name) for name in ("path", "bytes"))

    def wrong(found: tuple[str | None, int]) -> str | None:
        path, size = found
        if size or (path and "://" in path):  # a file within an archive, or elsewhere
            return None
        if not path:
            return f"is empty: name {setting} files there or drop the row"
        if not Path(path).is_file():
            return f"names {path}, and there is no such file: mend it or drop the row"
        return None if Path(path).stat().st_size else f"names {path}, and that file is empty: mend it or drop the row"

    sizes = pc.fill_null(pc.binary_length(held), 0)
    found = zip(paths.to_pylist(), sizes.to_pylist(), strict=True)
    _refuse_first(found, wrong, split, dataset, f"{setting} column {column!r}")
