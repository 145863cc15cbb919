"""How a model's own loss adds up over samples, and what a micro-batch's part of it is under accumulation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_mixup.models.adapters import base_model
from hf_mixup.models.batches import count_samples, select_samples
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.label_entries import labels_at
from hf_mixup.models.losses import mean_of
from hf_mixup.models.outputs import loss_of
from hf_mixup.models.probe import eval_without_side_effects
from hf_mixup.utils.constants import IGNORE_INDEX
from hf_mixup.utils.random_state import RandomState

ITEMS = "num_items_in_batch"
MANY = 1e6
Reduction = Literal["mean", "sum", "items"]
"""Of a batch: its mean, its sum, or its sum divided by `num_items_in_batch`."""


def reduction_of(model: nn.Module, inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> Reduction:
    """Return how a model that takes `num_items_in_batch` reduces its loss: tried once, on one sample and on it twice.

    Many take that number and ignore it, so that a plain Trainer trains them on k times the mean under accumulation k.
    A model that takes none, or cannot be run so, is left as it is ("items").
    """
    found = hooks_of(model).cache
    if "reduction" not in found:
        found["reduction"] = _tried(model, inputs, labels) if _takes_items(model) else "items"
    return found["reduction"]


def share_of(loss: Tensor, reduction: Reduction, labels: Any, items: Tensor | int | None) -> Tensor:
    """Return a micro-batch's part of the loss of a whole step.

    Args:
        loss: what the model computed, 0-d.
        labels: of the micro-batch; the Trainer counts those of a tensor, but -100, for `num_items_in_batch`.
        items: that number, None where the model was not told any.

    >>> share_of(torch.tensor(2.0), "mean", torch.tensor([1, 4, -100]), 8)
    tensor(0.5000)
    """
    if items is None or reduction != "mean" or not isinstance(labels, Tensor):
        return loss
    return mean_of(loss * labels.ne(IGNORE_INDEX).sum(), items)


def _takes_items(model: nn.Module) -> bool:
    parameters = inspect.signature(base_model(model).forward).parameters.values()
    return any(each.kind is each.VAR_KEYWORD or each.name == ITEMS for each in parameters)


def _tried(model: nn.Module, inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> Reduction:
    count, random = count_samples(inputs), RandomState(model)
    first = {**select_samples(inputs, torch.tensor([0]), count), **labels_at(labels, torch.tensor([0]))}
    twice = labels_at({key: value for key, value in first.items() if len_of(value) == 1}, torch.tensor([0, 0]))

    def loss(batch: Mapping[str, Any], **more: Any) -> float:
        with random.again():
            found = loss_of(model(**batch, **more))
        return float("nan") if found is None else float(found)

    try:
        with eval_without_side_effects(model):
            one, two, told = loss(first), loss({**first, **twice}), loss(first, **{ITEMS: torch.tensor(MANY)})
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError):
        return "items"  # a sample alone is none for it, or the content of all lies in one tensor
    if not abs(told - one) <= 1e-3 * abs(one):
        return "items"
    return "sum" if abs(two - 2 * one) < abs(two - one) else "mean"


def len_of(value: Any) -> int:
    """Return how many items an entry of a batch has, 0 for what has none."""
    if isinstance(value, Tensor):
        return len(value) if value.dim() else 0
    return len(value) if isinstance(value, (list, tuple)) else 0
