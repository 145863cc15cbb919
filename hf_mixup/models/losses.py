"""Losses of a mixed batch, by problem type, all as a sum over samples and the number to divide it by.

The two are kept apart so that gradient accumulation is exact: the Trainer knows how many items the accumulated batch
has, a micro-batch does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.functional import two_target_cross_entropy
from hf_mixup.functional.blending import expand_like
from hf_mixup.functional.targets import binary_cross_entropy, weighted
from hf_mixup.models.label_checks import refuse_other_places
from hf_mixup.models.labels import Further, ProblemType, dense_targets, partner_weight
from hf_mixup.utils.constants import IGNORE_INDEX


def mixed_loss_sum(
    logits: Tensor,
    labels: Tensor,
    other: Tensor,
    lam: Tensor,
    kind: ProblemType,
    smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    bce: bool = False,
    further: Further = (),
    balance: Sequence[Tensor] = (),
) -> Tensor:
    """Return the summed loss of a mixed batch, a 0-d tensor in float32 at least.

    Args:
        logits: [B, C], [B, T, C] for tokens, [B, H, W, C] for pixels, or [B] or [B, 1] for regression.
        labels: [B], [B, T] or [B, H, W] class ids (-100 is ignored), [B, C] floats, or [B] floats.
        other: the labels of the partners, of the same shape.
        lam: weight of the sample's own label, float32 [B], or one for each label.
        smoothing: label smoothing s in [0, 1): 1 - s on the label and s over all classes; with several labels a sample
            s over yes and no of each. Not for regression.
        class_weights: [C]; weighs the loss of each label by that label's class (the pair form, the right one with
            weights).
        bce: score each class of a single-label problem by itself.
        further: more labels with the weight of each, [B], taken from that of `other`.
        balance: factors for `other` and each of `further`, see `balance_of`; single-label problems only.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv 1710.09412, equation 1: the loss is
    linear in the targets, so that it is lam of the one and 1 - lam of the other label's.

    Raises:
        ValueError: for smoothing or class weights where the problem type has no use for them, or for logits whose shape
            does not fit the labels; for transcripts, whose loss the model computes.

    >>> logits, labels = torch.zeros(2, 4), torch.tensor([0, 3])
    >>> mixed_loss_sum(logits, labels, labels[[1, 0]], torch.tensor([0.3, 0.3]), "single_label_classification")
    tensor(2.7726)
    """
    if kind == "transcription":
        raise ValueError("transcripts belong to no position: their loss is the model's own, see `mixed_ctc_loss`")
    if kind != "single_label_classification" and (
        class_weights is not None or bce or (smoothing and kind == "regression")
    ):
        named = (
            "class_weights" if class_weights is not None else "loss='bce'" if bce else f"label_smoothing={smoothing}"
        )
        raise ValueError(f"{named} does not go with labels for {kind}: leave it out")
    if kind == "single_label_classification":
        _check_shapes(logits, labels, bce)
        weighed = weighed_labels(labels, other, lam, further, balance)
        if bce:
            return _bce_sum(logits, weighed, smoothing, class_weights)
        if len(weighed) % 2:
            weighed.append((labels, torch.zeros_like(lam)))
        sums = []
        for (one, own), (two, rest) in zip(weighed[::2], weighed[1::2]):
            own, rest = expand_like(own, labels), expand_like(rest, labels)
            sums.append(two_target_cross_entropy(logits, one, two, own, rest, smoothing, class_weights))
        return reduce(torch.add, sums)
    refuse_other_places(logits, labels, kind)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # low precision loses the small targets
    targets = dense_targets(labels, other, lam, logits.shape[-1], kind, smoothing, further).to(logits.dtype)
    if kind == "regression":
        return F.mse_loss(logits.reshape(targets.shape), targets, reduction="sum")
    return binary_cross_entropy(logits, targets).sum()


def weighed_labels(
    labels: Tensor, other: Tensor, lam: Tensor, further: Further = (), balance: Sequence[Tensor] = ()
) -> list[tuple[Tensor, Tensor]]:
    """Return all labels of a mixed batch with the weight of each: the samples' own, their partners', and further ones.

    >>> one, other = torch.tensor([0]), torch.tensor([1])
    >>> [weight.tolist() for _, weight in weighed_labels(one, other, torch.tensor([0.25]))]
    [[0.25], [0.75]]
    """
    others = [(other, partner_weight(lam, further)), *further]
    if balance:
        others = [(each, weight * factor) for (each, weight), factor in zip(others, balance)]
    return [(labels, lam), *others]


def balance_of(masses: Tensor) -> Sequence[Tensor]:
    """Return the factors that let each set of labels count by its own mean, where all are divided by the first's mass.

    With class weights, the loss of mixed labels is lam * CE(own) + (1 - lam) * CE(other), each the mean that
    `torch.nn.CrossEntropyLoss` takes: divided by what *its* labels weigh. Where partners permute the batch, all sets
    weigh the same; where they do not, as with `pair_class`, rare classes may be partners more often than own labels.

    Args:
        masses: the mass of each set of labels, own ones first, floats [1 + K], see `loss_items`.

    Source: the criterion of mixup-cifar10 (https://github.com/facebookresearch/mixup-cifar10, `mixup_criterion`).

    >>> balance_of(torch.tensor([8.0, 4.0, 0.0]))
    (tensor(2.), tensor(0.))
    """
    return torch.where(masses[1:] > 0, masses[0] / masses[1:].clamp(min=1e-12), 0.0).unbind()


def mean_of(total: Tensor, items: Tensor | int) -> Tensor:
    """Return a sum divided by the number (or weight) of its items: 0 where there are none.

    >>> mean_of(torch.tensor(3.0), 2), mean_of(torch.tensor(0.0), torch.tensor(0))
    (tensor(1.5000), tensor(0.))
    """
    if isinstance(items, Tensor) and items.device.type != "cpu":  # where it would have to be waited for
        items = items.to(total.device)
        return total / torch.where(items > 0, items, 1)
    number = items.item() if isinstance(items, Tensor) else items
    return total / number if number > 0 else total


def _bce_sum(
    logits: Tensor, weighed: Sequence[tuple[Tensor, Tensor]], smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Return the summed binary losses of each class, of labels with weights; a label of -100 adds nothing."""
    kind: ProblemType = "single_label_classification"
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # low precision loses the small targets
    total = logits.new_zeros(())
    for labels, weight in weighed:
        target = dense_targets(labels, labels, weight, logits.shape[-1], kind, smoothing).to(logits.dtype)
        each = binary_cross_entropy(logits, target).sum(-1)
        total = total + weighted(label_mass(labels, weight, kind, class_weights), each).sum()
    return total


def _check_shapes(logits: Tensor, labels: Tensor, bce: bool) -> None:
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"labels of shape {list(labels.shape)} do not fit logits of shape {list(logits.shape)}: one label for each "
            "position is needed (a float [B, C] tensor for several labels a sample)"
        )
    if bce and labels.dim() > 1:
        raise ValueError("loss='bce' is for one label a sample: tokens and spans take the cross-entropy (loss='auto')")


def loss_items(
    labels: Tensor, kind: ProblemType, class_weights: Tensor | None = None, bce_classes: int | None = None
) -> Tensor:
    """Return the number to divide the summed loss by, which gives the mean of torch's own loss, a 0-d tensor.

    It is the number of labelled samples (or tokens), weighted by class as in `torch.nn.CrossEntropyLoss`; for
    multi-label problems and regression the number of single numbers, for transcripts that of samples. If the partners
    permute the batch, it is the same for the labels of the partners; for other partners see `balance_of`.

    >>> loss_items(torch.tensor([0, 2, -100]), "single_label_classification")
    tensor(2)
    """
    if kind != "single_label_classification":
        return torch.full((), len(labels) if kind == "transcription" else labels.numel(), device=labels.device)
    labelled = labels != IGNORE_INDEX
    if class_weights is not None:
        # By index, since a mask would make the host wait for the device.
        own = class_weights.to(labels.device)[labels.where(labelled, 0)]
        return (own * labelled).sum() * (bce_classes or 1)
    return labelled.sum() * bce_classes if bce_classes else labelled.sum()


def soft_scores(logits: Tensor, temperature: float, kind: ProblemType, bce: bool = False) -> Tensor:
    """Return the softened scores of a teacher, in float32 at least: probabilities, or its numbers for regression."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if kind == "regression":
        return logits
    softened = logits / temperature
    return softened.softmax(-1) if kind == "single_label_classification" and not bce else softened.sigmoid()


def distilled_loss_sum(
    logits: Tensor, taught: Tensor, mass: Tensor, temperature: float, kind: ProblemType, bce: bool = False
) -> Tensor:
    """Return the summed distance of a model from its teacher, a 0-d tensor in float32 at least.

    T^2 KL(teacher || model) at each position, both softened by T; for each class by itself for multi-label problems
    and `bce`; squared errors for regression.

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2 (gradients
    of softened targets are 1 / T^2 of the others', hence the factor).

    Args:
        logits: of the model, [B, C], [B, T, C], or [B] or [B, 1] for regression.
        taught: `soft_scores` of the teacher, of the same shape.
        mass: the weight of each position, float32 [B] or [B, T].

    >>> taught = soft_scores(torch.tensor([[2.0, 0.0]]), 2.0, "single_label_classification")
    >>> distilled_loss_sum(torch.zeros(1, 2), taught, torch.ones(1), 2.0, "single_label_classification")
    tensor(0.4438)
    """
    logits = logits.to(taught.dtype)
    if kind == "regression":
        return weighted(expand_like(mass, taught), (logits.reshape(taught.shape) - taught).square()).sum()
    softened = logits / temperature
    if kind == "single_label_classification" and not bce:
        each = torch.xlogy(taught, taught) - weighted(taught, softened.log_softmax(-1))
    else:
        own = binary_cross_entropy(softened, taught)
        each = own + torch.xlogy(taught, taught) + torch.xlogy(1 - taught, 1 - taught)
    return temperature**2 * weighted(expand_like(mass, each), each).sum()


def label_mass(labels: Tensor, weight: Tensor, kind: ProblemType, class_weights: Tensor | None = None) -> Tensor:
    """Return how much each sample's (or token's) label of a given weight counts in the loss, float32 [B] or [B, T].

    >>> label_mass(torch.tensor([0, -100]), torch.tensor(0.25), "single_label_classification")
    tensor([0.2500, 0.0000])
    """
    if kind != "single_label_classification":
        return weight
    kept = (labels != IGNORE_INDEX).to(weight.dtype)
    if class_weights is not None:
        kept = kept * class_weights[labels.where(labels != IGNORE_INDEX, 0)]
    return expand_like(weight, labels) * kept


def auxiliary_loss(model: nn.Module, outputs: Any) -> Tensor | float:
    """Return the load-balancing loss that a mixture of experts adds to its own, 0 for other models."""
    found = outputs.get("aux_loss") if isinstance(outputs, Mapping) else None
    if not isinstance(found, Tensor):
        return 0.0
    share: Any = getattr(model, "router_aux_loss_coef", None)
    return found * (getattr(getattr(model, "config", None), "router_aux_loss_coef", 0.0) if share is None else share)
