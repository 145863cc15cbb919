"""What a comparison says of each class, and how many seeds it asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score

from hf_mixup.experiments.compare.classes import missed, recalls
from hf_mixup.experiments.report.statistics import seeds_to_settle
from hf_mixup.experiments.report.verdict import certain
from hf_mixup.plots.confusion import confusion_matrices


def test_recalls_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels, guesses = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    found = recalls(confusion_matrix(labels, guesses))
    np.testing.assert_allclose(found, recall_score(labels, guesses, average=None))
    assert found.mean() == pytest.approx(balanced_accuracy_score(labels, guesses))


def test_a_class_that_is_never_found_is_named_whatever_the_accuracy() -> None:
    matrix = np.array([[900, 0, 0], [10, 90, 0], [110, 5, 1]])
    assert list(missed({"plain": matrix, "same": np.eye(3, dtype=int)}, ["a", "b", "c"])) == [
        ("plain", "finds 1 of 116 samples of c")
    ]
    absent = np.array([[5, 0], [0, 0]])
    assert list(missed({"plain": absent}, ["a", "b"])) == [], "a class without samples is not missed"


def test_seeds_to_settle_is_the_first_number_that_does() -> None:
    rng = np.random.default_rng(1)
    method, control = rng.normal(0.8, 0.02, 5), rng.normal(0.8, 0.02, 5)
    deviation = np.std(method - control, ddof=1)

    def reach(seeds: int) -> float:
        return float(stats.t.interval(0.95, seeds - 1, scale=deviation / np.sqrt(seeds))[1])

    needed = seeds_to_settle(list(method), list(control), 0.01)
    assert needed is not None
    assert reach(needed) <= 0.01 < reach(needed - 1)
    assert seeds_to_settle([0.5], [0.4], 0.01) is None
    assert seeds_to_settle([0.5, None], [0.4, 0.3], 0.01) is None
    assert seeds_to_settle([0.0, 1.0], [1.0, 0.0], 1e-3) is None, "more than anybody would run"


def test_nothing_is_certain_of_no_difference() -> None:
    assert certain({}) == ""


@pytest.mark.parametrize("classes", [2, 13, 41])
def test_confusion_matrices_of_few_and_many_classes(tmp_path: Path, classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    path = confusion_matrices(
        {"none": np.eye(classes), "mixup": np.ones((classes, classes))}, names, tmp_path / "c.png"
    )
    assert path.stat().st_size > 1000
    with pytest.raises(ValueError, match=r"none: a matrix \[2, 2\] for 3 classes"):
        confusion_matrices({"none": np.eye(2)}, ["a", "b", "c"], tmp_path / "d.png")
    assert not (tmp_path / "d.png").exists()
