"""Any dataset -> splits with encoded labels, of images and captions, or of texts to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError

from hf_mixup.experiments.tasks.arguments import TASKS, TaskArguments
from hf_mixup.experiments.tasks.broken_files import check_utf8, data_files, first_fault, source_of
from hf_mixup.experiments.tasks.checks import check_columns, check_labels
from hf_mixup.experiments.tasks.labels import encode_labels
from hf_mixup.experiments.tasks.paths import BUILDERS, check_dataset, is_pattern
from hf_mixup.experiments.tasks.prepared import Splits as Splits
from hf_mixup.experiments.tasks.splitting import split_validation
from hf_mixup.experiments.tasks.stream_splits import find_stream
from hf_mixup.utils.files import NoSpaceError, is_disk_full
from hf_mixup.utils.suggest import did_you_mean

_UNREADABLE = (DatasetsError, ValueError, OSError, StopIteration)  # what datasets raises over a broken file
_SUBSET_SEED = 0  # which rows a subset holds must not depend on the seed of the training


def load_splits(task: TaskArguments) -> Splits:
    """Load the dataset of a task, pick its splits and encode its labels; of a stream, the first rows to train on.

    Raises:
        ValueError: for a split or column that is not there, labels that do not fit the task, a row without caption or
            text, or more rows of a class asked for than there are.
        FileNotFoundError: for a file or folder that is not there.

    >>> splits = load_splits(TaskArguments(max_train_samples=8))
    >>> splits.train.num_rows, sorted(splits.tests)
    (8, ['test', 'test_shifted'])
    """
    if task.streaming:
        return find_stream(task).splits
    data = load_raw(task)
    for rows in data.values():
        check_columns(rows.features, task)
    validation, tests = _split_names(data, task)
    used = dict.fromkeys(name for name in (task.train_split, validation, *tests) if name is not None)
    for split in used:
        _check_rows(data[split], split, task)
    # Before any rows are drawn, so that errors count rows as the user does.
    parts = {split: task.read_inputs(data[split], split) for split in used}
    parts, names = encode_labels(parts, task)
    train = parts[task.train_split]
    train, drawn = split_validation(train, task) if validation is None else (train, parts[validation])
    parts = {"validation": drawn, **{test: parts[test] for test in tests}}
    train = task.alter_training_rows(_at_most(train, task.max_train_samples), names)
    parts = {split: _at_most(rows, task.max_eval_samples) for split, rows in parts.items()}
    return Splits(train, parts.pop("validation"), parts, names)


def _check_rows(rows: Dataset, split: str, task: TaskArguments) -> None:
    if not len(rows):
        raise ValueError(f"{source_of(task.dataset, split)} has no rows: fill it, or name other splits")
    if task.label_kind is not None:
        check_labels(rows, split, task)


def load_raw(task: TaskArguments) -> DatasetDict:
    """Load the dataset as it is.

    Raises:
        FileNotFoundError: for a file or folder that is not there.
        ValueError: for a file of a format that is not read, or that is broken, naming the place in it.
        NoSpaceError: if there is no room to prepare it.
    """
    bundled = task.bundled()
    if task.dataset in bundled:
        return bundled[task.dataset]()
    _refuse_bundled_for_others(task)
    check_dataset(task.dataset)
    if is_pattern(task.dataset) and not Path(task.dataset).exists():
        raise ValueError(f"{task.dataset}: a pattern or an address is streamed: set streaming to true")
    files = data_files(Path(task.dataset))
    for file in files:
        if file.suffix != ".parquet":
            check_utf8(file)
    try:
        data = _load(task)
    except _UNREADABLE as error:
        root = error.__cause__ or error
        if isinstance(root, Exception) and is_disk_full(root):
            raise NoSpaceError(f"no space to prepare the dataset {task.dataset}: {root}") from error
        fault = first_fault(files)
        if fault is None and (
            isinstance(error, FileNotFoundError) or not (files or isinstance(error, (DatasetsError, StopIteration)))
        ):
            raise
        raise ValueError(fault or f"the dataset {task.dataset} cannot be read: {root}") from error
    return data if isinstance(data, DatasetDict) else DatasetDict({task.train_split: data})


def _refuse_bundled_for_others(task: TaskArguments) -> None:
    others = [name for name, kind in TASKS.items() if task.dataset in kind().bundled()]
    if others and not Path(task.dataset).exists():
        own = ", ".join(task.bundled()) or "none"
        raise ValueError(f"dataset={task.dataset!r} is bundled for {', '.join(others)}; {task.task} has {own}")


def _load(task: TaskArguments) -> Any:
    path = Path(task.dataset)
    if any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
        return load_from_disk(str(path))
    if path.is_dir():
        own = task.read_folder(path)
        return load_dataset(str(path), task.dataset_config) if own is None else own
    if path.is_file():
        return load_dataset(BUILDERS[path.suffix], data_files=str(path))
    return load_dataset(task.dataset, task.dataset_config)


def _split_names(data: DatasetDict, task: TaskArguments) -> tuple[str | None, list[str]]:
    """Return the names of the validation split, if there is one, and of the test splits."""
    tests = task.test_splits
    if tests is None:
        tests = [name for name in data if name.startswith("test")]
    for name in (task.train_split, task.validation_split, *tests):
        if name is not None and name not in data:
            raise ValueError(f"the dataset has no split {name!r}: {did_you_mean(name, data)}")
    return task.validation_split or ("validation" if "validation" in data else None), tests


def of_modality(rows: Dataset, split: str, task: TaskArguments) -> Dataset:
    """Return at most `max_eval_samples` rows with their inputs as the task takes them; labels are left as they are."""
    return _at_most(task.read_inputs(rows, split), task.max_eval_samples)


def _at_most(rows: Dataset, count: int | None) -> Dataset:
    if count is None or count >= len(rows):
        return rows
    # Rows often come sorted by class.
    return rows.shuffle(seed=_SUBSET_SEED).select(range(count))
