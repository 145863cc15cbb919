"""Drawing lam and partners: distributions, permutations, generators and refusals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from hf_mixup.functional import (
    pair,
    pair_by_label_distance,
    pair_by_length,
    sample_lam,
)
from tests.functional.common import (
    DTYPES,
    MODES,
    randn,
    rng,
)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 8.0, (0.5, 2.0), (6, 1.5)])
def test_sample_lam_follows_the_beta_distribution(alpha: float | tuple[float, float]) -> None:
    a, b = alpha if isinstance(alpha, tuple) else (alpha, alpha)
    lam = sample_lam(alpha, 4000, rng(1))
    assert lam.dtype == torch.float32
    assert lam.shape == (4000,)
    assert lam.device.type == "cpu"
    reference = stats.beta(a, b).rvs(4000, random_state=0).astype(np.float32)  # rounds to 1 as often as lam does
    assert stats.ks_2samp(lam.numpy(), reference).pvalue > 0.01


def test_sample_lam_is_symmetric_and_host_dominant_folds_it() -> None:
    lam = sample_lam(0.3, 4000, rng())
    folded = sample_lam(0.3, 4000, rng(), lam_at_least_half=True)
    assert stats.ks_2samp(lam.numpy(), 1 - lam.numpy()).pvalue > 0.01
    assert torch.equal(folded, torch.maximum(lam, 1 - lam))


def test_sample_lam_depends_on_the_generator_only() -> None:
    first = sample_lam(0.2, 3, rng(5))
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert torch.equal(first, sample_lam(0.2, 3, rng(5)))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert not torch.equal(first, sample_lam(0.2, 3, rng(6)))
    generator = rng(5)
    assert sample_lam(0.2, generator=generator) != sample_lam(0.2, generator=generator)


def test_sample_lam_without_generator_follows_the_global_seed() -> None:
    torch.manual_seed(3)
    first = sample_lam(1.0)
    torch.manual_seed(3)
    assert first.shape == ()
    assert first == sample_lam(1.0)


@pytest.mark.parametrize("alpha", [1e-320, 1e-200, 1e-9, (1e-320, 1e-320), 1e300, 1.7e308])
def test_sample_lam_at_the_ends_of_the_range(alpha: float | tuple[float, float]) -> None:
    lam = sample_lam(alpha, 1000, rng())
    if lam.std() < 0.1:
        assert torch.equal(lam, torch.full_like(lam, 0.5))
    else:
        assert ((lam == 0) | (lam == 1)).all()
        assert 0.4 < lam.mean() < 0.6


def test_sample_lam_off() -> None:
    assert torch.equal(sample_lam(0.0, 3), torch.ones(3))
    assert sample_lam(0).shape == ()
    assert sample_lam((0, 0.0)) == 1


@pytest.mark.parametrize("alpha", [-0.5, float("nan"), float("inf"), (1.0, -2.0), (0.0, 1.0)])
def test_sample_lam_refuses(alpha: float | tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=str(alpha).replace("(", r"\(").replace(")", r"\)")):
        sample_lam(alpha)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 8, 31])
def test_pair_is_a_permutation_without_fixed_points(n: int, mode: str) -> None:
    for seed in range(20):
        partner = pair(n, rng(seed), mode)
        rows = torch.arange(n)
        assert partner.dtype == torch.long
        assert torch.equal(partner.sort().values, rows)
        assert n == 1 or (partner != rows).all()
        if mode in ("match", "flip"):  # pairs, and one 3-cycle where the number is odd
            assert (partner[partner] != rows).sum() == (3 if n % 2 and n > 1 else 0)
        if mode == "random" and n:
            assert len(list(walk(partner, 0))) == n


def walk(partner: Tensor, start: int) -> Iterator[int]:
    row = start
    while True:
        yield row
        row = int(partner[row])
        if row == start:
            return


def test_pair_deterministic_modes_are_the_peers() -> None:
    x = torch.arange(6)
    assert torch.equal(x[pair(6, mode="flip")], x.flip(0))
    assert torch.equal(x[pair(6, mode="roll")], x.roll(1, 0))


@pytest.mark.parametrize(("mode", "outcomes"), [("random", 6), ("match", 3)])
def test_pair_draws_uniformly(mode: str, outcomes: int) -> None:
    generator = rng()
    drawn = [tuple(pair(4, generator, mode).tolist()) for _ in range(1200)]
    counts = [drawn.count(outcome) for outcome in set(drawn)]
    assert len(counts) == outcomes
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_pair_among_the_same_class(mode: str) -> None:
    labels = torch.tensor([3, 1, 3, 2, 1, 3, 3, 1])
    partner = pair(8, rng(), mode, labels, among="same")
    assert torch.equal(labels[partner], labels)
    assert (partner == torch.arange(8)).nonzero().flatten().tolist() == [3]  # the only one of its class


def test_pair_among_different_classes() -> None:
    labels = torch.tensor([0, 0, 0, 5, 0, 7])
    generator = rng()
    partners = torch.stack([pair(6, generator, labels=labels, among="different") for _ in range(600)])
    assert (labels[partners] != labels).all()
    assert stats.chisquare(partners[:, 5].bincount()[:5]).pvalue > 0.01  # uniform over the rows of other classes
    assert torch.equal(pair(3, labels=torch.ones(3, dtype=torch.long), among="different"), torch.arange(3))
    assert pair(0, labels=torch.ones(0, dtype=torch.long), among="different").shape == (0,)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n": 2, "mode": "nearest"}, "nearest"),
        ({"n": -1}, "-1"),
        ({"n": 2, "among": "same"}, "None"),
        ({"n": 2, "among": "same", "labels": torch.zeros(2)}, "float32"),
        ({"n": 2, "among": "same", "labels": torch.zeros(3, dtype=torch.long)}, r"\[3\]"),
        ({"n": 2, "among": "other", "labels": torch.zeros(2, dtype=torch.long)}, "other"),
        ({"n": 2, "among": "different", "mode": "flip", "labels": torch.zeros(2, dtype=torch.long)}, "flip"),
    ],
)
def test_pair_refuses(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair(**kwargs)


@given(lengths=st.lists(st.integers(1, 9), max_size=12), seed=st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_pair_by_length_pairs_neighbours(lengths: list[int], seed: int) -> None:
    partner, rows = pair_by_length(torch.tensor(lengths, dtype=torch.long), rng(seed)), torch.arange(len(lengths))
    assert partner.dtype == torch.long
    assert torch.equal(partner.sort().values, rows)
    assert len(lengths) == 1 or (partner != rows).all()
    to = partner.tolist()
    groups = {frozenset({row, to[row], to[to[row]]}) for row in range(len(lengths))}
    sizes = sorted(len(group) for group in groups)
    odd = len(lengths) % 2 and len(lengths) > 1
    assert sizes == ([1] if len(lengths) == 1 else [2] * (len(lengths) // 2 - bool(odd)) + [3] * bool(odd))
    ordered = sorted(sorted(lengths[row] for row in group) for group in groups)
    assert [length for group in ordered for length in group] == sorted(lengths)  # no group straddles another


def test_pair_by_length_breaks_ties_at_random_and_moves_the_cycle() -> None:
    generator = rng()
    drawn = [tuple(pair_by_length(torch.full((4,), 7), generator).tolist()) for _ in range(600)]
    counts = [drawn.count(outcome) for outcome in set(drawn)]
    assert len(counts) == 3
    assert stats.chisquare(counts).pvalue > 0.01
    drawn = [tuple(pair_by_length(torch.arange(7), generator).tolist()) for _ in range(600)]
    counts = [drawn.count(outcome) for outcome in set(drawn)]
    assert len(counts) == 3  # the cycle begins at row 0, 2 or 4
    assert stats.chisquare(counts).pvalue > 0.01


def kernel(labels: Tensor, bandwidth: float) -> Tensor:
    """The closed form, entry by entry."""
    points = labels.double().reshape(len(labels), -1).tolist()
    chances = torch.zeros(len(points), len(points), dtype=torch.float64)
    for i, j in itertools.permutations(range(len(points)), 2):
        chances[i, j] = np.exp(-sum((a - b) ** 2 for a, b in zip(points[i], points[j])) / (2 * bandwidth**2))
    return chances / chances.sum(1, keepdim=True)


@pytest.mark.parametrize("labels", [torch.tensor([0.0, 0.5, 2.0, -1.0, 2.1]), randn(5, 3)])
@pytest.mark.parametrize("bandwidth", [0.8, 3.0])
def test_pair_by_label_distance_follows_the_kernel(labels: Tensor, bandwidth: float) -> None:
    generator, expected = rng(), kernel(labels, bandwidth)
    drawn = torch.stack([pair_by_label_distance(labels, bandwidth, generator) for _ in range(4000)])
    for row in range(5):
        others = torch.arange(5) != row
        counts = drawn[:, row].bincount(minlength=5)
        assert counts[row] == 0
        assert stats.chisquare(counts[others], 4000 * expected[row, others]).pvalue > 0.005


def test_pair_by_label_distance_limits() -> None:
    labels = torch.tensor([0.0, 1.0, 2.5, 1e30, -3e38, 3.5])
    nearest = torch.tensor([1, 0, 5, 5, 0, 2])
    for bandwidth in (1e-3, 1e-300):
        found = pair_by_label_distance(labels, bandwidth, rng())
        apart = torch.tensor([0, 1, 2, 5])  # from the other two all small labels are equally far, even in float64
        assert torch.equal(found[apart], nearest[apart])
        assert (found != torch.arange(6)).all()
    generator = rng()
    for bandwidth in (float("inf"), 1e200):
        drawn = torch.stack([pair_by_label_distance(labels, bandwidth, generator) for _ in range(1500)])
        for row in range(6):
            assert stats.chisquare(drawn[:, row].bincount(minlength=6)[torch.arange(6) != row]).pvalue > 0.005
    equal = pair_by_label_distance(torch.ones(8), 1e-9, rng())
    assert (equal != torch.arange(8)).all()
    assert pair_by_label_distance(torch.ones(1), 1.0).tolist() == [0]
    assert pair_by_label_distance(torch.ones(0, 2), 1.0).shape == (0,)
    low = torch.tensor([0.0, 4.0, 0.125, 4.125])
    for dtype in (*DTYPES, torch.int64):
        assert pair_by_label_distance(low.to(dtype), 1.0, rng(1)).dtype == torch.long


def test_pairings_by_value_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    for draw in (
        lambda seed: pair_by_length(torch.ones(20), rng(seed)),
        lambda seed: pair_by_label_distance(randn(20), 1.0, rng(seed)),
    ):
        assert torch.equal(draw(1), draw(1))
        assert not torch.equal(draw(1), draw(2))
    assert torch.equal(before, torch.get_rng_state())


def test_pairings_by_value_refuse() -> None:
    with pytest.raises(ValueError, match=r"lengths .*\[2, 1\]"):
        pair_by_length(torch.ones(2, 1))
    for value in ("nan", "inf"):
        with pytest.raises(ValueError, match=f"labels must be finite, got {value}"):
            pair_by_label_distance(torch.tensor([0.0, float(value)]), 1.0)
    with pytest.raises(ValueError, match=r"labels .*\[2, 1, 1\]"):
        pair_by_label_distance(torch.ones(2, 1, 1), 1.0)
    for bandwidth in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"bandwidth must be above 0, got {bandwidth}"):
            pair_by_label_distance(torch.ones(2), bandwidth)
