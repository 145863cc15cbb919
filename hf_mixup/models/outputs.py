"""The logits and the loss among the outputs of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

INSIDE = ("hidden_state", "embeds", "features")  # in the names of what parts of a model give to the next
NAMES = (
    "logits",
    "prediction_logits",
    "regression_outputs",
    "prediction_outputs",
    "question_answering_score",
    "class_queries_logits",
    "predicted_depth",
    "heatmaps",
    "reconstruction",
)


def logits_of(outputs: Any) -> Tensor:
    """Return the logits of a model's output: [B, C], [B, T, C], or [B, 2, T] for the ends of spans.

    Raises:
        ValueError: if there are none.

    >>> logits_of({"start_logits": torch.zeros(3, 5), "end_logits": torch.zeros(3, 5)}).shape
    torch.Size([3, 2, 5])
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        if isinstance(outputs.get("start_logits"), Tensor):
            return torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=1)
        for name in NAMES:
            if isinstance(outputs.get(name), Tensor):
                return outputs[name]
    elif isinstance(outputs, (tuple, list)):
        first = next((each for each in outputs if isinstance(each, Tensor)), None)
        if first is not None:
            return first
    held = f" of {', '.join(outputs) or 'nothing'}," if isinstance(outputs, Mapping) else ""
    raise ValueError(
        f"the model returned {type(outputs).__name__}{held} without logits: mixing needs a head that scores, and "
        "returns its scores as 'logits', or first in a tuple"
    )


def said_of(outputs: Any, count: int) -> dict[str, Tensor]:
    """Return what a head says of each of `count` samples, by name: every float output but hidden states and the like.

    >>> list(said_of({"predicted_depth": torch.zeros(2, 4, 4), "last_hidden_state": torch.ones(2, 3)}, 2))
    ['predicted_depth']
    """
    return {
        name: each
        for name, each in (outputs.items() if isinstance(outputs, Mapping) else ())
        if isinstance(each, Tensor) and each.is_floating_point() and each.dim() and len(each) == count
        if not any(part in name for part in INSIDE)
    }


def scores_of(outputs: Any, count: int) -> Tensor:
    """Return the logits, or of a head without any the first that it says of each of `count` samples.

    Raises:
        ValueError: if it says nothing.
    """
    said = said_of(outputs, count)
    names = ("start_logits", *NAMES)
    if said and not any(name in outputs for name in names):
        return next(iter(said.values()))
    return logits_of(outputs)


def loss_of(outputs: Any) -> Tensor | None:
    """Return the loss that a model computed, None if it computed none.

    >>> loss_of({"loss": torch.tensor(2.0), "logits": torch.zeros(1, 2)}), loss_of(torch.tensor(2.0))
    (tensor(2.), tensor(2.))
    """
    if isinstance(outputs, Tensor):
        return None if outputs.dim() else outputs
    found = outputs.get("loss") if isinstance(outputs, Mapping) else outputs[0] if _is_sequence(outputs) else None
    return found if isinstance(found, Tensor) and found.numel() == 1 else None


def _is_sequence(outputs: Any) -> bool:
    return isinstance(outputs, (tuple, list)) and len(outputs) > 0


def with_loss(outputs: Any, loss: Tensor) -> Any:
    """Return a model's outputs with a loss in front, where its own would stand."""
    if isinstance(outputs, Mapping):
        return type(outputs)(**{"loss": loss, **{key: value for key, value in outputs.items() if key != "loss"}})
    return (loss, outputs) if isinstance(outputs, Tensor) else (loss, *outputs)
