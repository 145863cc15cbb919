"""Exchanging two samples inside a model: whether each then has the outputs of the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.outputs import scores_of

TOLERANCE = 0.005  # of the difference between the two samples' outputs; a blend that does nothing scores 1
WHOLE = (torch.float32, torch.float64)  # all else rounds what can be seen in a loss
Apply = Callable[[Tensor, Tensor], dict[str, Any]]
"""(partner, lam) of two samples -> the model inputs of the mixed samples, with the model's hooks activated."""


def exchange_error(model: nn.Module, pair: Mapping[str, Any], plain: Tensor, apply: Apply) -> float:
    """Return how far two exchanged samples miss each other's outputs, as a share of the difference between those.

    Args:
        plain: the outputs of the samples as they are.
        apply: mixes the samples. Where they differ in length, only the partner's own tokens are compared.
    """
    partner, lam = torch.tensor([1, 0], device=plain.device), torch.zeros(2, device=plain.device)
    found, expected = scores_of(model(**apply(partner, lam)), len(partner)).double(), plain.double()[[1, 0]]
    hooks_of(model).forget()
    if found.shape != expected.shape:
        return float("inf")
    mask = pair.get("attention_mask")
    if found.dim() == 3 and isinstance(mask, Tensor) and mask.shape == found.shape[:2]:
        own = mask[[1, 0]].bool()[..., None]
        found, expected = found * own, expected * own
    return relative_error(model, found, expected, expected)


def same_scores(found: Tensor, expected: Tensor) -> bool:
    """Whether two ways to run a model give the same scores, up to rounding."""
    return torch.allclose(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


def in_low_precision(model: nn.Module) -> bool:
    """Whether a model computes in less than float32: by its weights, or as accelerate runs it."""
    weight = next(model.parameters(), None)
    return hasattr(model, "_original_forward") or (weight is not None and weight.dtype not in WHOLE)


def relative_error(model: nn.Module, found: Tensor, expected: Tensor, two: Tensor) -> float:
    """Return how far an output is from the expected one, as a share of the difference between two samples.

    Args:
        two: the outputs of the two samples.
    """
    far = (found - expected).abs().max()
    # Rounding alone must not refuse a model whose two samples happen to score alike.
    rounding = expected.abs().max() * (0.05 if in_low_precision(model) else 1e-5)
    difference = (two[0] - two[1]).abs().max()
    return float((far - rounding).clamp(min=0) / difference.clamp(min=1e-12))
