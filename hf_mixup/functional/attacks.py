"""Adversarial points: where, near a sample, its loss is larger; one step of the gradient or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from .blending import at_least_float32, expand_like

LossOf = Callable[[Tensor], Tensor]
Norm = Literal["linf", "l2"]
Bound = Tensor | float | None


def fgsm(
    x: Tensor, loss_of: LossOf, eps: Tensor | float, low: Bound = None, high: Bound = None, mask: Tensor | None = None
) -> Tensor:
    """Move every value by `eps` to where the loss rises: x + eps * sign(gradient), the fast gradient sign method.

    Source: Goodfellow et al. 2014, "Explaining and Harnessing Adversarial Examples", arXiv 1412.6572, section 4.

    Args:
        x: floats [B, ...] of two dimensions at least.
        loss_of: x -> the loss, summed over the samples (or one for each), so that none influences another.
        eps: how far in units of x, not negative: a number, [B], or a shape that broadcasts to x (say [3, 1, 1]).
        low, high: where values end, broadcast to x; what lies outside already goes no further. None for no end.
        mask: bool, broadcast to x; only what is True is changed. None for all.

    Returns:
        Of x's shape and type, without a graph; computed in float32 (float64 if x is) and rounded once. What `mask` or
        an eps of 0 excludes is x bit by bit. A sample whose gradient is not finite stays as it is.

    Raises:
        ValueError: a shape or type does not fit, eps is negative, or the loss does not depend on x.

    >>> fgsm(torch.zeros(1, 3), lambda x: (x * torch.tensor([2.0, -1.0, 0.0])).sum(), eps=0.1)
    tensor([[ 0.1000, -0.1000,  0.0000]])
    """
    return pgd(x, loss_of, eps, steps=1, step_size=eps, norm="linf", low=low, high=high, mask=mask)


def fgm(
    x: Tensor, loss_of: LossOf, eps: Tensor | float, low: Bound = None, high: Bound = None, mask: Tensor | None = None
) -> Tensor:
    """Move each sample by `eps` along its gradient: x + eps * gradient / |gradient|, the L2 norm over the whole sample.

    Source: Miyato et al. 2016, "Adversarial Training Methods for Semi-Supervised Text Classification", arXiv
    1605.07725, equation 5.

    Args:
        eps: how far in the L2 norm: a number or [B].
        x, loss_of, low, high, mask: as in `fgsm`, and what is returned and raised.

    >>> fgm(torch.zeros(1, 2), lambda x: (x * torch.tensor([3.0, -4.0])).sum(), eps=1.0)
    tensor([[ 0.6000, -0.8000]])
    """
    return pgd(x, loss_of, eps, steps=1, step_size=eps, norm="l2", low=low, high=high, mask=mask)


def pgd(
    x: Tensor,
    loss_of: LossOf,
    eps: Tensor | float,
    steps: int = 10,
    step_size: Tensor | float | None = None,
    norm: Norm = "linf",
    generator: torch.Generator | None = None,
    low: Bound = None,
    high: Bound = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Climb the loss in steps along the gradient (its sign, or its L2 direction), never further than `eps` from x.

    After each step the point is moved back to the nearest one within `eps`, then within `low` and `high`.

    Source: Madry et al. 2017, "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv 1706.06083,
    section 2.1.

    Args:
        steps: of the ascent, from 1 on; each is a forward and a backward pass.
        step_size: of each, in the units of eps and of its shapes; None for 2.5 * eps / steps (section 5 of the source),
            which can cross the ball from any start.
        norm: linf bounds each value's change, l2 that of a sample as a whole.
        generator: draws the start uniformly from the ball, on the generator's device; None starts at x.
        x, loss_of, eps, low, high, mask: as in `fgsm` (`fgm` for l2), and what is returned and raised.

    >>> pgd(torch.zeros(1, 2), lambda x: (x[:, 0] - x[:, 1].square()).sum(), eps=1.0, steps=4, norm="l2")
    tensor([[1., 0.]])
    """
    points = _ascend(x, loss_of, eps, steps, step_size, norm, generator, low, high, mask)
    return next(islice(points, steps, None))


def ascent_points(
    x: Tensor,
    loss_of: LossOf,
    eps: Tensor | float,
    steps: int = 3,
    step_size: Tensor | float | None = None,
    norm: Norm = "l2",
    generator: torch.Generator | None = None,
    low: Bound = None,
    high: Bound = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the points [steps, B, ...] at which `pgd` takes its gradients: the start and all but the last it reaches.

    Costs `steps` - 1 forward and backward passes.

    Source: Zhu et al. 2019, "FreeLB: Enhanced Adversarial Training for Natural Language Understanding", arXiv
    1909.11764, algorithm 1: the average of the loss over these points is trained on.

    >>> ascent_points(torch.zeros(1, 1), lambda x: x.sum(), eps=1.0, steps=3, step_size=0.4)[:, 0, 0]
    tensor([0.0000, 0.4000, 0.8000])
    """
    points = _ascend(x, loss_of, eps, steps, step_size, norm, generator, low, high, mask)
    return torch.stack(list(islice(points, steps)))


def bounded(
    x: Tensor,
    values: Tensor,
    eps: Tensor | float,
    norm: Norm = "linf",
    low: Bound = None,
    high: Bound = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Move x by any values, squashed so that no point is further than `eps` from x: what a network proposes.

    x + eps * tanh(values), or in the L2 norm x + eps * values / sqrt(1 + |values|^2), |values| being that of the whole
    sample. Differentiable with respect to the values and x.

    Args:
        values: floats of x's shape.
        x, eps, low, high, mask: as in `fgsm` (`fgm` for l2), and what is raised.
        norm: as in `pgd`.

    Returns:
        Of x's shape and type; computed in float32 (float64 if x is) and rounded once.

    >>> bounded(torch.zeros(1, 3), torch.tensor([[-9.0, 0.0, 9.0]]), eps=0.5)
    tensor([[-0.5000,  0.0000,  0.5000]])
    """
    ball = _ball(x, eps, norm, low, high, mask)
    return torch.where(ball.moves, ball.squashed(values).to(x.dtype), x)


def _ascend(
    x: Tensor,
    loss_of: LossOf,
    eps: Tensor | float,
    steps: int,
    step_size: Tensor | float | None,
    norm: Norm,
    generator: torch.Generator | None,
    low: Bound,
    high: Bound,
    mask: Tensor | None,
) -> Iterator[Tensor]:
    """Yield the start and the point after each step, in x's type."""
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r}: expected a whole number from 1 on")
    ball = _ball(x.detach(), eps, norm, low, high, mask)
    wide = ball.x
    step = 2.5 * ball.eps / steps if step_size is None else _radius("step_size", step_size, wide, norm)
    point = wide if generator is None else ball.nearest(ball.sample(generator))
    while True:
        narrow = torch.where(ball.moves, point.to(x.dtype), x.detach())
        yield narrow
        point = ball.nearest(point + step * ball.direction(_gradient(narrow, loss_of).to(wide.dtype)))


def _ball(x: Tensor, eps: Tensor | float, norm: Norm, low: Bound, high: Bound, mask: Tensor | None) -> _Ball:
    if x.dim() < 2 or not x.is_floating_point():
        raise ValueError(f"an attack needs floats [B, ...] of two dimensions at least, got {x.dtype} {list(x.shape)}")
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm={norm!r} is not known: use 'linf' or 'l2'")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool, got {mask.dtype}")
    wide = at_least_float32(x)
    ends = _end(low, wide, torch.minimum), _end(high, wide, torch.maximum)
    return _Ball(wide, _radius("eps", eps, wide, norm), norm, *ends, mask)


@dataclass(frozen=True)
class _Ball:
    """What may be reached from x: within eps in the norm, within the ends, where the mask allows it."""

    x: Tensor
    eps: Tensor
    norm: Norm
    low: Tensor | None
    high: Tensor | None
    mask: Tensor | None

    @property
    def moves(self) -> Tensor:
        """Which values may change, bool, broadcast to x."""
        return self.eps > 0 if self.mask is None else (self.eps > 0) & self.mask

    def nearest(self, point: Tensor) -> Tensor:
        """Return the nearest point that may be reached."""
        shift = point - self.x
        if self.norm == "linf":
            shift = shift.clamp(-self.eps, self.eps)
        else:
            shift = shift * (self.eps / _length(shift)).clamp(max=1)
        return self._within_ends(self.x + shift)

    def squashed(self, values: Tensor) -> Tensor:
        """Return the point that any values stand for; one that may be reached."""
        values = self._allowed(values)
        shift = values.tanh() if self.norm == "linf" else values / (1 + _length(values).square()).sqrt()
        return self._within_ends(self.x + self.eps * shift)

    def _within_ends(self, point: Tensor) -> Tensor:
        # x itself lies within the ends, so that they only shorten the way.
        point = point if self.low is None else torch.maximum(point, self.low)
        return point if self.high is None else torch.minimum(point, self.high)

    def direction(self, gradient: Tensor) -> Tensor:
        """Return which way a step goes, of length 1 in the norm; 0 where there is none."""
        rows = tuple(range(1, gradient.dim()))
        gradient = torch.where(gradient.isfinite().all(rows, keepdim=True), gradient, 0)
        gradient = self._allowed(gradient)
        return gradient.sign() if self.norm == "linf" else _unit(gradient)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return a point drawn uniformly from the ball around x; it may lie outside the ends."""
        settings = {"generator": generator, "device": generator.device, "dtype": self.x.dtype}
        if self.norm == "linf":
            noise = 2 * torch.rand(self.x.shape, **settings) - 1  # type: ignore[call-overload]
            return self.x + self.eps * self._allowed(noise.to(self.x.device))
        noise = torch.randn(self.x.shape, **settings)  # type: ignore[call-overload]
        radius = expand_like(torch.rand(len(self.x), **settings), self.x)  # type: ignore[call-overload]
        allowed = self._allowed(torch.ones_like(self.x)).sum(tuple(range(1, self.x.dim())), keepdim=True)
        radius = radius.to(self.x.device) ** (1 / allowed.clamp(min=1))
        return self.x + self.eps * radius * _unit(self._allowed(noise.to(self.x.device)))

    def _allowed(self, values: Tensor) -> Tensor:
        return values if self.mask is None else torch.where(self.mask, values, 0)


def _gradient(x: Tensor, loss_of: LossOf) -> Tensor:
    """Return the gradient of the summed loss at x; none is left on anything else."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        loss = loss_of(leaf).sum()
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True)
            if gradient is not None:
                return gradient
    raise ValueError("loss_of(x) does not depend on x through autograd: there is no gradient to follow")


def _length(values: Tensor) -> Tensor:
    """Return each sample's L2 norm, [B, 1, ...], never 0."""
    return expand_like(values.flatten(1).norm(dim=1).clamp(min=torch.finfo(values.dtype).tiny), values)


def _unit(values: Tensor) -> Tensor:
    """Return each sample at length 1, a sample of zeros as it is; squares of tiny gradients would be 0."""
    largest = values.abs().flatten(1).amax(1).clamp(min=torch.finfo(values.dtype).tiny)
    values = values / expand_like(largest, values)
    return values / _length(values)


def _radius(name: str, value: Tensor | float, x: Tensor, norm: Norm) -> Tensor:
    """Return an eps or a step size on x's device in a shape that broadcasts to it."""
    known = not isinstance(value, Tensor) or value.device.type == "cpu"  # elsewhere it would stall the device
    if known and not torch.as_tensor(value >= 0).all():
        raise ValueError(f"{name}={value!r}: expected numbers from 0 on")
    radius = _beside(x, value)
    if radius.dim() == 1:
        radius = expand_like(radius, x)
    whole = radius.numel() == 1 or (radius.dim() == x.dim() and radius.numel() == len(radius) == len(x))
    if not (_broadcasts(radius, x) if norm == "linf" else whole):
        expected = "a number, [B] or a shape that broadcasts to x" if norm == "linf" else "a number or [B]"
        raise ValueError(
            f"{name} of shape {list(torch.as_tensor(value).shape)} for x {list(x.shape)}: expected {expected}"
        )
    return radius


def _broadcasts(value: Tensor, x: Tensor) -> bool:
    """Whether a value broadcasts to x without making it larger."""
    sizes = zip(reversed(value.shape), reversed(x.shape))
    return value.dim() <= x.dim() and all(size in (1, whole) for size, whole in sizes)


def _end(value: Bound, x: Tensor, wider: Callable[[Tensor, Tensor], Tensor]) -> Tensor | None:
    """Return where values end, no nearer than x already is."""
    return None if value is None else wider(_beside(x, value), x)


def _beside(x: Tensor, value: Tensor | float) -> Tensor:
    """Return a number, or numbers, as x's type on x's device, without waiting for it."""
    return value.to(x, non_blocking=True) if isinstance(value, Tensor) else x.new_full((), value)
