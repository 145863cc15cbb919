"""The part of the training rows that is validated on where the dataset has no split for it."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.splitting import by_class


def written(folder: Path, rows: list[dict[str, Any]], split: str = "train") -> Path:
    path = folder / f"{split}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(counts: dict[str, int]) -> list[dict[str, Any]]:
    return [{"text": f"{name} {i}", "label": name} for name, count in counts.items() for i in range(count)]


def loaded(path: Path, task: str = "text-classification", **settings: Any) -> Any:
    return load_splits(
        TaskArguments(task=task, dataset=str(path), text_column="text", label_column="label", **settings)
    )


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    share=st.floats(0.01, 0.99),
)
def test_every_class_stays_in_train_and_shares_are_kept(sizes: list[int], share: float) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    kept, spared = by_class(labels, share)
    assert sorted(kept + spared) == list(range(len(labels)))
    assert {labels[row] for row in kept} == set(labels)
    found = Counter(labels[row] for row in spared)
    of_all = math.ceil(share * len(labels)) / len(labels)  # the share, with whole rows
    for label, size in enumerate(sizes):
        assert found[label] <= size - 1
        if size > 1 and share * size >= 1 and share <= 0.5:
            assert abs(found[label] - of_all * size) <= 1 + sum(other == 1 for other in sizes)
    assert by_class(labels, share) == (kept, spared)


def test_a_rare_class_is_trained_on(tmp_path: Path) -> None:
    path = written(tmp_path, texts({"common": 60, "scarce": 10, "single": 1}))
    for share in (0.1, 0.3):
        splits = loaded(path, validation_share=share)
        assert splits.label_names == ["common", "scarce", "single"]
        in_train, in_validation = (Counter(rows["label"]) for rows in (splits.train, splits.validation))
        assert in_train[2] == 1
        assert in_validation[0] == pytest.approx(60 * share, abs=1)
        assert in_validation[1] == pytest.approx(10 * share, abs=1)
        again = loaded(path, validation_share=share)
        assert again.validation["text"][:] == splits.validation["text"][:]
        assert splits.validation["label"][:] != sorted(splits.validation["label"][:]), "in random order"


@pytest.mark.parametrize("counts", [{"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}])
def test_no_row_to_spare(tmp_path: Path, counts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"split 'train' has no row to spare for validation.*validation_split"):
        loaded(written(tmp_path, texts(counts)))
    splits = loaded(written(tmp_path, texts({**counts, "a": 2})))
    assert (len(splits.train), len(splits.validation)) == (len(counts), 1)


def test_errors_name_the_split_and_row_of_the_user(tmp_path: Path) -> None:
    """Whichever part the bad row would have been drawn into."""
    nothing = {"text": "x", "label": None}
    with pytest.raises(ValueError, match="split 'train', row 10: label column 'label' is empty"):
        loaded(written(tmp_path, [*texts({"a": 5, "b": 5}), nothing]), validation_share=0.9)
    numbers = [{"text": str(i), "label": i / 2} for i in range(20)]
    with pytest.raises(ValueError, match="split 'train', row 7: label column 'label' has no finite number"):
        loaded(written(tmp_path, [*numbers[:7], nothing, *numbers[7:]]), "text-regression", validation_share=0.5)
    words = [{"text": ["a", "b"], "label": ["O", "T"]} for _ in range(9)]
    with pytest.raises(ValueError, match="split 'train', row 9: column 'text' has 1 words and column 'label' 2 tags"):
        loaded(written(tmp_path, [*words, {"text": ["a"], "label": ["O", "T"]}]), "token-classification")


def test_splits_are_called_what_the_user_called_them(tmp_path: Path) -> None:
    parts = {"clean": texts({"a": 3, "b": 3}), "dev": texts({"a": 1, "z": 1}), "train": texts({"c": 9})}
    DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(str(tmp_path))
    named = {"train_split": "clean", "test_splits": []}
    with pytest.raises(ValueError, match="split 'dev' has labels that the training split lacks: z"):
        loaded(tmp_path, validation_split="dev", **named)
    assert loaded(tmp_path, **named).label_names == ["a", "b"]
    with pytest.raises(ValueError, match="split 'train' has labels that the training split lacks: c"):
        loaded(tmp_path, **{**named, "test_splits": ["train"]})


def test_tags_numbers_and_pairs_of_texts(tmp_path: Path) -> None:
    words = [{"text": ["a", "b"], "label": ["O", f"T{i % 9}"]} for i in range(12)]
    for share in (0.1, 0.5, 0.9):
        splits = loaded(written(tmp_path, words), "token-classification", validation_share=share)
        assert len(splits.label_names) == 10
        assert {tag for tags in splits.train["label"] for tag in tags} == set(range(10))
        assert 0 < len(splits.validation) <= 12 - 9
    numbers = [{"text": str(i), "label": float(i)} for i in range(10)]
    splits = loaded(written(tmp_path, numbers), "text-regression", validation_share=0.3)
    assert len(splits.validation) == 3
    assert sorted([*splits.train["label"], *splits.validation["label"]]) == [float(i) for i in range(10)]
    written_ = [{"source": str(i), "target": str(i)} for i in range(10)]
    task = TaskArguments(
        task="seq2seq",
        dataset=str(written(tmp_path, written_)),
        source_column="source",
        target_column="target",
        validation_share=0.2,
    )
    assert len(load_splits(task).validation) == 2


def test_two_rows_of_one_class(tmp_path: Path) -> None:
    splits = loaded(written(tmp_path, texts({"a": 2})))
    assert isinstance(splits.train, Dataset)
    assert (len(splits.train), len(splits.validation)) == (1, 1)
    with pytest.raises(ValueError, match="split 'train' has 1 rows: too few"):
        loaded(written(tmp_path, texts({"a": 1})))
