"""Dense targets and their cross-entropy, against loops and the pair form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from hf_mixup.functional import (
    pair,
    sample_lam,
    soft_cross_entropy,
    soft_targets,
)
from tests.functional.common import (
    DTYPES,
    MODES,
    general_map,
    loop_blend,
    randn,
    rng,
)


@given(
    batch=st.integers(0, 6),
    positions=st.sampled_from([(), (3,)]),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    per_row=st.booleans(),
    ignored=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_soft_targets_are_the_loop(
    batch: int, positions: tuple, smoothing: float, per_row: bool, ignored: bool, seed: int
) -> None:
    classes = 5
    labels = torch.randint(-1 if ignored else 0, classes, (batch, *positions), generator=rng(seed))
    labels[labels == -1] = -100
    partner = general_map(batch, seed) if batch else torch.empty(0, dtype=torch.long)
    lam = sample_lam(0.5, batch if per_row else None, rng(seed))
    one_hot = torch.zeros(*labels.shape, classes, dtype=torch.float64)
    for index in itertools.product(*map(range, labels.shape)):
        if labels[index] >= 0:
            one_hot[index] = smoothing / classes
            one_hot[index][labels[index]] += 1 - smoothing
    targets = soft_targets(labels, partner, lam, classes, smoothing)
    assert targets.dtype == torch.float32
    assert targets.shape == (batch, *positions, classes)
    assert torch.allclose(targets.double(), loop_blend(one_hot, partner, lam), atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_unique_labels_give_two_classes_a_row(mode: str) -> None:
    lam = sample_lam(1.0, 7, rng()).clamp(0.01, 0.99)
    targets = soft_targets(torch.arange(7), pair(7, rng(), mode), lam, 9)
    assert (targets != 0).sum(1).eq(2).all()
    assert targets.sum(1).eq(1).all()
    assert torch.equal(targets.diagonal(), lam)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(torch.tensor([0, 7]), "7"), (torch.tensor([-3, 0]), "-3"), (torch.zeros(2), "float32")],
)
def test_soft_targets_refuses(labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_targets(labels, pair(2, rng()), 0.5, 7)


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_soft_cross_entropy_is_the_pair_form(per_row: bool, weighted: bool, ignored: bool, reduction: str) -> None:
    logits = randn(6, 4, dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 1, -100 if ignored else 2, 2])
    weight = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64) if weighted else None
    partner, lam = pair(6, rng()), sample_lam(1.0, 6 if per_row else None, rng())
    loss = soft_cross_entropy(logits, soft_targets(labels, partner, lam, 4), weight, reduction)
    own, other = (F.cross_entropy(logits, y, weight, reduction="none") for y in (labels, labels[partner]))
    expected = lam.double() * own + (1 - lam.double()) * other
    if reduction == "sum":
        expected = expected.sum()
    elif reduction == "mean":
        a, b = (y.ne(-100) * (1 if weight is None else weight[y.clamp(min=0)]) for y in (labels, labels[partner]))
        expected = expected.sum() / (lam.double() * a + (1 - lam.double()) * b).sum()
    assert torch.allclose(loss, expected, atol=1e-6)
    assert loss.dtype == torch.float64
    if not per_row and reduction == "mean":
        pairs = [F.cross_entropy(logits, y, weight) for y in (labels, labels[partner])]
        assert torch.allclose(loss, lam * pairs[0] + (1 - lam) * pairs[1], atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_soft_cross_entropy_against_a_loop_and_its_precision(dtype: torch.dtype) -> None:
    logits, targets = 20 * randn(5, 7, dtype=dtype), randn(5, 7, seed=1).softmax(-1)
    expected = [
        -sum(t * (z - np.logaddexp.reduce(row)) for t, z in zip(target, row, strict=True))
        for target, row in zip(targets.double().numpy(), logits.double().numpy(), strict=True)
    ]
    loss = soft_cross_entropy(logits, targets, reduction="none")
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert np.allclose(loss.numpy(), expected, rtol=1e-5)
    assert torch.autograd.gradcheck(lambda z: soft_cross_entropy(z, targets), logits.double().requires_grad_())


def test_soft_cross_entropy_refuses() -> None:
    with pytest.raises(ValueError, match="shape"):
        soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="median"):
        soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 3), reduction="median")
