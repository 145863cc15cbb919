"""Differences between methods: sums against the metrics, resamples against loops, intervals against a known truth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from hf_mixup.experiments.report.score_sums import RowSums, class_sums, token_sums, value_sums
from hf_mixup.experiments.report.statistics import adjusted, row_differences, seed_differences, with_adjusted
from hf_mixup.metrics import calibration_metrics, expected_calibration_error, language_metrics, regression_metrics


def classifier(seed: int, rows: int = 60, shift: float = 0.0, shape: tuple[int, ...] = ()) -> tuple:
    """Logits and labels; the labels depend on the shape alone, so that runs are paired."""
    labels = np.random.default_rng(99).integers(4, size=(rows, *shape))
    logits = np.random.default_rng(seed).normal(size=(rows, *shape, 4)) + shift * np.eye(4)[labels]
    return logits, labels


# Sums ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (5,)])
def test_sums_of_classes_give_the_metrics_of_any_resample(shape):
    logits, labels = classifier(0, shape=shape, shift=1.0)
    if shape:
        labels = np.where(np.random.default_rng(1).random(labels.shape) < 0.3, -100, labels)
        labels[7] = -100  # a row without any token to score
    rows = class_sums(logits, labels, temperature=2.5)
    drawn = np.random.default_rng(2).integers(60, size=(3, 60))
    weights = np.stack([np.bincount(each, minlength=60) for each in drawn])
    for name in ("accuracy", "nll", "ece", "nll_temperature", "ece_temperature"):
        whole = calibration_metrics(logits, labels, temperature=2.5)[name]
        assert float(rows.score(name)) == pytest.approx(whole, abs=1e-12)
        for each, found in zip(drawn, rows.score(name, weights)):
            looped = calibration_metrics(logits[each], labels[each], temperature=2.5)[name]
            assert found == pytest.approx(looped, abs=1e-12)


def test_sums_of_tokens_and_values_give_their_metrics():
    rng = np.random.default_rng(0)
    scores = np.stack([-rng.exponential(size=(8, 5)), rng.random((8, 5)), rng.integers(2, size=(8, 5))], axis=-1)
    labels = np.where(rng.random((8, 5)) < 0.3, -100, 1)
    scores[:, 0] = 0  # next_token_scores has nothing there
    labels[3, 1:] = -100
    expected = language_metrics(SimpleNamespace(predictions=scores, label_ids=labels))
    rows = token_sums(scores, labels)
    assert {name: float(rows.score(name)) for name in rows.scores} == pytest.approx(expected)

    targets = 1e4 + rng.normal(size=30)
    predictions = targets + rng.normal(size=30)
    rows = value_sums(predictions[:, None], targets)
    expected = regression_metrics(predictions, targets)
    assert {name: float(rows.score(name)) for name in rows.scores} == pytest.approx(
        {name: expected[name] for name in ("mse", "mae", "r2")}
    )
    assert np.isnan(value_sums([1.0, 2.0], [3.0, 3.0]).score("r2"))


# Intervals ----------------------------------------------------------------------------------------------------------


def test_an_interval_over_rows_is_that_of_a_loop():
    runs = {name: [class_sums(*classifier(i, 200, shift=i))] for i, name in enumerate(("none", "mixup"))}
    logits = [classifier(i, 200, shift=i) for i in (0, 1)]
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(800):
        rows = rng.integers(200, size=200)
        plain, mixed = (expected_calibration_error(x[rows], y[rows]) for x, y in logits)
        drawn.append(mixed - plain)
    found = row_differences(runs, "none", draws=2000)["mixup"]["ece"]
    plain, mixed = (expected_calibration_error(x, y) for x, y in logits)
    assert found.estimate == pytest.approx(mixed - plain)
    width = np.subtract(*np.quantile(drawn, [0.975, 0.025]))
    assert found.high - found.low == pytest.approx(width, rel=0.1)
    assert (found.seeds, found.rows) == (1, 200)


def test_seeds_alone_are_a_paired_t_test():
    method, control = [0.61, 0.66, 0.64, 0.7], [0.6, 0.62, 0.65, 0.63]
    found, reference = seed_differences(method, control), stats.ttest_rel(method, control)
    assert (found.p, found.low, found.high) == pytest.approx((reference.pvalue, *reference.confidence_interval()))
    assert found.rows == 0
    # Rows that tell the two apart in each seed alike add nothing to what the seeds say.
    targets = np.zeros(400)
    runs = {"none": [value_sums(targets + 1 + each, targets) for each in control]}
    runs["mixup"] = [value_sums(targets + 1 + each, targets) for each in method]
    both = row_differences(runs, "none")["mixup"]["mae"]
    assert (both.low, both.high) == pytest.approx((found.low, found.high), rel=0.02)
    assert both.p == pytest.approx(found.p, abs=0.002)


def simulated(rng: np.random.Generator, seeds: int, rows: int, gain: float) -> dict[str, list[RowSums]]:
    """Runs whose errors vary with the row, with the seed, and with both together; mixup's are smaller by `gain`."""
    hard, targets = rng.normal(size=rows), np.zeros(rows)
    return {
        method: [
            value_sums(5 + hard + 0.1 * rng.normal() + 0.3 * rng.normal(size=rows) - less, targets)
            for _ in range(seeds)
        ]
        for method, less in (("none", 0.0), ("mixup", gain))
    }


@pytest.mark.parametrize(("seeds", "rows"), [(2, 60), (4, 40), (5, 200)])
def test_intervals_cover_the_truth_and_errors_are_rare(seeds, rows):
    rng = np.random.default_rng(seeds)
    found = [row_differences(simulated(rng, seeds, rows, 0.0), "none", draws=200)["mixup"]["mae"] for _ in range(150)]
    covered = np.mean([each.low <= 0 <= each.high for each in found])
    assert covered >= 0.92  # 95 %, less two standard deviations of 150 trials
    assert np.mean([each.p < 0.05 for each in found]) <= 0.09
    assert np.mean([(each.p < 0.05) == (not each.low <= 0 <= each.high) for each in found]) > 0.97
    if seeds == 5:  # and a difference as large as that is seen
        large = [
            row_differences(simulated(rng, seeds, rows, 0.5), "none", draws=200)["mixup"]["mae"] for _ in range(20)
        ]
        assert all(each.high < 0 and each.p < 0.05 for each in large)


def test_more_seeds_than_one_widen_what_one_seed_says():
    rng = np.random.default_rng(0)
    many = simulated(rng, 4, 300, 0.1)
    one = {name: runs[:1] for name, runs in many.items()}
    narrow, wide = (row_differences(runs, "none")["mixup"]["mae"] for runs in (one, many))
    assert narrow.high - narrow.low < wide.high - wide.low
    assert (narrow.seeds, wide.seeds) == (1, 4)


# Degenerate ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_nothing_is_claimed_where_nothing_differs():
    same = class_sums(*classifier(0))
    for seeds in (1, 3):
        found = row_differences({"none": [same] * seeds, "mixup": [same] * seeds}, "none")["mixup"]
        assert {(d.estimate, d.low, d.high, d.p) for d in found.values()} == {(0.0, 0.0, 0.0, 1.0)}
    assert seed_differences([0.5, 0.5], [0.5, 0.5]).p == 1.0
    assert seed_differences([0.7, 0.7, 0.7], [0.5, 0.5, 0.5]).p == 0.25
    means = (
        [np.mean([0.1, 0.2, 0.24]), np.mean([0.17, 0.18, 0.25])],
        [np.mean([0.1, 0.21, 0.24]), np.mean([0.18, 0.18, 0.25])],
    )
    assert np.ptp(np.subtract(*means)) > 0, "these differ by rounding alone"
    assert seed_differences(*means).p == 0.5


@pytest.mark.filterwarnings("error")
def test_one_row_and_one_seed_give_no_interval():
    logits, labels = classifier(0, 1)
    runs = {"none": [class_sums(logits, labels)], "mixup": [class_sums(-logits, labels)]}
    found = row_differences(runs, "none")["mixup"]["nll"]
    assert np.isfinite(found.estimate)
    assert not found.known
    two = row_differences({name: many * 2 for name, many in runs.items()}, "none")["mixup"]["nll"]
    assert two.known
    assert two.rows == 0
    assert not seed_differences([0.5], [0.4]).known


@pytest.mark.filterwarnings("error")
def test_few_rows_that_all_agree_are_no_proof():
    labels = np.zeros(3, dtype=int)
    right, wrong = ([[side, 0.0]] * 3 for side in (1.0, -1.0))
    runs = {"none": [class_sums(wrong, labels)], "mixup": [class_sums(right, labels)]}
    assert row_differences(runs, "none")["mixup"]["accuracy"].p == 0.25


@pytest.mark.filterwarnings("error")
def test_a_seed_that_diverged_is_not_left_out():
    good = class_sums(*classifier(0))
    better = class_sums(*classifier(1, shift=3))
    found = row_differences({"none": [good] * 3, "mixup": [better, None, better]}, "none")["mixup"]["accuracy"]
    assert (found.failed, found.seeds, found.known) == (1, 3, False)
    assert seed_differences([0.5, None, float("nan")], [0.4, 0.4, 0.4]).failed == 2
    assert row_differences({"none": [None], "mixup": [None]}, "none") == {}


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"mixup": []}, "control 'none' is not among the methods mixup"),
        ({"none": [None], "mixup": []}, "mixup has 0 seeds, none has 1"),
        ({"none": [class_sums(*classifier(0, 5))], "mixup": [class_sums(*classifier(0, 4))]}, "different rows: 4, 5"),
    ],
)
def test_runs_that_cannot_be_compared(runs, message):
    with pytest.raises(ValueError, match=message):
        row_differences(runs, "none")


# Many comparisons ---------------------------------------------------------------------------------------------------


def test_holm_is_the_closed_test_of_bonferroni():
    """By its definition: a hypothesis falls if every set of hypotheses that holds it falls to Bonferroni."""
    p = np.array([0.001, 0.011, 0.02, 0.04, 0.3])
    sets = [[i for i in range(5) if bits >> i & 1] for bits in range(1, 32)]
    closed = [max(min(1.0, len(each) * p[each].min()) for each in sets if i in each) for i in range(5)]
    assert adjusted(p) == pytest.approx(closed)
    assert adjusted([0.01, np.nan]).tolist()[0] == 0.01


def test_all_methods_and_scores_are_one_family():
    good, better = class_sums(*classifier(0)), class_sums(*classifier(1, shift=3))
    found = row_differences({"none": [good], "a": [better], "b": [better]}, "none")
    raw, corrected = found["a"]["accuracy"], with_adjusted(found)["a"]["accuracy"]
    assert corrected.p == pytest.approx(6 * raw.p)
    assert corrected.low == raw.low
