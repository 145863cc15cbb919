"""Dense targets of mixed samples, and the loss against them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup.utils.constants import IGNORE_INDEX

from ._rows import check_partner
from .blending import blend_formula, weights


def soft_targets(
    labels: Tensor, partner: Tensor, lam: float | Tensor, num_classes: int, smoothing: float = 0.0
) -> Tensor:
    """Dense targets of blended rows: lam * y + (1 - lam) * y[partner], y being one-hot.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, https://arxiv.org/abs/1710.09412, eq. (1);
    smoothing, before mixing, as timm does it.

    Args:
        labels: integer tensor [B], values in [0, num_classes), or -100 for a sample without a label: its y is all
            zeros, so that it adds nothing to the loss. [B, ...] gives one target per position.
        partner: long tensor [B] with values in [0, B).
        lam: weight of the sample's own label in [0, 1]: a float, a 0-d tensor, or one per sample [B].
        num_classes: number of classes C.
        smoothing: share s of each label spread over all classes: off = s / C, on = 1 - s + off.

    Returns:
        float32 tensor [B, C] ([B, ..., C]); rows sum to 1 unless a label is -100.

    Raises:
        ValueError: labels are not integers or (checked on CPU) out of range, or shapes do not fit.
        IndexError: a partner is negative or not less than B.

    >>> soft_targets(torch.tensor([0, 2]), torch.tensor([1, 0]), 0.75, num_classes=3)
    tensor([[0.7500, 0.0000, 0.2500],
            [0.2500, 0.0000, 0.7500]])
    """
    check_partner(labels, partner)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    labels = labels.long()
    kept = labels != IGNORE_INDEX
    checks = labels.device.type == "cpu" and not torch.compiler.is_compiling()  # on an accelerator it would synchronise
    if checks and labels.numel() and not in_range(labels, num_classes):
        wrong = labels[kept & ((labels < 0) | (labels >= num_classes))]
        if len(wrong):
            raise ValueError(f"label {int(wrong[0])} is outside [0, {num_classes}) and not {IGNORE_INDEX}")
    off = smoothing / num_classes
    y = torch.full((*labels.shape, num_classes), off, device=labels.device)
    y.scatter_(-1, labels.where(kept, 0).unsqueeze(-1), 1 - smoothing + off)
    y = y * kept.unsqueeze(-1)
    own, other = weights(y, lam)
    return blend_formula(y, partner.to(y.device), own, other)


def in_range(labels: Tensor, classes: int) -> bool:
    """Whether all labels (at least one) lie in [0, classes); waits for the device.

    >>> in_range(torch.tensor([0, 2]), 3), in_range(torch.tensor([0, -100]), 3)
    (True, False)
    """
    lowest, highest = torch.aminmax(labels)
    return int(lowest) >= 0 and int(highest) < classes


def weighted(weight: Tensor, loss: Tensor) -> Tensor:
    """Return weight * loss, where a loss of weight 0 counts nothing even if it is infinite or NaN.

    A head that masks classes with -inf has an infinite loss for each of them, and 0 * inf would be NaN. Finite losses
    are left as they are, so that the weight keeps its gradient.

    Args:
        weight: floating-point tensor that broadcasts with `loss`.
        loss: floating-point tensor.

    >>> weighted(torch.tensor([0.0, 0.5]), torch.tensor([torch.inf, 4.0]))
    tensor([0., 2.])
    """
    return weight * loss.masked_fill((weight == 0) & ~loss.isfinite(), 0.0)


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of yes or no for each logit, of the shape of the logits.

    As `torch.nn.functional.binary_cross_entropy_with_logits` without its NaN at infinite logits: a class that is masked
    with -inf costs nothing where it is not wanted.

    Args:
        logits: floating-point tensor.
        targets: floating-point tensor of the same shape with values in [0, 1].

    >>> binary_cross_entropy(torch.tensor([0.0, -torch.inf]), torch.tensor([1.0, 0.0])).sum()
    tensor(0.6931)
    """
    return -weighted(targets, F.logsigmoid(logits)) - weighted(1 - targets, F.logsigmoid(-logits))


def soft_cross_entropy(
    logits: Tensor, targets: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy against dense targets: -sum_c weight_c * target_c * log softmax(logits)_c.

    For mixed targets this is the pair form lam * CE(logits, y) + (1 - lam) * CE(logits, y[partner]).

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, https://arxiv.org/abs/1710.09412, eq. (1).

    Args:
        logits: floating-point tensor [B, C] ([..., C]).
        targets: non-negative tensor of the same shape, rows summing to 1, or to less where a label is missing.
        weight: one factor per class, [C].
        reduction: ``"none"``, ``"sum"``, or ``"mean"``: the sum divided by the total ``weight * targets``. That is the
            number of samples if there is no weight and no missing label, and else keeps the mean equal to the pair form
            with ``torch.nn.functional.cross_entropy`` (NaN if nothing is labelled, as there).

    Returns:
        Loss in float32, or float64 if the logits are; a scalar, or [B] ([...]) with ``"none"``.

    Raises:
        ValueError: shapes differ or the reduction is unknown.

    >>> soft_cross_entropy(torch.zeros(2, 4), torch.eye(4)[:2])
    tensor(1.3863)
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits {list(logits.shape)} and targets {list(targets.shape)} must have the same shape")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    targets = targets.to(dtype)
    if weight is not None:
        targets = targets * weight.to(dtype)
    loss = -weighted(targets, logits.to(dtype).log_softmax(-1)).sum(-1)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / targets.sum()
