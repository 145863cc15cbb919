"""Scores over levels of corruption against loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_mixup import metrics
from tests.metrics.common import corrupted


def loop_error(logits, labels, families, levels, family, level) -> float:
    rows = [i for i in range(len(labels)) if levels[i] == level and family in (None, families[i])]
    return sum(int(np.argmax(logits[i])) != labels[i] for i in rows) / len(rows)


def test_means_and_corruption_errors_match_loops():
    own, other = corrupted(), corrupted(seed=5)
    base = metrics.robustness_metrics(*other)
    got = metrics.robustness_metrics(*own, baseline=base)
    errors, ces, relative = [], [], []
    for family in ("blur", "noise"):
        mine, its = ([loop_error(*rows, family, level) for level in (1, 2, 3)] for rows in (own, other))
        clean, its_clean = (loop_error(*rows, None, 0) for rows in (own, other))
        assert got["families"][family]["accuracy"] == pytest.approx([1 - error for error in mine])
        assert got["families"][family]["levels"] == [1, 2, 3]
        points = [1 - clean, *(1 - error for error in mine)]
        area = sum((points[i] + points[i + 1]) / 2 for i in range(3)) / 3
        assert got["families"][family]["area"] == pytest.approx(area)
        errors += mine
        ces.append(sum(mine) / sum(its))
        relative.append(sum(e - clean for e in mine) / sum(e - its_clean for e in its))
    assert got["accuracy"] == pytest.approx(1 - sum(errors) / 6)
    assert got["worst_accuracy"] == pytest.approx(1 - max(errors))
    assert got["mce"] == pytest.approx(sum(ces) / 2)
    assert got["relative_mce"] == pytest.approx(sum(relative) / 2)
    assert metrics.robustness_metrics(*other, baseline=base)["mce"] == pytest.approx(1)


def test_cells_are_those_of_calibration_metrics():
    logits, labels, families, levels = corrupted()
    got = metrics.robustness_metrics(logits, labels, families, levels, temperature=1.7)
    rows = np.array([family == "blur" for family in families]) & (levels == 2)
    expected = metrics.calibration_metrics(logits[rows], labels[rows], temperature=1.7)
    for name in ("nll", "ece", "nll_temperature", "ece_temperature"):
        assert got["families"]["blur"][name][1] == pytest.approx(expected[name])
    assert got["clean"] == metrics.cell_scores(logits[levels == 0], labels[levels == 0], 1.7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": [0, 0]}, "no level above 0"),
        ({"levels": [1, -1]}, "from 0 on, not -1"),
        ({"levels": [1]}, "give each row one of each"),
        ({"families": ["blur"]}, "give each row one of each"),
        ({"baseline": {"families": {}}}, "does not fit: it lacks 'blur' at 1, 2"),
        ({"baseline": {"families": {"blur": {"levels": [1.0], "accuracy": [0.5]}}}}, "it lacks 'blur' at 2"),
        ({"predictions": [[np.inf, 0.0], [0.0, 1.0]]}, "NaN or infinite"),
    ],
)
def test_levels_bad_input(changes, message):
    call = {"predictions": [[1.0, 0.0], [0.0, 1.0]], "references": [0, 0], "families": ["blur"] * 2, "levels": [1, 2]}
    with pytest.raises(ValueError, match=message):
        metrics.robustness_metrics(**{**call, **changes})


def test_a_baseline_without_errors_and_a_single_point():
    wrong, right = {"accuracy": 0.0}, {"accuracy": 1.0}
    perfect = metrics.summarise_levels({("pgd", 1.0): right})
    assert metrics.summarise_levels({("pgd", 1.0): wrong}, baseline=perfect)["mce"] == math.inf
    assert math.isnan(metrics.summarise_levels({("pgd", 1.0): right}, baseline=perfect)["mce"])
    assert math.isnan(perfect["families"]["pgd"]["area"])
    with pytest.raises(ValueError, match="rise"):
        metrics.area_under_curve([1, 1], [0, 0])
