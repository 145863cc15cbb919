"""A part of the training rows to validate on, where the dataset has no split for it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from datasets import ClassLabel, Dataset, List

from hf_mixup.experiments.tasks.arguments import TaskArguments

_SEED = 0  # which rows they are must not depend on the seed of the training


def split_validation(train: Dataset, task: TaskArguments) -> tuple[Dataset, Dataset]:
    """Return the rows to train on and those to validate on, drawn at random from the training split.

    Where rows have one class each, both have the same shares of the classes, and every class keeps a row to train on;
    where words have tags, every tag does.

    Raises:
        ValueError: for too few rows, or where no row can be spared.

    >>> rows = Dataset.from_dict({"label": [0] * 8 + [1] * 8 + [2]}).cast_column("label", ClassLabel(3))
    >>> parts = split_validation(rows, TaskArguments(validation_share=0.2))
    >>> [sorted(part["label"]) for part in parts]
    [[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2], [0, 0, 1, 1]]
    """
    if len(train) < 2:
        raise ValueError(f"split {task.train_split!r} has {len(train)} rows: too few to validate on a part of them")
    column = task.columns.get("label", "")
    feature = train.features.get(column)
    if isinstance(feature, ClassLabel):
        kept, spared = by_class(train[column][:], task.validation_share)
    else:
        rows = Dataset.from_dict({"row": range(len(train))})
        parts = rows.train_test_split(test_size=task.validation_share, seed=_SEED)
        kept, spared = parts["train"]["row"][:], parts["test"]["row"][:]
        if isinstance(feature, List):
            kept, spared = _with_all_tags(kept, spared, train[column][:])
    if not spared:
        raise ValueError(
            f"split {task.train_split!r} has no row to spare for validation: each of its {len(train)} rows is the only "
            "one of a class; add rows, or a split for validation (validation_split)"
        )
    return train.select(kept), train.select(spared)


def by_class(labels: Sequence[int], share: float) -> tuple[list[int], list[int]]:
    """Return the rows to keep and those to spare: of each class about this share, and never its last row.

    >>> kept, spared = by_class([0, 0, 0, 0, 1, 1, 1, 1, 2], 0.5)
    >>> len(kept), len(spared), 8 in kept
    (4, 5, True)
    """
    rows: dict[int, list[int]] = defaultdict(list)
    order = np.random.default_rng(_SEED).permutation(len(labels)).tolist()
    for row in order:
        rows[labels[row]].append(row)
    classes = sorted(rows)
    counts = _shared_out(math.ceil(share * len(labels)), [len(rows[each]) for each in classes])
    spared = {row for each, count in zip(classes, counts, strict=True) for row in rows[each][:count]}
    return [row for row in order if row not in spared], [row for row in order if row in spared]


def _shared_out(total: int, sizes: Sequence[int]) -> list[int]:
    """Return how many of each class make this total: in proportion, the largest remainders rounded up, never all."""
    wanted = [total * size / sum(sizes) for size in sizes]
    counts = [min(math.floor(each), size - 1) for each, size in zip(wanted, sizes, strict=True)]
    order = sorted(range(len(sizes)), key=lambda index: counts[index] - wanted[index])
    while sum(counts) < total and any(count < size - 1 for count, size in zip(counts, sizes, strict=True)):
        for index in order:
            if sum(counts) < total and counts[index] < sizes[index] - 1:
                counts[index] += 1
    return counts


def _with_all_tags(kept: list[int], spared: list[int], tags: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Move rows to those that are kept until these have every tag."""
    there = {tag for row in kept for tag in tags[row]}
    moved: dict[int, None] = {}
    for row in spared:
        if any(tag not in there for tag in tags[row]):
            moved[row] = None
            there.update(tags[row])
    return [*kept, *moved], [row for row in spared if row not in moved]
