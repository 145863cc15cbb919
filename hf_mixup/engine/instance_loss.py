"""The set losses of MaskFormer and its kin, with a weight for each mask.

transformers' own criterion, two of whose methods are replaced for one forward pass: matching, the points that are
looked at, and auxiliary outputs stay its own. What a mask of weight w is matched with counts w in the loss of its
class, of its pixels and of its overlap, and sums are divided by the total weight where its own are divided by the
number of masks. With all weights 1 the loss is the criterion's own.

Source: Cheng et al. 2021, "Per-Pixel Classification is Not All You Need for Semantic Segmentation", arXiv 2107.06278,
equation 2, for the loss; Zhang et al. 2019, arXiv 1902.04103, section 3.1, for weights of what two images show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup.engine.detection_loss import mass_of

Matches = Sequence[tuple[Tensor, Tensor]]
TERMS = ("dice_loss", "sigmoid_cross_entropy_loss", "sigmoid_focal_loss")
"""What the criteria call their losses of one mask each: (logits, labels, number of masks) -> sum over it."""


def takes_weights(criterion: Any) -> bool:
    """Whether this is a criterion whose masks can be weighed."""
    masks = getattr(type(criterion), "loss_masks", None)
    named = masks is not None and sum(term in masks.__code__.co_names for term in TERMS) == 2
    return named and hasattr(criterion, "loss_labels") and isinstance(getattr(criterion, "empty_weight", None), Tensor)


def weigh_criterion(criterion: Any, weights: Sequence[Tensor]) -> Callable[[], None]:
    """Let a criterion weigh each mask; return what puts it back.

    Args:
        weights: of the masks of each sample, float32 [N].
    """
    replaced = {"loss_labels": _weighted_classes, "loss_masks": _weighted_masks}
    for name, made in replaced.items():
        vars(criterion)[name] = torch.compiler.disable(made(criterion, weights))

    def put_back() -> None:
        for name in replaced:
            vars(criterion).pop(name, None)

    return put_back


def _weighted_classes(criterion: Any, weights: Sequence[Tensor]) -> Callable[..., dict[str, Tensor]]:
    def loss_labels(
        class_queries_logits: Tensor, class_labels: Sequence[Tensor], indices: Matches
    ) -> dict[str, Tensor]:
        logits, of_class = class_queries_logits, criterion.empty_weight
        place = criterion._get_predictions_permutation_indices(indices)
        classes = torch.full(logits.shape[:2], len(of_class) - 1, dtype=torch.long, device=logits.device)
        classes[place] = _matched(class_labels, indices).to(classes)
        counts = torch.ones(logits.shape[:2], device=logits.device)
        counts[place] = _matched(weights, indices).to(counts)
        each = F.cross_entropy(logits.transpose(1, 2), classes, of_class, reduction="none")
        return {"loss_cross_entropy": (counts * each).sum() / (counts * of_class[classes]).sum()}

    return loss_labels


def _weighted_masks(criterion: Any, weights: Sequence[Tensor]) -> Callable[..., dict[str, Tensor]]:
    own: Any = type(criterion).loss_masks

    def loss_masks(logits: Tensor, labels: Sequence[Tensor], indices: Matches, count: Tensor) -> dict[str, Tensor]:
        matched = _matched(weights, indices)
        terms = {
            name: _weighted_term(own.__globals__[name], matched) for name in TERMS if name in own.__code__.co_names
        }
        weighted = FunctionType(own.__code__, {**own.__globals__, **terms}, own.__name__, own.__defaults__)
        return weighted(criterion, logits, labels, indices, count * mass_of(weights, logits.device))

    return loss_masks


def _weighted_term(own: Callable[..., Tensor], weights: Tensor) -> Callable[..., Tensor]:
    """Return a loss of masks that weighs each: the own one, of one mask at a time."""

    def term(logits: Tensor, labels: Tensor, count: Tensor) -> Tensor:
        if not len(logits):
            return own(logits, labels, count)
        each = torch.func.vmap(lambda scores, wanted: own(scores[None], wanted[None], 1))(logits, labels)
        return (weights.to(each) * each).sum() / count

    return term


def _matched(values: Sequence[Tensor], indices: Matches) -> Tensor:
    return torch.cat([each[which.to(each.device)] for each, (_, which) in zip(values, indices)])
