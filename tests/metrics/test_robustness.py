"""Robustness metrics against loops, counts of pairs, scikit-learn's cousins and hand-worked cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_mixup import metrics


def random_logits(rows: int, classes: int = 4, seed: int = 0, shift: float = 2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    return rng.normal(size=(rows, classes)) * 2 + shift * np.eye(classes)[labels], labels


# Out-of-distribution detection ---------------------------------------------------------------------------------------


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


def test_ood_module_equals_the_function():
    inside, outside = random_logits(20)[0], random_logits(9, seed=1)[0]
    module = metrics.load("ood")
    module.add_batch(predictions=inside, references=[1] * 20)
    module.add_batch(predictions=outside, references=[0] * 9)
    assert module.compute() == metrics.ood_metrics(inside, outside)
    with pytest.raises(ValueError, match="all alike"):
        module.compute(predictions=inside, references=[1] * 20)
    with pytest.raises(ValueError, match="neither 1"):
        module.compute(predictions=inside, references=[2] * 20)


# Levels of disturbance -----------------------------------------------------------------------------------------------


def disturbed(seed: int = 0):
    """Rows of two families and three levels in a random order, with undisturbed ones."""
    logits, labels = random_logits(210, seed=seed)
    rng = np.random.default_rng(seed + 10)
    families = rng.choice(["blur", "noise"], 210).tolist()
    return logits, labels, families, rng.integers(0, 4, 210)


def loop_error(logits, labels, families, levels, family, level) -> float:
    rows = [i for i in range(len(labels)) if levels[i] == level and family in (None, families[i])]
    return sum(int(np.argmax(logits[i])) != labels[i] for i in rows) / len(rows)


def test_means_and_corruption_errors_match_loops():
    own, other = disturbed(), disturbed(seed=5)
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
    logits, labels, families, levels = disturbed()
    got = metrics.robustness_metrics(logits, labels, families, levels, temperature=1.7)
    rows = np.array([family == "blur" for family in families]) & (levels == 2)
    expected = metrics.calibration_metrics(logits[rows], labels[rows], temperature=1.7)
    for name in ("nll", "ece", "nll_temperature", "ece_temperature"):
        assert got["families"]["blur"][name][1] == pytest.approx(expected[name])
    assert got["clean"] == metrics.cell_scores(logits[levels == 0], labels[levels == 0], 1.7)


def test_robustness_module_takes_a_baseline_from_json():
    import json

    logits, labels, families, levels = disturbed()
    expected = metrics.robustness_metrics(logits, labels, families, levels)
    module = metrics.load("robustness")
    module.add_batch(predictions=logits[:99], references=labels[:99])
    module.add_batch(predictions=logits[99:], references=labels[99:])
    options = {"families": families, "levels": levels.tolist(), "baseline": json.loads(json.dumps(expected))}
    got = module.compute(**options)
    assert got["mce"] == pytest.approx(1)
    assert got["accuracy"] == expected["accuracy"]


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
