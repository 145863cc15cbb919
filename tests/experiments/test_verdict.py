"""Verdicts over constructed cases: what they say, and that they never say more than the interval."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mixup.experiments.report.statistics import Difference
from hf_mixup.experiments.report.verdict import MARGIN, claim, judgement, verdict

NAN = float("nan")


def found(estimate: float, half: float, p: float, seeds: int = 5, rows: int = 400, failed: int = 0) -> Difference:
    return Difference(estimate, estimate - half, estimate + half, p, seeds, rows, failed)


LOWER, HIGHER = found(-0.1, 0.05, 0.001), found(0.1, 0.05, 0.001)
SAME, WIDE = found(0.002, 0.02, 0.7), found(0.1, 0.4, 0.6)


@pytest.mark.parametrize(
    ("differences", "text"),
    [
        ({"accuracy": HIGHER, "ece": LOWER, "nll": LOWER}, "better calibration, likelihood and accuracy (5 seeds)"),
        ({"accuracy": LOWER, "ece": HIGHER}, "worse calibration and accuracy (5 seeds)"),
        ({"accuracy": LOWER, "ece": LOWER}, "better calibration; worse accuracy (5 seeds)"),
        ({"accuracy": SAME}, "not significant with 5 seeds: accuracy (95 % interval -0.018 to +0.022)"),
        ({"accuracy": SAME, "ece": WIDE}, "not significant with 5 seeds: calibration (95 % interval -0.300 to "
         "+0.500) and accuracy (95 % interval -0.018 to +0.022)"),
        ({"accuracy": found(-0.901 / 2 + 0.298, 0.7485, 0.8)}, "not significant with 5 seeds: accuracy (95 % "
         "interval -0.901 to +0.596)"),
        ({"accuracy": found(0.001, 0.004, 0.7)}, "equivalent within ±0.01 with 5 seeds: accuracy (95 % interval -0.003 "
         "to +0.005)"),
        ({"nll": found(0.001, 0.004, 0.7)}, "not significant with 5 seeds: likelihood (95 % interval -0.003 to "
         "+0.005)"),
        ({"mse": LOWER, "spearman": WIDE}, "better squared error; not significant with 5 seeds: rank correlation "
         "(95 % interval -0.300 to +0.500)"),
        (
            {"accuracy": SAME, "ece": LOWER, "ece_temperature": SAME, "nll_temperature": LOWER},
            "better calibration; not significant with 5 seeds: accuracy (95 % interval -0.018 to +0.022); after "
            "temperature scaling better likelihood; not significant with 5 seeds: calibration (95 % interval -0.018 "
            "to +0.022)",
        ),
        ({"nll": found(-0.1, 0.05, 0.2)}, "perhaps better likelihood (95 % interval -0.150 to -0.050), which is not "
         "sure among so many comparisons (5 seeds)"),
        ({"ece": found(-0.1, 0.01, 0.001, seeds=1)}, "better calibration (one seed: of this training only)"),
        ({"ece": found(0.0, 0.001, 0.9, seeds=1)}, "not significant with 1 seed: calibration (95 % interval -0.001 "
         "to +0.001) (one seed: of this training only)"),
        ({"mean_recall": found(0.1, 0.01, 0.001, rows=0)}, "better recall (5 seeds; the test rows taken as given)"),
        ({"nll": LOWER, "f1_entity": found(0.1, 0.01, 0.001, rows=0)}, "better likelihood and F1 of names (5 seeds; "
         "the test rows taken as given for F1 of names)"),
        ({"nll": LOWER, "nll_temperature": found(-0.1, 0.05, 0.001, rows=0)}, "better likelihood; after temperature "
         "scaling better likelihood (5 seeds; the test rows taken as given for likelihood after temperature scaling)"),
        ({"accuracy": found(NAN, NAN, NAN, failed=2)}, "not judged: 2 of 5 seeds failed or diverged, here or in the "
         "control"),
        ({"mean_recall": Difference(0.1, NAN, NAN, NAN, 1, 0)}, "not judged: one run a method, and no scores by row "
         "to tell its noise from"),
        ({"temperature": LOWER}, "not judged: there is no score that tells"),
    ],
)  # fmt: skip
def test_what_is_said(differences: dict[str, Difference], text: str) -> None:
    assert verdict(differences) == text


def test_never_surer_than_interval_and_test() -> None:
    """Over a grid of cases: help is claimed if, and only if, both the whole interval and the test speak for it."""
    for estimate, half, p, seeds in itertools.product((-0.2, 0.0, 0.2), (0.1, 0.2, 0.5), (1e-4, 0.049, 0.05), (1, 5)):
        difference = found(estimate, half, p, seeds)
        for name, sign in (("accuracy", 1), ("ece", -1)):
            sure = p < 0.05 and abs(estimate) > half
            text = verdict({name: difference})
            assert text.startswith("better") == (sure and sign * estimate > 0)
            assert text.startswith("worse") == (sure and sign * estimate < 0)
            assert ("not significant" in text) == (abs(estimate) <= half)
            assert ("perhaps" in text) == (abs(estimate) > half and not sure)
            assert ("this training only" in text) == (seeds == 1)
            assert "equivalent" not in text
    assert judgement("temperature", HIGHER) == 0


NARROWER = {  # what a narrower interval may say, given what a wider one about the same difference says
    "better": {"better"},
    "worse": {"worse"},
    "perhaps better": {"better", "perhaps better", "equivalent"},
    "perhaps worse": {"worse", "perhaps worse", "equivalent"},
    "equivalent": {"equivalent", "better", "worse"},
    "not significant": {"better", "worse", "perhaps better", "perhaps worse", "equivalent", "not significant"},
}


@given(
    estimate=st.floats(-0.05, 0.05),
    below=st.floats(0, 0.1),
    above=st.floats(0, 0.1),
    more=st.tuples(st.floats(0, 0.1), st.floats(0, 0.1)),
    p=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seeds=st.sampled_from([1, 5]),
    name=st.sampled_from(["accuracy", "ece", "nll", "mse", "ece_temperature", "temperature"]),
)
def test_a_wider_interval_never_claims_more(
    estimate: float,
    below: float,
    above: float,
    more: tuple[float, float],
    p: tuple[float, float],
    seeds: int,
    name: str,
) -> None:
    low, high = estimate - below, estimate + above
    narrow = claim(name, Difference(estimate, low, high, min(p), seeds, 400))
    wide = claim(name, Difference(estimate, low - more[0], high + more[1], max(p), seeds, 400))
    assert narrow in NARROWER[wide]
    # And what is claimed is true of every value in the interval.
    if "better" in narrow or "worse" in narrow:
        assert not low <= 0 <= high
    if narrow == "equivalent":
        assert max(abs(low), abs(high)) <= MARGIN
