"""The logits among the outputs of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NAMES = (
    "logits",
    "prediction_logits",
    "regression_outputs",
    "prediction_outputs",
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
    if isinstance(outputs, tuple) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    raise ValueError(f"the model returned {type(outputs).__name__} without logits: mixing needs a head that scores")
