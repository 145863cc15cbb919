"""Adversarial attacks: kernels against closed forms, finite differences and peers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.functional import ascent_points, bounded, fgm, fgsm, pgd, reverse_gradient


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 4 * 5, 4)).eval()


def images(rows: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(rows, 3, 6, 7, generator=generator), torch.randint(4, (rows,), generator=generator)


def test_one_step_on_a_linear_loss_is_the_closed_form() -> None:
    """A linear loss is largest at eps * sign(w) in L-infinity, and at eps * w / |w| in L2."""
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(4, 2, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    w[1, 0, 0] = 0.0
    eps = torch.tensor([0.0, 0.3, 1.0, 2.0], dtype=torch.float64)
    for row in range(4):
        sign = torch.tensor([[(v > 0) - (v < 0) for v in line] for line in w[row].tolist()], dtype=torch.float64)
        expected = x[row] + eps[row] * sign
        torch.testing.assert_close(fgsm(x, lambda p: (p * w).sum(), eps)[row], expected)
        long = x[row] + eps[row] * w[row] / sum(v * v for v in w[row].flatten().tolist()) ** 0.5
        for found in (fgm(x, lambda p: (p * w).sum(), eps), pgd(x, lambda p: (p * w).sum(), eps, 3, norm="l2")):
            torch.testing.assert_close(found[row], long)


@pytest.mark.parametrize("kind", ["fgsm", "fgm", "linf", "l2"])
def test_a_peer_finds_the_same_points(kind: str) -> None:
    foolbox = pytest.importorskip("foolbox", reason="a peer of the dev extra")
    model, (x, labels) = small_net(), images()
    steps = {"abs_stepsize": 0.05, "steps": 4, "random_start": False}
    attacks: dict[str, Any] = {
        "fgsm": foolbox.attacks.LinfFastGradientAttack(),
        "fgm": foolbox.attacks.L2FastGradientAttack(),
        "linf": foolbox.attacks.LinfProjectedGradientDescentAttack(**steps),
        "l2": foolbox.attacks.L2ProjectedGradientDescentAttack(**steps),
    }
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    expected = attacks[kind].run(peer, x, foolbox.criteria.Misclassification(labels), epsilon=0.12)

    def loss_of(points: Tensor) -> Tensor:
        return F.cross_entropy(model(points), labels, reduction="sum")

    ends = {"low": 0.0, "high": 1.0}
    if kind in ("fgsm", "fgm"):
        found = {"fgsm": fgsm, "fgm": fgm}[kind](x, loss_of, 0.12, **ends)
    else:
        found = pgd(x, loss_of, 0.12, 4, 0.05, kind, **ends)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (found - x).abs().max() > 0.01


def test_the_direction_is_that_of_finite_differences() -> None:
    model, (x, labels) = small_net().double(), images(2)
    x = x.double()
    moved = fgm(x, lambda p: F.cross_entropy(model(p), labels, reduction="sum"), 1.0) - x
    gradient = torch.zeros_like(x)
    for place in range(x[0].numel()):
        for sign in (1, -1):
            near = x.clone()
            near.flatten(1)[:, place] += sign * 1e-4
            gradient.flatten(1)[:, place] += sign * F.cross_entropy(model(near), labels, reduction="none").detach()
    for row in range(2):
        torch.testing.assert_close(
            moved[row], gradient[row] / gradient[row].square().sum().sqrt(), rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_points_stay_where_they_may_be_and_the_loss_rises(norm: Any, dtype: torch.dtype) -> None:
    model, (x, labels) = small_net(), images()
    x[0, 0, 0] = 1.2  # outside the ends already
    x, mask = x.to(dtype), torch.ones(5, 1, 6, 7, dtype=torch.bool)
    mask[2, :, 3:] = False
    eps = torch.tensor([0.3, 0.0, 0.3, 0.2, 0.1])

    def losses(points: Tensor) -> Tensor:
        assert points.dtype == dtype
        return F.cross_entropy(model(points.float()), labels, reduction="none")

    generator = torch.Generator().manual_seed(3)
    found = pgd(x, losses, eps, 5, norm=norm, generator=generator, low=0.0, high=1.0, mask=mask)
    assert found.dtype == dtype
    assert not found.requires_grad
    shift, rounding = (found.double() - x.double()), 1e-6 if dtype == torch.float32 else 0.02
    size = shift.flatten(1).abs().amax(1) if norm == "linf" else shift.flatten(1).norm(dim=1)
    assert (size <= eps + rounding).all()
    assert (size[[0, 2, 3, 4]] > 0.9 * eps[[0, 2, 3, 4]]).all()
    assert (found <= x.clamp(min=1)).all()
    assert (found >= 0).all()
    assert torch.equal(found[1], x[1])
    assert torch.equal(found[2, :, 3:], x[2, :, 3:])
    rise = losses(found) - losses(x)
    assert (rise[[0, 2, 3, 4]] > 0).all()
    alone = [pgd(x[i : i + 1], lambda p, i=i: F.cross_entropy(model(p.float()), labels[i : i + 1]), eps[i : i + 1], 5,
                 norm=norm, low=0.0, high=1.0, mask=mask[i : i + 1]) for i in range(5)]  # fmt: skip
    together = pgd(x, losses, eps, 5, norm=norm, low=0.0, high=1.0, mask=mask)
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=0.02 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_start_is_uniform_in_the_ball(norm: Any) -> None:
    """Of a ball of d dimensions a share r**d lies within r; masked places are no dimensions."""
    x, mask = torch.zeros(20000, 1, 4), torch.tensor([True, True, True, False])
    points = ascent_points(
        x, lambda p: p.sum(), 2.0, 1, norm=norm, generator=torch.Generator().manual_seed(0), mask=mask
    )
    start = points[0, :, 0]
    assert (start[:, 3] == 0).all()
    size = start.abs().amax(1) if norm == "linf" else start.norm(dim=1)
    assert size.max() <= 2 + 1e-6
    for share in (0.3, 0.7, 0.9):
        assert (size < 2 * share).float().mean().item() == pytest.approx(share**3, abs=0.01)
    assert start[:, :3].mean(0).abs().max() < 0.02
    assert torch.corrcoef(start[:, :3].T).fill_diagonal_(0).abs().max() < 0.03
    again = ascent_points(
        x, lambda p: p.sum(), 2.0, 1, norm=norm, generator=torch.Generator().manual_seed(0), mask=mask
    )
    assert torch.equal(points, again)


def test_points_of_the_ascent_are_those_that_pgd_goes_through() -> None:
    model, (x, labels) = small_net(), images()

    def loss_of(p: Tensor) -> Tensor:
        return F.cross_entropy(model(p), labels, reduction="sum")

    points = ascent_points(x, loss_of, 0.5, 4, 0.2)
    assert torch.equal(points[0], x)
    for step in (1, 2, 3):
        torch.testing.assert_close(points[step], pgd(x, loss_of, 0.5, step, 0.2, "l2"))


def test_per_channel_reach_and_ends() -> None:
    eps, high = torch.tensor([0.1, 0.0, 0.3])[:, None, None], torch.tensor([9.0, 9.0, 0.2])[:, None, None]
    found = fgsm(torch.zeros(2, 3, 2, 2), lambda p: p.sum(), eps, high=high)
    for channel, value in enumerate([0.1, 0.0, 0.2]):
        torch.testing.assert_close(found[:, channel], torch.full((2, 2, 2), value))


def test_tiny_and_unusable_gradients() -> None:
    x = torch.zeros(3, 2)
    scale = torch.tensor([[1e-30], [float("nan")], [0.0]])
    found = fgm(x, lambda p: (p * torch.tensor([3.0, 4.0]) * scale).sum(), 5.0)
    torch.testing.assert_close(found, torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]))


def test_parameters_and_callers_are_left_alone() -> None:
    model, (x, labels) = small_net(), images()
    x.requires_grad_()
    with torch.no_grad():
        pgd(x, lambda p: F.cross_entropy(model(p), labels, reduction="sum"), 0.1, 2)
        assert not torch.is_grad_enabled()
    assert x.grad is None
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eps": -0.1}, "eps=-0.1"),
        ({"eps": torch.ones(3)}, r"eps of shape \[3\]"),
        ({"step_size": float("nan")}, "step_size=nan"),
        ({"steps": 0}, "steps=0"),
        ({"norm": "l1"}, "norm='l1'"),
        ({"eps": torch.ones(2, 1), "norm": "l2"}, r"a number or \[B\]"),
        ({"eps": torch.ones(3, 1)}, r"eps of shape \[3, 1\]"),
        ({"mask": torch.ones(1)}, "mask must be bool"),
        ({"x": torch.zeros(2)}, "two dimensions"),
        ({"x": torch.zeros(2, 2, dtype=torch.long)}, "floats"),
        ({"loss_of": lambda p: torch.zeros(())}, "does not depend on x"),
    ],
)
def test_kernels_refuse(given: dict[str, Any], message: str) -> None:
    settings = {"x": torch.zeros(2, 2, 2), "loss_of": lambda p: p.sum(), "eps": 0.1, **given}
    with pytest.raises(ValueError, match=message):
        pgd(**settings)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_a_network_proposes_is_squashed_into_the_ball(norm: Any) -> None:
    x, values = (torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = torch.ones(3, 2, 1, dtype=torch.bool)
    mask[1, 0] = False
    low = float(x.detach().min()) + 0.1  # within which the lowest value does not lie
    found = bounded(x, 5 * values, 0.3, norm, low=low, mask=mask)
    for row in range(3):
        allowed = 5 * values[row] * mask[row]
        shift = allowed.tanh() if norm == "linf" else allowed / (1 + (allowed**2).sum()) ** 0.5
        expected = torch.maximum(x[row] + 0.3 * shift, torch.clamp(x[row], max=low))
        torch.testing.assert_close(found[row], expected)
        away = found[row] - x[row]
        assert (away.abs().amax() if norm == "linf" else away.norm()) <= 0.3
    assert torch.equal(found[1, 0], x[1, 0])
    gradcheck = torch.autograd.gradcheck(lambda v: bounded(x.detach(), v, 0.3, norm, mask=mask), (values,))
    assert gradcheck
    assert torch.equal(bounded(x, values, 0.0, norm), x)


def test_a_reversed_gradient_has_the_other_sign() -> None:
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(reverse_gradient(x), x)
    (plain,) = torch.autograd.grad((x**3).sum(), x)
    (turned,) = torch.autograd.grad((reverse_gradient(x) ** 3).sum(), x)
    assert torch.equal(turned, -plain)
