"""The random choices of mixup: how much (lam) and with whom (partner)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def sample_lam(
    alpha: float | tuple[float, float],
    size: int | None = None,
    generator: torch.Generator | None = None,
    lam_at_least_half: bool = False,
) -> Tensor:
    """Draw the mixing weight lam ~ Beta(alpha, alpha).

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, https://arxiv.org/abs/1710.09412.

    Args:
        alpha: parameter of the symmetric Beta distribution, or ``(a, b)`` for Beta(a, b). 0 switches mixing off: lam
            is 1. Small values give lam near 0 or 1, 1 is uniform, large values give lam near 1/2.
        size: number of draws; None for a single one.
        generator: CPU source of randomness; None for torch's global one.
        lam_at_least_half: replace lam by max(lam, 1 - lam), so that a sample never becomes the smaller part of its
            mixture.

    Returns:
        float32 CPU tensor in [0, 1], 0-d if ``size`` is None, else [size].

    Raises:
        ValueError: ``alpha`` is negative, NaN or infinite, or only one half of the pair is 0.

    >>> sample_lam(0.0)
    tensor(1.)
    >>> lam = sample_lam(0.2, size=4, generator=torch.Generator().manual_seed(0), lam_at_least_half=True)
    >>> lam.shape, lam.dtype, bool((lam >= 0.5).all())
    (torch.Size([4]), torch.float32, True)
    """
    a, b = _beta_parameters(alpha)
    shape = () if size is None else (size,)
    if a == 0:
        return torch.ones(shape)
    # torch.distributions.Beta takes no generator, numpy's does: seed one from the other.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    lam = torch.as_tensor(np.random.default_rng(seed).beta(a, b, size=shape), dtype=torch.float32)
    return torch.maximum(lam, 1 - lam) if lam_at_least_half else lam


def _beta_parameters(alpha: float | tuple[float, float]) -> tuple[float, float]:
    a, b = alpha if isinstance(alpha, Sequence) else (alpha, alpha)
    a, b = float(a), float(b)
    if not (math.isfinite(a) and math.isfinite(b) and a >= 0 and b >= 0):
        raise ValueError(f"alpha must be finite and not negative, got {alpha}")
    if (a == 0) != (b == 0):
        raise ValueError(f"both parts of alpha=(a, b) must be positive, or both 0 to switch mixing off, got {alpha}")
    if a == 0:
        return 0.0, 0.0
    # Beyond these bounds numpy's sampler under- or overflows to NaN; the distribution is the same to double precision.
    return min(max(a, 1e-300), 1e300), min(max(b, 1e-300), 1e300)


def pair(
    n: int,
    generator: torch.Generator | None = None,
    mode: str = "random",
    labels: Tensor | None = None,
    among: str | None = None,
) -> Tensor:
    """Draw a partner for each of ``n`` samples, nobody being its own partner when n >= 2.

    Modes:
        - ``"random"``: all samples form one random cycle, uniform over the (n-1)! cyclic permutations (Sattolo 1986).
          Each sample's partner is uniform over the other n - 1 samples.
        - ``"match"``: random disjoint pairs, uniform over all matchings; with odd n three samples form a 3-cycle.
        - ``"flip"``: sample i with sample n-1-i, as timm does; with odd n the middle three samples form a 3-cycle.
        - ``"roll"``: sample i with sample i-1, as torchvision does.

    Args:
        n: number of samples. 1 gives ``[0]``, 0 an empty tensor.
        generator: CPU source of randomness; None for torch's global one. ``flip`` and ``roll`` draw nothing.
        mode: see above.
        labels: integer class of each sample, [n]; needed with ``among``.
        among: ``"same"`` applies the mode within each class; ``"different"`` (mode ``"random"`` only) draws each
            sample's partner uniformly among those of other classes, so that two may share a partner. A sample
            without such a partner keeps itself. None ignores the labels.

    Returns:
        Long CPU tensor [n]. A permutation, except with ``among="different"``.

    Raises:
        ValueError: unknown mode or among, negative n, labels missing or not integers [n], or
            ``among="different"`` with another mode than ``"random"``.

    >>> pair(5, mode="flip"), pair(4, mode="roll")
    (tensor([4, 2, 3, 1, 0]), tensor([3, 0, 1, 2]))
    >>> pair(5, among="same", mode="flip", labels=torch.tensor([0, 1, 0, 1, 2]))
    tensor([2, 3, 0, 1, 4])
    """
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if mode not in _MODES:
        raise ValueError(f"mode must be one of {sorted(_MODES)}, got {mode!r}")
    if among is None:
        return _MODES[mode](n, generator)
    if among not in ("same", "different"):
        raise ValueError(f"among must be None, 'same' or 'different', got {among!r}")
    if labels is None or labels.shape != (n,) or labels.is_floating_point():
        found = None if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(f"among={among!r} needs integer labels of shape [{n}], got {found}")
    labels = labels.cpu()
    if among == "different":
        if mode != "random":
            raise ValueError(f"among='different' draws each partner by itself and needs mode='random', got {mode!r}")
        return _other_class(labels, generator)
    partner = torch.arange(n)
    for label in labels.unique():
        rows = (labels == label).nonzero().squeeze(1)
        partner[rows] = rows[_MODES[mode](len(rows), generator)]
    return partner


def _cycle(n: int, generator: torch.Generator | None) -> Tensor:
    order = torch.randperm(n, generator=generator)
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


def _match(n: int, generator: torch.Generator | None) -> Tensor:
    order = torch.randperm(n, generator=generator)
    return torch.empty_like(order).scatter_(0, order, order[_flip(n, None)])


def _flip(n: int, generator: torch.Generator | None) -> Tensor:
    partner = torch.arange(n).flip(0)
    if n % 2 and n > 1:  # the middle sample would meet itself: middle -> next -> previous -> middle
        middle = n // 2
        partner[middle - 1 : middle + 2] = torch.tensor([middle, middle + 1, middle - 1])
    return partner


def _roll(n: int, generator: torch.Generator | None) -> Tensor:
    return torch.arange(n).roll(1)


_MODES = {"random": _cycle, "match": _match, "flip": _flip, "roll": _roll}


def _other_class(labels: Tensor, generator: torch.Generator | None) -> Tensor:
    n = len(labels)
    order = labels.argsort(stable=True)
    _, inverse, count = labels.unique(return_inverse=True, return_counts=True)
    others = n - count[inverse]
    # In the sorted order the samples of other classes lie, cyclically, right behind the sample's own class.
    own_end = count.cumsum(0)[inverse]
    step = (torch.rand(n, generator=generator, dtype=torch.float64) * others).long()
    partner = order[(own_end + step) % max(n, 1)]
    return torch.where(others > 0, partner, torch.arange(n))


def pair_by_length(lengths: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Pair samples of like length, to mix little with padding; nobody is its own partner when B >= 2.

    Neighbours in the order of length form disjoint pairs; samples of equal length are in random order. With an odd
    number three neighbours, drawn at random, form a 3-cycle.

    Args:
        lengths: tokens (or frames) of each sample, [B].
        generator: CPU source of randomness; None for torch's global one.

    Returns:
        Long CPU tensor [B], a permutation.

    Raises:
        ValueError: `lengths` is not of shape [B].

    >>> pair_by_length(torch.tensor([9, 2, 8, 3]))
    tensor([2, 3, 0, 1])
    """
    if lengths.dim() != 1:
        raise ValueError(f"lengths must have shape [B], got {list(lengths.shape)}")
    n = len(lengths)
    order = torch.randperm(n, generator=generator)
    order = order[lengths.cpu()[order].argsort(stable=True)]
    near = torch.arange(n) ^ 1
    if n == 1:
        near = torch.zeros_like(near)
    elif n % 2:
        # An even number lies before the three and behind them: those behind are moved to the front, the three last.
        three = 2 * int(torch.randint(n // 2, (), generator=generator))
        order = order.roll(n - 3 - three)
        near[-3:] = torch.tensor([n - 2, n - 1, n - 3])
    partner = torch.empty_like(order)
    partner[order] = order[near]
    return partner


def pair_by_label_distance(labels: Tensor, bandwidth: float, generator: torch.Generator | None = None) -> Tensor:
    """Draw each sample a partner with a near label: P(j | i) ~ exp(-|y_i - y_j|^2 / (2 bandwidth^2)), j other than i.

    However far the others are, the nearest of them remain: only differences of the squared distances count. Computed in
    float64.

    Source: Yao et al. 2022, "C-Mixup: Improving Generalization in Regression", https://arxiv.org/abs/2210.05775,
    here within the batch and without the sample itself.

    Args:
        labels: numbers [B], or [B, K] whose distance is Euclidean.
        bandwidth: standard deviation of the Gaussian, above 0, in the units of the labels. Small values tend to the
            nearest label, ``inf`` draws uniformly.
        generator: CPU source of randomness; None for torch's global one.

    Returns:
        Long CPU tensor [B]; samples may share a partner. A single sample keeps itself.

    Raises:
        ValueError: labels of another shape or not finite, or a bandwidth that is not above 0.

    >>> pair_by_label_distance(torch.tensor([0.0, 5.0, 0.1, 5.1]), bandwidth=0.2)
    tensor([2, 3, 0, 1])
    """
    if labels.dim() not in (1, 2):
        raise ValueError(f"labels must have shape [B] or [B, K], got {list(labels.shape)}")
    points = labels.cpu().double()
    if not bool(points.isfinite().all()):
        raise ValueError(f"labels must be finite, got {points[~points.isfinite()][0].item()}")
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be above 0, got {bandwidth}")
    n = len(labels)
    if n < 2:
        return torch.arange(n)
    points = points.reshape(n, -1)
    squares = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    squares.fill_diagonal_(math.inf)
    beyond = squares - squares.amin(1, keepdim=True)  # divided twice, for the square of a bandwidth may underflow
    return torch.exp(-beyond / bandwidth / bandwidth / 2).fill_diagonal_(0).multinomial(1, generator=generator)[:, 0]


def pair_by_confidence(confidence: Tensor) -> Tensor:
    """Pair the more confident half of the samples with the less confident half, in order; nobody is its own partner.

    The most confident sample meets the most confident of the lower half, and so on. With an odd number the middle one
    takes the most confident one as its partner, which then serves two.

    Source: Xiao et al. 2024, "SFTMix", https://arxiv.org/abs/2410.05248, section 3, here within the batch.

    Args:
        confidence: [B], larger is more confident.

    Returns:
        Long tensor [B] on the same device. A single sample keeps itself.

    Raises:
        ValueError: `confidence` is not of shape [B].

    >>> pair_by_confidence(torch.tensor([0.9, 0.1, 0.5, 0.4]))
    tensor([3, 2, 1, 0])
    """
    if confidence.dim() != 1:
        raise ValueError(f"confidence must have shape [B], got {list(confidence.shape)}")
    order = confidence.argsort(descending=True, stable=True)
    half = len(order) // 2
    upper, middle, lower = order[:half], order[half : len(order) - half], order[len(order) - half :]
    partner = torch.empty_like(order)
    partner[upper], partner[lower], partner[middle] = lower, upper, order[: len(middle)]
    return partner
