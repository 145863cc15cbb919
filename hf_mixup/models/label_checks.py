"""What is said of labels that no loss takes as they are, before a loss of torch would say it in words of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hf_mixup.models.batches import IDS


def refuse_other_count(labels: Tensor, batch: Mapping[str, Any]) -> None:
    """Refuse more or fewer labels than samples.

    Without tokens a batch may hold several rows a sample, in which case nothing is refused here.

    Raises:
        ValueError: naming both numbers.

    >>> refuse_other_count(torch.tensor([0, 1, 2]), {"input_ids": torch.ones(4, 6)})
    Traceback (most recent call last):
    ...
    ValueError: 3 labels (of shape [3]) for 4 samples (input_ids [4, 6]): each sample needs its own (see the collator)
    """
    ids, count = batch.get(IDS), len(labels)
    held = {IDS: ids} if isinstance(ids, Tensor) else batch
    inputs = {key: each for key, each in held.items() if isinstance(each, Tensor) and each is not labels}
    counts = {key: len(each) for key, each in inputs.items() if each.dim() > 1 and "mask" not in key}
    wrong = [key for key, rows in counts.items() if (rows % count if key != IDS else rows != count)]
    if wrong and len(wrong) == len(counts):
        key = wrong[0]
        raise ValueError(
            f"{count} labels (of shape {list(labels.shape)}) for {counts[key]} samples ({key} "
            f"{list(inputs[key].shape)}): each sample needs its own (see the collator)"
        )


def refuse_no_class_numbers(labels: Tensor) -> None:
    """Refuse labels of one class each that are not of the type which losses, torch's and the models' own, take.

    Raises:
        ValueError: naming the type found.

    >>> refuse_no_class_numbers(torch.tensor([0, 1], dtype=torch.int32))
    Traceback (most recent call last):
    ...
    ValueError: labels hold torch.int32 [2], and class numbers are torch.int64: use .long() in the collator
    """
    if labels.dtype != torch.long:
        raise ValueError(
            f"labels hold {labels.dtype} {list(labels.shape)}, and class numbers are torch.int64: use .long() "
            "in the collator"
        )


def refuse_other_places(logits: Tensor, labels: Tensor, kind: str) -> None:
    """Refuse numbers, or labels of several classes, of which there is not one for each of a model's outputs.

    Raises:
        ValueError: naming both shapes.

    >>> refuse_other_places(torch.zeros(4, 3), torch.zeros(4, 1), "multi_label_classification")
    Traceback (most recent call last):
    ...
    ValueError: labels of shape [4, 1] do not fit logits of shape [4, 3]: one number for each output is needed ...
    """
    fits = logits.numel() == labels.numel() if kind == "regression" else logits.shape == labels.shape
    if not fits:
        raise ValueError(
            f"labels of shape {list(labels.shape)} do not fit logits of shape {list(logits.shape)}: one number for "
            "each output is needed (num_labels sets how many there are)"
        )


def refuse_half_spans(ends: Mapping[str, Any]) -> None:
    """Refuse starts of answers without as many ends.

    Args:
        ends: what a batch holds of either, by name.

    Raises:
        ValueError: naming what each is.

    >>> refuse_half_spans({"start_positions": torch.tensor([1, 4]), "end_positions": None})
    Traceback (most recent call last):
    ...
    ValueError: answers need a tensor [B] for each end: start_positions is [2], end_positions NoneType
    """
    given = {key: list(each.shape) if isinstance(each, Tensor) else type(each).__name__ for key, each in ends.items()}
    tensors = [each for each in ends.values() if isinstance(each, Tensor) and each.dim() and each.numel() == len(each)]
    if len(tensors) < len(ends) or len({len(each) for each in tensors}) > 1:
        (one, its), (other, others) = given.items()
        raise ValueError(f"answers need a tensor [B] for each end: {one} is {its}, {other} {others}")


def refuse_other_classes(labels: Tensor, classes: int | None, weights: int, name: str) -> None:
    """Refuse more or fewer class weights than classes; where only the logits tell those, a label without a weight.

    Raises:
        ValueError: naming both numbers.

    >>> refuse_other_classes(torch.tensor([0, 2]), 3, 2, "Net")
    Traceback (most recent call last):
    ...
    ValueError: class_weights has 2 numbers, but Net has 3 classes: give one for each
    """
    if classes is None:  # a look at labels on a device would stall it
        classes = max(weights, int(labels.max()) + 1) if labels.device.type == "cpu" else weights
    if classes != weights:
        raise ValueError(f"class_weights has {weights} numbers, but {name} has {classes} classes: give one for each")
