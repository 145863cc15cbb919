"""Any data set -> splits with encoded labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Image, Value, load_dataset, load_from_disk

from hf_mixup.data import load_emoji
from hf_mixup.errors import did_you_mean
from hf_mixup.tasks.arguments import BUNDLED, TaskArguments

_BUILDERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
_SUBSET_SEED = 0  # which rows a subset holds must not depend on the seed of the training


@dataclass(frozen=True)
class Splits:
    """The rows of a task; the label column of each split is a `ClassLabel` with the same names."""

    train: Dataset
    validation: Dataset
    tests: dict[str, Dataset]
    label_names: list[str]

    @property
    def evaluated(self) -> dict[str, Dataset]:
        """Validation and test rows by name."""
        return {"validation": self.validation, **self.tests}


def load_splits(task: TaskArguments) -> Splits:
    """Load the data set of a task, pick its splits and encode its labels.

    Raises:
        ValueError: for a split or column that is not there, or labels that are no classes.
        FileNotFoundError: for a file or folder that is not there.

    >>> splits = load_splits(TaskArguments(max_train_samples=8))
    >>> splits.train.num_rows, sorted(splits.tests)
    (8, ['test', 'test_shifted'])
    """
    data = load_raw(task)
    for rows in data.values():
        _check_columns(rows, task)
    train, validation, tests = _pick_splits(data, task)
    names = _label_names(train, task)
    parts = {"train": train, "validation": validation, **tests}
    parts = {split: _encoded(rows, split, names, task) for split, rows in parts.items()}
    train = _at_most(parts.pop("train"), task.max_train_samples)
    parts = {split: _at_most(rows, task.max_eval_samples) for split, rows in parts.items()}
    return Splits(train, parts.pop("validation"), parts, names)


def load_raw(task: TaskArguments) -> DatasetDict:
    """Load the data set as it is.

    Raises:
        FileNotFoundError: for a file or folder that is not there.
        ValueError: for a file of a format that is not read.
    """
    if task.dataset == BUNDLED:
        return load_emoji("image" if task.is_image else "text")
    path = Path(task.dataset)
    if path.is_dir():
        saved = any((path / name).exists() for name in ("dataset_dict.json", "state.json"))
        data = load_from_disk(str(path)) if saved else load_dataset(str(path), task.dataset_config)
    elif path.is_file():
        if path.suffix not in _BUILDERS:
            raise ValueError(f"{path}: cannot read {path.suffix or 'this'} files: {', '.join(_BUILDERS)} are read")
        data = load_dataset(_BUILDERS[path.suffix], data_files=str(path))
    elif path.is_absolute() or path.suffix in _BUILDERS or task.dataset.startswith("."):
        raise FileNotFoundError(f"no such data set: {path}")
    else:
        data = load_dataset(task.dataset, task.dataset_config)
    return data if isinstance(data, DatasetDict) else DatasetDict({task.train_split: data})


def _check_columns(rows: Dataset, task: TaskArguments) -> None:
    for setting, column in (("input", task.input_column), ("label", task.label_column)):
        if column not in rows.column_names:
            raise ValueError(
                f"the data set has no {setting} column {column!r}: {did_you_mean(column, rows.column_names)}"
            )


def _pick_splits(data: DatasetDict, task: TaskArguments) -> tuple[Dataset, Dataset, dict[str, Dataset]]:
    tests = task.test_splits
    if tests is None:
        tests = [name for name in data if name.startswith("test")]
    for name in (task.train_split, task.validation_split, *tests):
        if name is not None and name not in data:
            raise ValueError(f"the data set has no split {name!r}: {did_you_mean(name, data)}")
    train = data[task.train_split]
    name = task.validation_split or ("validation" if "validation" in data else None)
    if name is not None:
        return train, data[name], {test: data[test] for test in tests}
    if len(train) < 2:
        raise ValueError(f"split {task.train_split!r} has {len(train)} rows: too few to validate on a part of them")
    parts = train.train_test_split(test_size=task.validation_share, seed=_SUBSET_SEED)
    return parts["train"], parts["test"], {test: data[test] for test in tests}


def _label_names(train: Dataset, task: TaskArguments) -> list[str]:
    feature = train.features[task.label_column]
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    if not isinstance(feature, Value) or feature.dtype.startswith(("float", "double")):
        raise ValueError(f"label column {task.label_column!r} holds {feature}: expected one class a row")
    values = train.unique(task.label_column)
    if None in values:
        raise ValueError(f"label column {task.label_column!r} has empty cells: give each row a class")
    return [str(value) for value in sorted(values)]


def _encoded(rows: Dataset, split: str, names: list[str], task: TaskArguments) -> Dataset:
    """Return the rows with labels as numbers of `names`, and pictures decoded as such."""
    column, feature = task.label_column, rows.features[task.label_column]
    if not isinstance(feature, ClassLabel):
        numbers = {name: number for number, name in enumerate(names)}
        unknown = sorted({str(value) for value in rows.unique(column)} - set(names))
        if unknown:
            raise ValueError(f"split {split!r} has labels that the training split lacks: {', '.join(unknown)}")
        encoded = [numbers[str(value)] for value in rows[column]]
        rows = rows.remove_columns(column).add_column(column, encoded, feature=ClassLabel(names=names))
    elif feature.names != names:
        raise ValueError(f"split {split!r} has other label names than the training split: {', '.join(feature.names)}")
    elif any(value is None or value < 0 for value in rows.unique(column)):
        raise ValueError(f"split {split!r} has rows without a label: leave it out of test_splits")
    if not task.is_image:
        return _checked_text(rows, task)
    return rows.cast_column(task.image_column, Image(mode="RGB"))


def _checked_text(rows: Dataset, task: TaskArguments) -> Dataset:
    feature: Any = rows.features[task.text_column]
    if getattr(feature, "dtype", None) not in ("string", "large_string"):
        raise ValueError(f"text column {task.text_column!r} holds {feature}, expected texts")
    return rows


def _at_most(rows: Dataset, count: int | None) -> Dataset:
    if count is None or count >= len(rows):
        return rows
    # Rows often come sorted by class.
    return rows.shuffle(seed=_SUBSET_SEED).select(range(count))
