"""Label columns: classes as numbers, tags of words, answers, numbers to predict; few rows a class, and wrong labels."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, List
from torch import Tensor

from hf_mixup.experiments.tasks.arguments import TaskArguments

_NOISE_SEED = 2  # which labels are wrong must not depend on the seed of the training


def encode_labels(parts: dict[str, Dataset], task: TaskArguments) -> tuple[dict[str, Dataset], list[str]]:
    """Return the splits with their labels (or tags) as numbers of the training split's, and the names of these.

    Numbers to predict, and tasks without labels, have no names. Classes that the training split lacks are refused;
    answers that it lacks are left out of their row's.
    """
    if task.label_kind not in ("class", "tags", "answers"):
        return parts, []
    column, train, tags = task.columns["label"], parts[task.train_split], task.label_kind != "class"
    feature: Any = train.features[column]
    feature = feature.feature if tags else feature
    named = isinstance(feature, ClassLabel)
    names = list(feature.names) if named else [str(value) for value in sorted(_values(train, column))]

    return encode_with(parts, task, names, named), names


def encode_with(parts: dict[str, Dataset], task: TaskArguments, names: list[str], named: bool) -> dict[str, Dataset]:
    """Return the splits with their labels (or tags) as numbers among names that are known.

    Args:
        named: whether the files tell the names; else answers that are not among them are left out of their row's.
    """
    column, tags = task.columns["label"], task.label_kind != "class"

    def encoded(rows: Dataset, split: str) -> Dataset:
        own: Any = rows.features[column]
        if task.label_kind == "answers" and not named:
            known = [[answer for answer in answers if str(answer) in names] for answers in rows[column]]
            rows = with_column(rows, column, known, own)
        numbers = _numbers(own.feature if tags else own, _values(rows, column), split, names)
        if isinstance(own, ClassLabel):
            return rows
        return renumbered(rows, column, numbers, names)

    return {split: encoded(rows, split) for split, rows in parts.items()}


def scores_of(rows: Dataset, column: str) -> Tensor:
    """Return the scores of all answers, float32 [N, C]: 1 for those that a row's list holds.

    >>> from datasets import Features
    >>> rows = Dataset.from_dict({"answers": [[2, 0], []]}, Features({"answers": List(ClassLabel(3))}))
    >>> scores_of(rows, "answers")
    tensor([[1., 0., 1.],
            [0., 0., 0.]])
    """
    feature: Any = rows.features[column]
    scores = torch.zeros(len(rows), feature.feature.num_classes)
    for row, answers in enumerate(rows[column]):
        scores[row, answers] = 1.0
    return scores


def few_per_class(rows: Dataset, column: str, count: int, seed: int, names: list[str]) -> Dataset:
    """Return `count` rows of each class that occurs, drawn from `seed` alone; refuse a class with fewer rows."""
    by_class: dict[int, list[int]] = defaultdict(list)
    order = np.random.default_rng(seed).permutation(len(rows))
    labels = rows[column][:]
    for index in order.tolist():
        by_class[labels[index]].append(index)
    for label, indices in sorted(by_class.items()):
        if len(indices) < count:
            raise ValueError(
                f"few_shot={count}: class {names[label]!r} has {len(indices)} training rows; ask for at most "
                f"{min(map(len, by_class.values()))}"
            )
    return rows.select([index for label in sorted(by_class) for index in by_class[label][:count]])


def with_label_noise(rows: Dataset, column: str, share: float, names: list[str]) -> Dataset:
    """Return the rows with a share of their labels (of the tags, for lists) replaced by any other class."""
    if len(names) < 2:
        raise ValueError(f"label_noise={share}: the dataset has one class only, so that no label is wrong")
    feature: Any = rows.features[column]
    lists = [np.atleast_1d(np.array(label, dtype=np.int64)) for label in rows[column]]  # of one, for a class a row
    labels = np.concatenate(lists)
    generator = np.random.default_rng(_NOISE_SEED)
    wrong = generator.permutation(len(labels))[: round(share * len(labels))]
    labels[wrong] = (labels[wrong] + generator.integers(1, len(names), len(wrong))) % len(names)
    if isinstance(feature, ClassLabel):
        return with_column(rows, column, labels.tolist(), feature)
    ends = np.cumsum([len(each) for each in lists])[:-1]
    return with_column(rows, column, [each.tolist() for each in np.split(labels, ends)], feature)


def _numbers(feature: Any, values: set[Any], split: str, names: list[str]) -> dict[Any, int]:
    """Return the number of each label among `names`."""
    if not isinstance(feature, ClassLabel):
        numbers = {name: number for number, name in enumerate(names)}
        unknown = sorted({str(value) for value in values} - set(names))
        if unknown:
            raise ValueError(f"split {split!r} has labels that the training split lacks: {', '.join(unknown)}")
        return {value: numbers[str(value)] for value in values}
    if feature.names != names:
        raise ValueError(f"split {split!r} has other label names than the training split: {', '.join(feature.names)}")
    return {value: value for value in values}


def _values(rows: Dataset, column: str) -> set[Any]:
    """Return every label, or every tag of the lists."""
    if isinstance(rows.features[column], List):
        return {tag for tags in rows[column] for tag in tags}
    return set(rows.unique(column))


def renumbered(rows: Dataset, column: str, numbers: Any, names: list[str]) -> Dataset:
    """Return the rows with each label, or each tag of the lists, replaced by its number among the names."""
    feature = ClassLabel(names=names)
    if isinstance(rows.features[column], List):
        return with_column(rows, column, [[numbers[tag] for tag in tags] for tags in rows[column]], List(feature))
    return with_column(rows, column, [numbers[label] for label in rows[column]], feature)


def with_column(rows: Dataset, column: str, values: list[Any], feature: Any) -> Dataset:
    """Return the rows with other values in a column."""
    return rows.remove_columns(column).add_column(column, values, feature=feature)
