"""Label columns: classes as numbers, tags of words, numbers to predict; few rows a class, and wrong labels."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, List, Value

from hf_mixup.experiments.tasks.arguments import TaskArguments

_NOISE_SEED = 2  # which labels are wrong must not depend on the seed of the training


def encoded_classes(parts: dict[str, Dataset], task: TaskArguments) -> tuple[dict[str, Dataset], list[str]]:
    """Return the splits with their labels as numbers of the training split's classes, and the names of these.

    Raises:
        ValueError: for labels that are no classes, or classes that the training split lacks.
    """
    column = task.label_column
    feature: Any = parts[task.train_split].features[column]
    if not isinstance(feature, (ClassLabel, Value)) or feature.dtype.startswith(("float", "double")):
        raise ValueError(f"label column {column!r} holds {feature}: expected one class a row")
    names = _names(feature, set(parts[task.train_split].unique(column)), column)

    def encoded(rows: Dataset, split: str) -> Dataset:
        numbers = _numbers(rows.features[column], set(rows.unique(column)), split, names)
        if isinstance(rows.features[column], ClassLabel):
            return rows
        return _with_column(rows, column, [numbers[value] for value in rows[column]], ClassLabel(names=names))

    return {split: encoded(rows, split) for split, rows in parts.items()}, names


def encoded_tags(parts: dict[str, Dataset], task: TaskArguments) -> tuple[dict[str, Dataset], list[str]]:
    """Return the splits with the tags of words as numbers of the training split's tags, and the names of these.

    Raises:
        ValueError: for a column without a tag a word, or tags that the training split lacks.
    """
    column = task.label_column
    for split, rows in parts.items():
        if not isinstance(_item(rows.features[column]), (ClassLabel, Value)):
            raise ValueError(f"label column {column!r} holds {rows.features[column]}: expected a list of tags a row")
        for row, (words, tags) in enumerate(zip(rows[task.text_column], rows[column], strict=True)):
            if len(words or ()) != len(tags or ()):
                raise ValueError(
                    f"split {split!r}, row {row}: {len(words or ())} words in column {task.text_column!r} and "
                    f"{len(tags or ())} tags in column {column!r}: give each word its tag"
                )
    names = _names(_item(parts[task.train_split].features[column]), _tags_of(parts[task.train_split], column), column)

    def encoded(rows: Dataset, split: str) -> Dataset:
        numbers = _numbers(_item(rows.features[column]), _tags_of(rows, column), split, names)
        lists = [[numbers[tag] for tag in tags] for tags in rows[column]]
        return _with_column(rows, column, lists, List(ClassLabel(names=names)))

    return {split: encoded(rows, split) for split, rows in parts.items()}, names


def checked_numbers(parts: dict[str, Dataset], task: TaskArguments) -> tuple[dict[str, Dataset], list[str]]:
    """Return the splits, whose labels are numbers to predict; there are no classes.

    Raises:
        ValueError: for a column of anything but finite numbers.
    """
    column = task.label_column
    for split, rows in parts.items():
        dtype = str(getattr(rows.features[column], "dtype", rows.features[column]))
        if isinstance(rows.features[column], ClassLabel) or not dtype.startswith(("float", "double", "int", "uint")):
            raise ValueError(f"label column {column!r} holds {rows.features[column]}: expected a number a row")
        values = np.array([np.nan if value is None else value for value in rows[column]], dtype=np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"split {split!r}, row {row}: label column {column!r} has no finite number there")
    return parts, []


def few_per_class(rows: Dataset, count: int, seed: int, task: TaskArguments, names: list[str]) -> Dataset:
    """Return `count` rows of each class that occurs, drawn at random from `seed` alone.

    Raises:
        ValueError: for a class with fewer rows.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    order = np.random.default_rng(seed).permutation(len(rows))
    labels = rows[task.label_column][:]
    for index in order.tolist():
        by_class[labels[index]].append(index)
    for label, indices in sorted(by_class.items()):
        if len(indices) < count:
            raise ValueError(
                f"few_shot={count}: class {names[label]!r} has {len(indices)} training rows; ask for at most "
                f"{min(map(len, by_class.values()))}"
            )
    return rows.select([index for label in sorted(by_class) for index in by_class[label][:count]])


def with_label_noise(rows: Dataset, task: TaskArguments, names: list[str]) -> Dataset:
    """Return the rows with the task's share of labels (of tags, for lists) replaced, each other class alike likely.

    Raises:
        ValueError: if there is one class only.
    """
    if len(names) < 2:
        raise ValueError(f"label_noise={task.label_noise}: the data set has one class only, so that no label is wrong")
    column = task.label_column
    feature: Any = rows.features[column]
    lists = [np.atleast_1d(np.array(label, dtype=np.int64)) for label in rows[column]]  # of one, for a class a row
    labels = np.concatenate(lists)
    generator = np.random.default_rng(_NOISE_SEED)
    wrong = generator.permutation(len(labels))[: round(task.label_noise * len(labels))]
    labels[wrong] = (labels[wrong] + generator.integers(1, len(names), len(wrong))) % len(names)
    if isinstance(feature, ClassLabel):
        return _with_column(rows, column, labels.tolist(), feature)
    ends = np.cumsum([len(each) for each in lists])[:-1]
    return _with_column(rows, column, [each.tolist() for each in np.split(labels, ends)], feature)


def _names(feature: Any, values: set[Any], column: str) -> list[str]:
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    if None in values:
        raise ValueError(f"label column {column!r} has empty cells: give each row a class")
    return [str(value) for value in sorted(values)]


def _numbers(feature: Any, values: set[Any], split: str, names: list[str]) -> dict[Any, int]:
    """Return the place of each label among `names`."""
    if not isinstance(feature, ClassLabel):
        places = {name: place for place, name in enumerate(names)}
        unknown = sorted({str(value) for value in values} - set(names))
        if unknown:
            raise ValueError(f"split {split!r} has labels that the training split lacks: {', '.join(unknown)}")
        return {value: places[str(value)] for value in values}
    if feature.names != names:
        raise ValueError(f"split {split!r} has other label names than the training split: {', '.join(feature.names)}")
    if any(value is None or value < 0 for value in values):
        raise ValueError(f"split {split!r} has rows without a label: leave it out of test_splits")
    return {value: value for value in values}


def _item(feature: Any) -> Any:
    """Return what the lists of a column hold; None for a column of no lists."""
    return feature.feature if isinstance(feature, List) else None


def _tags_of(rows: Dataset, column: str) -> set[Any]:
    return {tag for tags in rows[column] for tag in tags}


def _with_column(rows: Dataset, column: str, values: list[Any], feature: Any) -> Dataset:
    return rows.remove_columns(column).add_column(column, values, feature=feature)
