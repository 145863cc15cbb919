"""Verdicts over constructed cases: what they say, and that they never say more than the interval."""

from __future__ import annotations

import itertools

import pytest

from hf_mixup.report.statistics import Difference
from hf_mixup.report.verdict import judgement, verdict

NAN = float("nan")


def found(estimate: float, half: float, p: float, seeds: int = 5, rows: int = 400, failed: int = 0) -> Difference:
    return Difference(estimate, estimate - half, estimate + half, p, seeds, rows, failed)


LOWER, HIGHER = found(-0.1, 0.05, 0.001), found(0.1, 0.05, 0.001)
UNCLEAR, WIDE = found(0.002, 0.01, 0.7), found(0.1, 0.4, 0.6)


@pytest.mark.parametrize(
    ("differences", "text"),
    [
        ({"accuracy": HIGHER, "ece": LOWER, "nll": LOWER}, "helps calibration, likelihood and accuracy (5 seeds)"),
        ({"accuracy": LOWER, "ece": HIGHER}, "hurts calibration and accuracy (5 seeds)"),
        ({"accuracy": LOWER, "ece": LOWER}, "helps calibration, hurts accuracy (5 seeds)"),
        ({"accuracy": UNCLEAR}, "accuracy unchanged within noise (-0.008 to +0.012; 5 seeds)"),
        ({"accuracy": UNCLEAR, "ece": UNCLEAR}, "calibration and accuracy unchanged within noise (accuracy -0.008 to "
         "+0.012; 5 seeds)"),
        ({"accuracy": found(-0.04, 0.05, 0.1), "ece": UNCLEAR}, "accuracy unclear (-0.090 to +0.010), calibration "
         "unchanged within noise (5 seeds)"),
        ({"mse": LOWER, "spearman": WIDE}, "helps squared error, rank correlation unchanged within noise "
         "(-0.300 to +0.500; 5 seeds)"),
        (
            {"accuracy": UNCLEAR, "ece": LOWER, "ece_temperature": UNCLEAR, "nll_temperature": LOWER},
            "helps calibration, accuracy unchanged within noise (-0.008 to +0.012); after a temperature refit helps "
            "likelihood, calibration unchanged within noise (5 seeds)",
        ),
        ({"nll": found(-0.1, 0.05, 0.2)}, "perhaps helps likelihood (not sure among so many comparisons; 5 seeds)"),
        ({"ece": found(-0.1, 0.01, 0.001, seeds=1)}, "helps calibration (one seed: of this training only)"),
        ({"mean_recall": found(0.1, 0.01, 0.001, rows=0)}, "helps recall (5 seeds; the test rows taken as given)"),
        ({"nll": LOWER, "f1_entity": found(0.1, 0.01, 0.001, rows=0)}, "helps likelihood and F1 of names (5 seeds; the "
         "test rows taken as given for F1 of names)"),
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
            assert text.startswith("helps") == (sure and sign * estimate > 0)
            assert text.startswith("hurts") == (sure and sign * estimate < 0)
            assert ("unchanged within noise" in text) == (abs(estimate) <= half / 2)
            assert ("unclear" in text) == (half / 2 < abs(estimate) <= half)
            assert ("perhaps" in text) == (abs(estimate) > half and not sure)
            assert ("this training only" in text) == (seeds == 1)
    assert judgement("temperature", HIGHER) == 0
