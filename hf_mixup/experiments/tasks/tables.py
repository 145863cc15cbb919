"""Tables: the datasets that scikit-learn ships, and the columns that are inputs."""

from __future__ import annotations

from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from sklearn import datasets as sklearn_datasets

from hf_mixup.utils.suggest import did_you_mean

_TEST_SHARE, _SPLIT_SEED = 0.3, 0
_NUMBERS = ("float", "double", "int", "uint", "decimal")
_CATEGORIES = ("string", "large_string", "bool")


def load_table(name: str) -> DatasetDict:
    """Return one of scikit-learn's datasets, with three of ten rows as the test, drawn once.

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


def input_columns(
    rows: Dataset, numerical: list[str] | None, categorical: list[str] | None, label: str
) -> tuple[list[str], list[str]]:
    """Return the names of the columns of numbers and of categories: those that are named, else all that fit.

    >>> input_columns(load_table("wine")["train"], ["alcohol", "hue"], [], "label")
    (['alcohol', 'hue'], [])
    """
    named = [*(numerical or ()), *(categorical or ())]
    for name in named:
        if name not in rows.column_names:
            raise ValueError(f"the dataset has no column {name!r}: {did_you_mean(name, rows.column_names)}")
        if name == label:
            raise ValueError(f"column {name!r} is the label: it cannot be an input, too")
    rest = [name for name in rows.column_names if name not in (*named, label)]
    kinds = {name: _kind(rows.features[name]) for name in rest}
    if numerical is None:
        numerical = [name for name in rest if kinds[name] == "number"]
    if categorical is None:
        categorical = [name for name in rest if kinds[name] == "category"]
    if not numerical and not categorical:
        held = ", ".join(f"{name}: {rows.features[name]}" for name in rest) or "the label alone"
        raise ValueError(f"the dataset has no column of numbers or categories, but {held}")
    return numerical, categorical


def _kind(feature: Any) -> str | None:
    if isinstance(feature, ClassLabel) or getattr(feature, "dtype", None) in _CATEGORIES:
        return "category"
    return "number" if str(getattr(feature, "dtype", "")).startswith(_NUMBERS) else None
