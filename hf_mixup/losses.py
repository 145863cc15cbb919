"""Losses of a mixed batch, by problem type, all as a sum over rows and the number it is to be divided by.

Keeping the two apart is what makes gradient accumulation exact: the Trainer knows how many items the accumulated batch
has, a micro-batch does not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup.targets import IGNORED, ProblemType, dense_targets


def mixed_loss_sum(
    logits: Tensor,
    labels: Tensor,
    partner: Tensor,
    lam: Tensor,
    kind: ProblemType,
    smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    bce: bool = False,
) -> Tensor:
    """Return the summed loss of a mixed batch, a 0-d tensor in float32 at least.

    Args:
        logits: [B, C], or [B] or [B, 1] for regression.
        labels: as the model takes them: [B] class ids (-100 is ignored), [B, C] floats, or [B] floats.
        partner: long [B].
        lam: float32 [B], weight of the row's own label.
        smoothing: label smoothing in [0, 1), single-label only.
        class_weights: [C]; weighs each of the two cross-entropies by its own label (the pair form, the right one with
            weights).
        bce: score each class of a single-label problem by itself.

    Raises:
        ValueError: for smoothing or class weights where the problem type has no use for them.

    >>> logits, labels = torch.zeros(2, 4), torch.tensor([0, 3])
    >>> mixed_loss_sum(logits, labels, torch.tensor([1, 0]), torch.tensor([0.3, 0.3]), "single_label_classification")
    tensor(2.7726)
    """
    if kind != "single_label_classification" and (
        class_weights is not None or bce or (smoothing and kind == "regression")
    ):
        raise ValueError(f"class_weights, label_smoothing and loss='bce' are for single-label problems, found {kind}")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # low precision loses the small targets
    if kind == "single_label_classification" and not bce:
        return _pair_cross_entropy(logits, labels, labels[partner], lam, smoothing, class_weights).sum()
    targets = dense_targets(labels, partner, lam, logits.shape[-1], kind, smoothing).to(logits.dtype)
    if kind == "regression":
        return F.mse_loss(logits.reshape(targets.shape), targets, reduction="sum")
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")


def _pair_cross_entropy(
    logits: Tensor, own: Tensor, other: Tensor, lam: Tensor, smoothing: float, weights: Tensor | None
) -> Tensor:
    """Return lam * CE(own) + (1 - lam) * CE(other) by row, [B], from one softmax."""
    scores = logits.log_softmax(-1)
    weights = None if weights is None else weights.to(scores.dtype)

    def hard(labels: Tensor) -> Tensor:
        return F.nll_loss(scores, labels, weight=weights, ignore_index=IGNORED, reduction="none")

    loss = lam * hard(own) + (1 - lam) * hard(other)
    if not smoothing:
        return loss
    uniform = -(scores if weights is None else scores * weights).mean(-1)
    labelled = lam * (own != IGNORED) + (1 - lam) * (other != IGNORED)
    return (1 - smoothing) * loss + smoothing * labelled * uniform


def loss_items(
    labels: Tensor, kind: ProblemType, class_weights: Tensor | None = None, bce_classes: int | None = None
) -> Tensor:
    """Return what the summed loss is divided by to give the mean that torch's own loss would give, a 0-d tensor.

    Labelled rows, weighted by class as in `torch.nn.CrossEntropyLoss`; single numbers for multi-label and regression.
    With partners that permute the batch this is the same for the labels of the partners.

    >>> loss_items(torch.tensor([0, 2, -100]), "single_label_classification")
    tensor(2)
    """
    if kind != "single_label_classification":
        return torch.tensor(labels.numel(), device=labels.device)
    labelled = labels != IGNORED
    if class_weights is not None:
        return class_weights.to(labels.device)[labels[labelled]].sum()
    return labelled.sum() * (bce_classes or 1)
