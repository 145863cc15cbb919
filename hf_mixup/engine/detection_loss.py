"""The set losses of DETR and its kin, with a weight for each box.

transformers' own criteria, subclassed: matching, auxiliary and denoising outputs stay theirs. What a box of weight w
is matched with counts w in the loss of its class, of its sides and of its overlap, and sums are divided by the total
weight where theirs are divided by the number of boxes. With all weights 1 they are the model's own.

Source: Zhang et al. 2019, "Bag of Freebies for Training Object Detection Neural Networks", arXiv 1902.04103, section
3.1, for the weights; Carion et al. 2020, "End-to-End Object Detection with Transformers", arXiv 2005.12872, equation
2, for the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.loss.loss_deformable_detr import DeformableDetrForObjectDetectionLoss, DeformableDetrImageLoss
from transformers.loss.loss_for_object_detection import (
    ForObjectDetectionLoss,
    ImageLoss,
    box_iou,
    generalized_box_iou,
)
from transformers.loss.loss_lw_detr import LwDetrForObjectDetectionLoss, LwDetrImageLoss
from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss, RTDetrLoss

WEIGHTS = "weights"
Targets = list[dict[str, Tensor]]
Matches = list[tuple[Tensor, Tensor]]


class _Weighted:
    """What the criteria share: the weight of what each query is matched with, and the loss of boxes."""

    num_classes: int
    _scale: Tensor | float = 1.0
    _shared = True

    def forward(self, outputs: Any, targets: Targets) -> dict[str, Tensor]:
        self._scale = mass_of([each[WEIGHTS] for each in targets], outputs["logits"].device, self._shared)
        return super().forward(outputs, targets)  # type: ignore[misc]

    def loss_boxes(self, outputs: Any, targets: Targets, indices: Matches, num_boxes: float) -> dict[str, Tensor]:
        found = outputs["pred_boxes"][self._get_source_permutation_idx(indices)]  # type: ignore[attr-defined]
        boxes, weights = _matched(targets, indices, "boxes"), _matched(targets, indices, WEIGHTS)
        overlap = torch.diag(generalized_box_iou(_corners(found), _corners(boxes)))
        sides = F.l1_loss(found, boxes, reduction="none")
        divisor = num_boxes * self._scale
        return {
            "loss_bbox": (weights[:, None] * sides).sum() / divisor,
            "loss_giou": (weights * (1 - overlap)).sum() / divisor,
        }

    def _classes(self, logits: Tensor, targets: Targets, indices: Matches) -> tuple[Tensor, Tensor]:
        """Return the class that each query is to find (`num_classes` is none) and what it counts, [B, Q] each."""
        place = self._get_source_permutation_idx(indices)  # type: ignore[attr-defined]
        classes = torch.full(logits.shape[:2], self.num_classes, dtype=torch.long, device=logits.device)
        classes[place] = _matched(targets, indices, "class_labels").to(classes)
        weights = torch.ones(logits.shape[:2], device=logits.device)
        weights[place] = _matched(targets, indices, WEIGHTS)
        return classes, weights


class WeightedImageLoss(_Weighted, ImageLoss):
    """DETR, YOLOS, Table Transformer: cross-entropy over the classes and none."""

    def loss_labels(self, outputs: Any, targets: Targets, indices: Matches, num_boxes: float) -> dict[str, Tensor]:
        classes, weights = self._classes(outputs["logits"], targets, indices)
        each = F.cross_entropy(outputs["logits"].transpose(1, 2), classes, self.empty_weight, reduction="none")
        return {"loss_ce": (weights * each).sum() / (weights * self.empty_weight[classes]).sum()}


class WeightedFocalLoss(_Weighted, DeformableDetrImageLoss):
    """Deformable, Conditional and DAB-DETR: a focal loss for each class."""

    def loss_labels(self, outputs: Any, targets: Targets, indices: Matches, num_boxes: float) -> dict[str, Tensor]:
        logits, alpha = outputs["logits"], self.focal_alpha
        classes, weights = self._classes(logits, targets, indices)
        wanted = F.one_hot(classes, self.num_classes + 1)[..., : logits.shape[-1]].to(logits.dtype)
        probability = logits.sigmoid()
        missed = wanted * (1 - probability) + (1 - wanted) * probability
        each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * missed.square()
        if alpha >= 0:
            each = each * (alpha * wanted + (1 - alpha) * (1 - wanted))
        return {"loss_ce": (weights[..., None] * each).sum() / (num_boxes * self._scale)}


class WeightedVariFocalLoss(_Weighted, RTDetrLoss):
    """RT-DETR: the score of a class is to be the overlap that its box has."""

    _shared = False

    def loss_labels_vfl(
        self, outputs: Any, targets: Targets, indices: Matches, num_boxes: float, log: bool = True
    ) -> dict[str, Tensor]:
        logits, place = outputs["logits"], self._get_source_permutation_idx(indices)
        classes, weights = self._classes(logits, targets, indices)
        found, boxes = outputs["pred_boxes"][place].detach(), _matched(targets, indices, "boxes")
        overlap = torch.diag(box_iou(_corners(found), _corners(boxes))[0])
        wanted = F.one_hot(classes, self.num_classes + 1)[..., :-1]
        score = torch.zeros_like(classes, dtype=logits.dtype)
        score[place] = overlap.to(logits.dtype)
        scores = score[..., None] * wanted
        share = (self.alpha * logits.detach().sigmoid().pow(self.gamma) * (1 - wanted) + scores).to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(logits, scores, weight=share, reduction="none")
        return {"loss_vfl": (weights[..., None] * each).sum() / (num_boxes * self._scale)}


class WeightedLwDetrLoss(_Weighted, LwDetrImageLoss):
    """LW-DETR, RF-DETR: a cross-entropy whose target lies between the score of a class and the overlap of its box."""

    def loss_labels(self, outputs: Any, targets: Targets, indices: Matches, num_boxes: float) -> dict[str, Tensor]:
        logits, place = outputs["logits"], self._get_source_permutation_idx(indices)
        _, weights = self._classes(logits, targets, indices)
        found, boxes = outputs["pred_boxes"][place].detach(), _matched(targets, indices, "boxes")
        overlap = torch.diag(box_iou(_corners(found), _corners(boxes))[0]).to(logits.dtype)
        at = (*place, _matched(targets, indices, "class_labels"))
        probability = logits.sigmoid()
        quality = probability[at].pow(self.focal_alpha) * overlap.pow(1 - self.focal_alpha)
        quality = quality.clamp(min=0.01).detach().to(logits.dtype)
        yes, no = torch.zeros_like(logits), probability.square().to(logits.dtype)
        yes[at], no[at] = quality, 1 - quality
        each = -yes * probability.log() - no * (1 - probability).log()
        return {"loss_ce": (weights[..., None] * each).sum() / (num_boxes * self._scale)}


def _with(loss: Callable[..., Any], name: str, criterion: type) -> Callable[..., Any]:
    """Return transformers' function that puts a loss together, with another criterion in place of the one it names."""
    own: Any = loss
    if name not in own.__code__.co_names:  # another release of transformers
        raise ImportError(f"{own.__name__} of this release of transformers does not use {name}")
    made = FunctionType(own.__code__, {**own.__globals__, name: criterion}, own.__name__, own.__defaults__)
    made.__kwdefaults__ = own.__kwdefaults__
    return torch.compiler.disable(made)  # the compiler looks names up in a module's globals; matching is on the CPU


WEIGHTED: dict[Callable[..., Any], Callable[..., Any]] = {
    ForObjectDetectionLoss: _with(ForObjectDetectionLoss, "ImageLoss", WeightedImageLoss),
    DeformableDetrForObjectDetectionLoss: _with(
        DeformableDetrForObjectDetectionLoss, "DeformableDetrImageLoss", WeightedFocalLoss
    ),
    LwDetrForObjectDetectionLoss: _with(LwDetrForObjectDetectionLoss, "LwDetrImageLoss", WeightedLwDetrLoss),
    RTDetrForObjectDetectionLoss: _with(RTDetrForObjectDetectionLoss, "RTDetrLoss", WeightedVariFocalLoss),
}
"""A loss function of transformers -> the same with weights."""


def mass_of(weights: Sequence[Tensor], device: torch.device, shared: bool = True) -> Tensor:
    """Return the total weight of the boxes (or masks) over their number, both at least 1, a 0-d tensor.

    Args:
        weights: those of each sample, [N].
        shared: whether the criterion divides by the mean over processes, and not by its own number.
    """
    from accelerate import PartialState
    from accelerate.utils import reduce

    count = torch.tensor(float(sum(map(len, weights))), device=device)
    sums = torch.stack([sum((each.sum() for each in weights), count.new_zeros(())), count])
    if shared and PartialState._shared_state != {} and PartialState().num_processes > 1:
        sums = reduce(sums) / PartialState().num_processes
    mass, count = sums.clamp(min=1)
    return mass / count


def _corners(boxes: Tensor) -> Tensor:
    """Return boxes (center x, center y, width, height) as (left, top, right, bottom), [N, 4]."""
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], -1)


def _matched(targets: Targets, indices: Matches, key: str) -> Tensor:
    return torch.cat([each[key][which] for each, (_, which) in zip(targets, indices)])
