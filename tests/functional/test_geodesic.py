"""Points on great circles, also where the vectors are opposite and the circle is not defined."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hf_mixup.functional import slerp

EXACT = {torch.float32: 2e-6, torch.float64: 1e-12}
KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def computed_in(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("size", [2, 3, 64])
def test_opposite_vectors_are_joined_by_a_half_circle(size: int, dtype: torch.dtype) -> None:
    own = torch.randn(50, size, generator=torch.Generator().manual_seed(size)).to(dtype)
    unit = torch.nn.functional.normalize(own.to(computed_in(dtype)), dim=-1)
    atol = EXACT[computed_in(dtype)]
    for lam in (0.0, 0.1, 0.25, 0.5, 0.9, 1.0):
        found = slerp(own, -own, lam)
        torch.testing.assert_close(found.norm(dim=-1), torch.ones_like(found[:, 0]), rtol=0, atol=atol)
        # As far from the own vector as its share says, which leaves one place on any half circle.
        expected = torch.full_like(found[:, 0], math.cos((1 - lam) * math.pi))
        torch.testing.assert_close((found * unit).sum(-1), expected, rtol=0, atol=4 * atol)
    torch.testing.assert_close(slerp(own, -own, 0.0), -unit, rtol=0, atol=16 * atol)
    assert torch.equal(slerp(own, -own, 0.5), slerp(own, -own, 0.5))


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.integers(2, 40),
    lam=st.floats(0, 1, width=32),
    away=st.sampled_from([0.0, *(10.0**-power for power in range(0, 18))]),
    sign=st.sampled_from([-1.0, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_points_are_unit_vectors_with_finite_gradients(
    seed: int, size: int, lam: float, away: float, sign: float, dtype: torch.dtype
) -> None:
    """Also near to the vector itself and to its opposite, at every distance, where the branches meet."""
    rng = torch.Generator().manual_seed(seed)
    own, aside = torch.randn(2, 3, size, generator=rng, dtype=torch.float64)
    own, other = own.to(dtype).requires_grad_(), (sign * own + away * aside).to(dtype).requires_grad_()
    found = slerp(own, other, lam)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3, dtype=dtype), rtol=0, atol=EXACT[dtype])
    gradients = torch.autograd.grad((found * torch.randn(found.shape, generator=rng, dtype=dtype)).sum(), [own, other])
    for gradient, vector in zip(gradients, (own, other)):
        assert gradient.isfinite().all()
        assert (gradient.norm(dim=-1) * vector.detach().norm(dim=-1)).max() < 1e5


def on_the_arc(own: Tensor, other: Tensor, lam: float) -> Tensor:
    """The same by the law of sines, in the plane of both, written with angles and no division by a sine."""
    own, other = own / own.norm(), other / other.norm()
    aside = other - (own @ other) * own
    angle = torch.atan2(aside.norm(), own @ other) * (1 - lam)
    return angle.cos() * own + angle.sin() * aside / aside.norm()


@pytest.mark.parametrize("away", [1e-1, 1e-3, 1e-4, 1e-6, 1e-9])
def test_nearly_opposite_vectors_keep_their_own_plane(away: float) -> None:
    rng = torch.Generator().manual_seed(3)
    own, aside = torch.randn(2, 6, generator=rng, dtype=torch.float64)
    other = -own + away * aside
    for lam in (0.0, 0.3, 0.5, 0.8, 1.0):
        torch.testing.assert_close(slerp(own, other, lam), on_the_arc(own, other, lam), rtol=0, atol=1e-5)


def test_the_ends_are_the_vectors() -> None:
    own = torch.randn(9, 5)
    other = torch.cat([torch.randn(3, 5), -own[3:6], -own[6:] * 3 + 1e-4])
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(slerp(own, other, 1.0), unit(own, dim=-1))
    torch.testing.assert_close(slerp(own, other, 0.0), unit(other, dim=-1))
    shares = torch.tensor([0.0, 1.0, 0.5] * 3)
    found = slerp(own, other, shares)
    for row, share in enumerate(shares.tolist()):
        torch.testing.assert_close(found[row], slerp(own[row], other[row], share))


def test_in_one_dimension_a_point_is_one_of_the_two() -> None:
    own = torch.tensor([[2.0], [-3.0]])
    assert slerp(own, -own, torch.tensor([0.2, 0.9])).abs().tolist() == [[1.0], [1.0]]
