"""What the labels of a batch mean, and the dense targets of a mixed batch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from hf_mixup.functional import soft_targets

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
IGNORED = -100


def problem_type(config: Any, labels: Tensor) -> ProblemType:
    """Decide how labels are to be read, by the rule of transformers, without writing it into the model's config.

    Args:
        config: the model's configuration; None for a model that has none.
        labels: [B] integers, [B, C] floats in [0, 1], or floats [B] or [B, 1] for regression.

    Raises:
        ValueError: for labels of a shape that no supported head takes.
    """
    found = _declared_or_inferred(config, labels)
    shapes = {"single_label_classification": (1,), "multi_label_classification": (2,), "regression": (1, 2)}
    classes = getattr(config, "num_labels", None)
    if found == "regression" and labels.dim() == 1 and classes not in (None, 1):
        raise ValueError(
            f"labels hold {labels.dtype} [B], but the model has {classes} outputs: convert class ids to "
            "integers, or set num_labels=1 for regression"
        )
    if labels.dim() not in shapes[found]:
        raise ValueError(
            f"labels of shape {list(labels.shape)} do not fit problem type {found!r}: mixing takes one target a "
            "row. Other heads (tokens, spans, boxes) are not covered"
        )
    return found


def _declared_or_inferred(config: Any, labels: Tensor) -> ProblemType:
    declared = getattr(config, "problem_type", None)
    if declared in ("single_label_classification", "multi_label_classification", "regression"):
        return declared
    if not labels.is_floating_point():
        return "regression" if getattr(config, "num_labels", None) == 1 else "single_label_classification"
    if labels.dim() == 1 or labels.shape[-1] == 1:
        return "regression"
    return "multi_label_classification"


def check_labels(labels: Tensor, num_labels: int | None, kind: ProblemType) -> None:
    """Refuse class ids outside the model's classes.

    Raises:
        ValueError: naming the label found and the classes the model has.

    >>> check_labels(torch.tensor([0, 3]), 3, "single_label_classification")
    Traceback (most recent call last):
    ...
    ValueError: label 3 is outside the model's 3 classes (0 to 2): set num_labels, or check the label column
    """
    if kind != "single_label_classification" or num_labels is None or labels.is_floating_point():
        return
    low, high = torch.aminmax(labels)
    if low >= 0 and high < num_labels:
        return  # the common case, in one pass
    wrong = labels[((labels < 0) & (labels != IGNORED)) | (labels >= num_labels)]
    if len(wrong):
        raise ValueError(
            f"label {int(wrong[0])} is outside the model's {num_labels} classes (0 to {num_labels - 1}): "
            "set num_labels, or check the label column"
        )


def dense_targets(
    labels: Tensor, partner: Tensor, lam: Tensor, classes: int, kind: ProblemType, smoothing: float
) -> Tensor:
    """Return the float32 targets of a mixed batch: [B, C], or the shape of the labels for regression."""
    if kind == "single_label_classification":
        return soft_targets(labels, partner, lam, classes, smoothing=smoothing)
    values = labels.to(torch.promote_types(labels.dtype, torch.float32))
    share = lam.reshape(-1, *(1,) * (values.dim() - 1))
    return share * values + (1 - share) * values[partner]
