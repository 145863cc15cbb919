"""Out-of-distribution detection against counts of pairs and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_mixup import metrics
from tests.metrics.common import random_logits


def loop_scores(logits) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"max_probability": [], "energy": []}
    for row in logits:
        total = math.fsum(math.exp(float(value)) for value in row)
        found["max_probability"].append(max(math.exp(float(value)) / total for value in row))
        found["energy"].append(math.log(total))
    return found


def pair_auroc(inside: list[float], outside: list[float]) -> float:
    """Share of pairs in which the row inside scores higher; half for ties."""
    wins = sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    return wins / (len(inside) * len(outside))


def loop_precision(positives: list[float], negatives: list[float]) -> float:
    """Average precision: the precision at each threshold, weighted by the recall that it adds."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(positives), reverse=True):
        true = sum(value >= threshold for value in positives)
        false = sum(value >= threshold for value in negatives)
        total += (true / len(positives) - before) * true / (true + false)
        before = true / len(positives)
    return total


def loop_fpr95(inside: list[float], outside: list[float]) -> float:
    for threshold in sorted(set(inside + outside), reverse=True):
        if sum(value >= threshold for value in inside) / len(inside) >= 0.95:
            return sum(value >= threshold for value in outside) / len(outside)
    raise AssertionError("the lowest threshold lets all pass")


@pytest.mark.parametrize("rounded", [False, True], ids=["apart", "ties"])
def test_detection_matches_counts_of_pairs(rounded):
    inside, _ = random_logits(60)
    outside, _ = random_logits(45, seed=1, shift=0.5)
    if rounded:
        inside, outside = inside.round(), outside.round()
    near, far = loop_scores(inside), loop_scores(outside)
    got = metrics.ood_metrics(inside, outside)
    for name in ("max_probability", "energy"):
        # Sums of other order differ in the last bit: ties are compared as rounded.
        a, b = ([round(value, 9) for value in side[name]] for side in (near, far))
        if not rounded:
            assert got[f"auroc_{name}"] == pytest.approx(pair_auroc(a, b), abs=1e-12)
            assert got[f"fpr95_{name}"] == pytest.approx(loop_fpr95(a, b), abs=1e-12)
            assert got[f"aupr_in_{name}"] == pytest.approx(loop_precision(a, b), abs=1e-12)
            negated = [-value for value in a], [-value for value in b]
            assert got[f"aupr_out_{name}"] == pytest.approx(loop_precision(negated[1], negated[0]), abs=1e-12)
        else:
            assert got[f"auroc_{name}"] == pytest.approx(pair_auroc(a, b), abs=2e-3)


def test_energy_sees_the_scale_that_probabilities_drop():
    inside = np.array([[9.0, 8.0], [8.0, 7.0]])
    got = metrics.ood_metrics(inside, [[3.0, 1.0]])  # surer of itself, at smaller logits
    assert (got["auroc_energy"], got["auroc_max_probability"]) == (1.0, 0.0)
    assert (got["fpr95_energy"], got["fpr95_max_probability"]) == (0.0, 1.0)
    assert metrics.ood_metrics(inside, inside)["auroc_energy"] == 0.5
    assert metrics.ood_metrics([[1.0, 0.0]], [[0.0, 0.0]])["fpr95_energy"] == 0.0  # one row a side


@pytest.mark.parametrize(
    ("inside", "outside", "message"),
    [
        (np.zeros((0, 3)), np.ones((2, 3)), "at least one row"),
        (np.ones((2, 3)), np.ones((2, 4)), "as many classes inside as outside, not 3 and 4"),
        (np.ones((2, 1)), np.ones((2, 1)), "two classes"),
        ([[1.0, np.nan]], [[0.0, 0.0]], "NaN"),
    ],
)
def test_detection_bad_input(inside, outside, message):
    with pytest.raises(ValueError, match=message):
        metrics.ood_metrics(inside, outside)
