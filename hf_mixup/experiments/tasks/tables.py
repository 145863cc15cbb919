"""Tables: the data sets that scikit-learn ships, the processor of columns, the model, and rows for it."""

from __future__ import annotations

from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from sklearn import datasets as sklearn_datasets

from hf_mixup.experiments.tasks.shared import WithColumns
from hf_mixup.tabular import TabularConfig, TabularMLP, TabularProcessor
from hf_mixup.utils.suggest import did_you_mean

_TEST_SHARE, _SPLIT_SEED = 0.3, 0
_NUMBERS = ("float", "double", "int", "uint", "decimal")
_CATEGORIES = ("string", "large_string", "bool")


def load_table(name: str) -> DatasetDict:
    """Return one of scikit-learn's data sets, with three of ten rows as the test, drawn once.

    Columns are those of scikit-learn, and `label`. Classes have the same shares in both splits.

    Args:
        name: "wine" (178 rows, 3 classes), "breast_cancer" (569, 2), "digits" (1,797, 10), or for regression "diabetes"
            (442).

    >>> rows = load_table("wine")["train"]
    >>> rows.num_rows, rows.column_names[:2], rows.features["label"].names
    (124, ['alcohol', 'malic_acid'], ['class_0', 'class_1', 'class_2'])
    """
    data = getattr(sklearn_datasets, f"load_{name}")()
    classes = [str(each) for each in data["target_names"]] if "target_names" in data else None
    columns = {str(column): data["data"][:, index].tolist() for index, column in enumerate(data["feature_names"])}
    label: Any = Value("float32") if classes is None else ClassLabel(names=classes)
    features = Features({**dict.fromkeys(columns, Value("float32")), "label": label})
    rows = Dataset.from_dict({**columns, "label": data["target"].tolist()}, features=features)
    stratify = None if classes is None else "label"
    return rows.train_test_split(test_size=_TEST_SHARE, seed=_SPLIT_SEED, stratify_by_column=stratify)


def load_tabular_processor(task: WithColumns, train: Dataset) -> TabularProcessor:
    """Return the checkpoint's processor, or one fitted to the training rows.

    Raises:
        ValueError: for columns that are not there, or that hold neither numbers nor categories.
        OSError: for a checkpoint that has none.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> task = TaskArguments(task="tabular-classification", dataset="wine")
    >>> load_tabular_processor(task, load_table("wine")["train"]).numerical[0]
    'alcohol'
    """
    if task.model is not None:
        return TabularProcessor.from_pretrained(task.model)
    numerical, categorical = _columns(task, train)
    target = train[task.label_column][:] if task.label_kind == "number" else None
    return TabularProcessor.fit(train[:], numerical, categorical, target)


def _columns(task: WithColumns, rows: Dataset) -> tuple[list[str], list[str]]:
    """Return the names of the columns of numbers and of categories."""
    named = [*(task.numerical_columns or ()), *(task.categorical_columns or ())]
    for name in named:
        if name not in rows.column_names:
            raise ValueError(f"the data set has no column {name!r}: {did_you_mean(name, rows.column_names)}")
        if name == task.label_column:
            raise ValueError(f"column {name!r} is the label: it cannot be an input, too")
    rest = [name for name in rows.column_names if name not in (*named, task.label_column)]
    kinds = {name: _kind(rows.features[name]) for name in rest}
    if task.numerical_columns is None:
        numerical = [name for name in rest if kinds[name] == "number"]
    else:
        numerical = list(task.numerical_columns)
    if task.categorical_columns is None:
        categorical = [name for name in rest if kinds[name] == "category"]
    else:
        categorical = list(task.categorical_columns)
    if not numerical and not categorical:
        held = ", ".join(f"{name}: {rows.features[name]}" for name in rest) or "the label alone"
        raise ValueError(f"the data set has no column of numbers or categories, but {held}")
    return numerical, categorical


def _kind(feature: Any) -> str | None:
    if isinstance(feature, ClassLabel) or getattr(feature, "dtype", None) in _CATEGORIES:
        return "category"
    return "number" if str(getattr(feature, "dtype", "")).startswith(_NUMBERS) else None


def load_tabular_model(task: WithColumns, label_names: list[str], processor: TabularProcessor) -> TabularMLP:
    """Return a `TabularMLP` for the processor's columns: a checkpoint, or a new one with the settings of the task.

    Seed before calling, as a new model is drawn at random.

    Raises:
        ValueError: for another `model_type`, or settings that a `TabularConfig` does not have.
        OSError: for a checkpoint that cannot be loaded.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> task = TaskArguments(task="tabular-classification", dataset="wine")
    >>> processor = load_tabular_processor(task, load_table("wine")["train"])
    >>> load_tabular_model(task, ["a", "b", "c"], processor).config.numerical_size
    13
    """
    labels: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
    if label_names:
        labels = {"id2label": dict(enumerate(label_names)), "label2id": {n: i for i, n in enumerate(label_names)}}
    if task.model is not None:
        return TabularMLP.from_pretrained(task.model, ignore_mismatched_sizes=True, **labels)
    if task.model_type not in (None, TabularConfig.model_type):
        raise ValueError(f"model_type={task.model_type!r} takes no tables: leave it out, or {TabularConfig.model_type}")
    known = TabularConfig().to_dict()
    for name in task.overrides:
        if name not in known:
            raise ValueError(f"a {TabularConfig.model_type} has no setting {name!r}: {did_you_mean(name, known)}")
    sizes: dict[str, Any] = {
        "numerical_size": len(processor.numerical),
        "categorical_sizes": processor.categorical_sizes,
    }
    return TabularMLP(TabularConfig(**sizes, **labels, **task.overrides))


def tabular_rows(rows: Dataset, processor: TabularProcessor, task: WithColumns) -> Dataset:
    """Return rows of `numerical_values` [F], `categorical_values` [K] and `labels`: a class, or a scaled number.

    Numbers to predict are in standard deviations of the training rows, from their mean; so are the errors then, and the
    `label_bandwidth` of C-Mixup. `TabularProcessor.unscaled_target` leads back.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> task, rows = TaskArguments(task="tabular-classification", dataset="wine"), load_table("wine")["train"]
    >>> row = tabular_rows(rows, load_tabular_processor(task, rows), task)[0]
    >>> len(row["numerical_values"]), row["labels"]
    (13, 0)
    """

    def values(batch: dict[str, list[Any]]) -> dict[str, Any]:
        labels = batch[task.label_column]
        numbers = task.label_kind == "number"
        return {**processor(batch), "labels": processor.scaled_target(labels) if numbers else labels}

    return rows.map(values, batched=True, remove_columns=rows.column_names)
