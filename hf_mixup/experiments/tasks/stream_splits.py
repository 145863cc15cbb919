"""What is known of a stream before it flows: its first rows, rows held out for validation, the names of its classes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetInfo, Features, List
from datasets.table import InMemoryTable

from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.checks import check_columns, check_labels
from hf_mixup.experiments.tasks.labels import encode_with
from hf_mixup.experiments.tasks.prepared import Prepared, Splits
from hf_mixup.experiments.tasks.shards import ROW, SHARD, Shard, Source, features_of, find_shards, read_shards
from hf_mixup.experiments.tasks.stream import Stream
from hf_mixup.experiments.tasks.streaming import shown
from hf_mixup.utils.suggest import did_you_mean


class Labels(NamedTuple):
    """The names of a stream's classes, and whether its files (or the user) number them."""

    names: list[str]
    named: bool


class Found(NamedTuple):
    """A stream, ready to flow: its splits (of the training the first rows), and what it consists of."""

    splits: Splits
    sources: list[list[Shard]]
    features: Features
    labels: Labels


class Chunk(Dataset):
    """A few rows in memory, of which no fingerprint is computed: to hash a tokenizer takes longer than to use it."""

    def map(self, *args: Any, **settings: Any) -> Dataset:
        """Return the rows as a function makes them."""
        return super().map(*args, **settings, new_fingerprint="chunk")


def prepare_stream(task: TaskArguments) -> Prepared:
    """Return a task that streams, ready to train; processors are fitted to its first rows.

    Raises:
        FileNotFoundError: if there are no such files.
        ValueError: for data that cannot be reached or read, or that does not fit the task.
    """
    found = find_stream(task)
    prepared = task.prepared(found.splits)
    own = replace(task, dataset=shown(found.sources[0][0].path))
    prepare = partial(samples_of, own, prepared.processing_class, found.features, found.labels)
    return replace(prepared, train=Stream(task, found.sources, found.features, prepare, prepared.train))


def find_stream(task: TaskArguments) -> Found:
    """Find the shards of a stream, and read what has to be known before training; see `prepare_stream`."""
    first, *others = (find_shards(each, task.dataset_config, task.train_split) for each in _names(task))
    task = replace(task, dataset=shown(task.dataset))  # as errors name it
    validation, tests = _split_names(first, task)
    every, skips = first.splits[task.train_split], task.on_bad_shard == "skip"
    if validation is None:
        train, held_out = _held_out(every, task)
    else:
        train, held_out = every, first.splits[validation]
    head = list(islice(read_shards(train, skips), task.fit_samples))
    if not head:
        raise ValueError(f"{task.dataset}: its {len(train)} shards hold no sample to train on")
    features = _numbered(first.features or features_of(train, head), task)
    sources = [train, *(_same_columns(each, features, task) for each in others)]
    check_columns(features, task)
    labels = _labels(task, features, [every, *sources[1:]])
    evaluated = {validation or "validation": held_out, **{name: first.splits[name] for name in tests}}
    parts = {
        name: _rows(replace(task, dataset=shown(shards[0].path)), _limited(shards, name, task), features, labels, name)
        for name, shards in evaluated.items()
    }
    begin = _rows(replace(task, dataset=shown(train[0].path)), head, features, labels, task.train_split)
    held = parts.pop(validation or "validation")
    return Found(Splits(begin, held, parts, labels.names), sources, features, labels)


def samples_of(
    task: TaskArguments, processor: Any, features: Features, labels: Labels, rows: Sequence[dict[str, Any]]
) -> Any:
    """Return training samples of some rows as they are stored.

    Raises:
        ValueError: for a row that does not fit the task.
    """
    made = _rows(task, rows, features, labels, task.train_split)
    chunk = Chunk(made.data, info=DatasetInfo(features=made.features), fingerprint="chunk")
    return task.samples(chunk, processor, train=True)


def _rows(
    task: TaskArguments, rows: Iterable[dict[str, Any]], features: Features, labels: Labels, split: str
) -> Dataset:
    """Return rows as the task reads them, with their labels numbered."""
    rows = list(rows)
    for number, row in enumerate(rows):
        lacking = next((each for each in task.columns.items() if each[1] not in row), None)
        if lacking:
            own = [name for name in row if name not in (SHARD, ROW)]
            raise ValueError(f"row {number}: no {lacking[0]} column {lacking[1]!r}: {did_you_mean(lacking[1], own)}")
    table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
    if not len(table):
        raise ValueError(f"split {split!r} of {task.dataset} has no rows: fill it, or name other splits")
    made = Dataset(InMemoryTable(table))
    if task.label_kind is not None:
        check_labels(made, split, task)
    made = task.read_inputs(made, split)
    if not labels.names:
        return made
    return encode_with({split: made}, task, labels.names, labels.named)[split]


def _names(task: TaskArguments) -> list[str]:
    if task.dataset in task.bundled():
        raise ValueError(f"dataset={task.dataset!r} is bundled and fits into memory: leave streaming out")
    return [task.dataset, *(task.sources or ())]


def _split_names(source: Source, task: TaskArguments) -> tuple[str | None, list[str]]:
    """Return the names of the validation split, if there is one, and of the test splits."""
    tests = task.test_splits
    if tests is None:
        tests = [name for name in source.splits if name.startswith("test")]
    for name in (task.train_split, task.validation_split, *tests):
        if name is not None and name not in source.splits:
            raise ValueError(f"{task.dataset} has no split {name!r}: {did_you_mean(name, source.splits)}")
    named = task.validation_split or ("validation" if "validation" in source.splits else None)
    if named and task.validation_samples:
        raise ValueError(
            f"validation_samples={task.validation_samples} and split {named!r} are both to validate on: leave it out, "
            "max_eval_samples bounds the split"
        )
    return named, tests


def _held_out(shards: list[Shard], task: TaskArguments) -> tuple[list[Shard], list[Shard]]:
    """Return the shards to train on and those to validate on: the last one, or as many rows at the begin as asked."""
    wanted = task.validation_samples
    if wanted is None:
        if len(shards) < 2:
            raise ValueError(
                f"{task.dataset} is one shard and has no split to validate on: set validation_samples, to hold out "
                "its first ones"
            )
        return shards[:-1], shards[-1:]
    read = Counter(row[SHARD] for row in islice(read_shards(shards, task.on_bad_shard == "skip"), wanted))
    if read.total() < wanted:
        raise ValueError(f"validation_samples={wanted}: {task.dataset} has {read.total()} samples")
    held = [each._replace(end=read[each.path]) for each in shards if each.path in read]
    last = held[-1].path  # of those before it, all was read
    train = [each._replace(begin=read[each.path]) for each in shards if each.path == last or each.path not in read]
    return train, held


def _limited(shards: list[Shard], split: str, task: TaskArguments) -> Iterable[dict[str, Any]]:
    return islice(read_shards(shards, task.on_bad_shard == "skip"), task.max_eval_samples)


def _numbered(features: Features, task: TaskArguments) -> Features:
    """Return the features; numbers of classes whose names the user tells are classes."""
    column = task.columns.get("label", "")
    whole = str(getattr(features.get(column), "dtype", "")).startswith(("int", "uint"))
    if task.label_kind == "class" and whole and task.class_names and not isinstance(features[column], ClassLabel):
        return Features({**features, column: ClassLabel(names=task.class_names)})
    return features


def _same_columns(source: Source, features: Features, task: TaskArguments) -> list[Shard]:
    """Return the training shards of a further source, whose columns are those of the first one."""
    shards = source.splits.get(task.train_split)
    if not shards:
        hint = did_you_mean(task.train_split, source.splits)
        raise ValueError(f"sources: one has no split {task.train_split!r}: {hint}")
    own = _numbered(source.features or features_of(shards, list(islice(read_shards(shards[:1]), 8))), task)
    for name, column in task.columns.items():
        if column not in own:
            raise ValueError(f"{shown(shards[0].path)} has no {name} column {column!r}: {did_you_mean(column, own)}")
    column = task.columns.get("label", "")
    if column in features and own[column] != features[column]:
        raise ValueError(
            f"sources: label column {column!r} holds {own[column]} in {shown(shards[0].path)}, and "
            f"{features[column]} in {task.dataset}: bring them to the same classes"
        )
    return shards


def _labels(task: TaskArguments, features: Features, sources: list[list[Shard]]) -> Labels:
    """Return the names of the classes: those that the files tell, else the user's, else those found in one pass."""
    if task.label_kind not in ("class", "tags", "answers"):
        if task.class_names:
            raise ValueError(f"class_names={task.class_names}: {task.task} has no classes to name")
        return Labels([], False)
    column = task.columns["label"]
    feature: Any = features[column]
    feature = feature.feature if isinstance(feature, List) else feature
    if isinstance(feature, ClassLabel):
        if task.class_names not in (None, feature.names):
            raise ValueError(f"class_names={task.class_names}: the files name the classes {feature.names}")
        return Labels(list(feature.names), True)
    if task.class_names:
        return Labels(list(task.class_names), False)
    values: set[Any] = set()
    number = 0
    for shards in sources:
        for row in read_shards(shards, task.on_bad_shard == "skip", columns=[column]):
            value, number = row.get(column), number + 1
            values.update(value if isinstance(value, list) else [value])
    names = [str(value) for value in sorted(values - {None})]
    if not all(shard.files for shards in sources for shard in shards):  # of files only the names were read
        warnings.warn(
            f"{task.dataset} does not tell its classes: {len(names)} were found in one pass over {number:,} samples; "
            "class_names saves it",
            stacklevel=2,
        )
    return Labels(names, False)
