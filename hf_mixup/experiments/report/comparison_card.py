"""The part of a model card that says what a model was compared with."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from hf_mixup.integrations.model_card import HEADING

COMPARISON = "## Comparison"
# What the Hub calls the tasks whose names here differ.
_HUB_TASKS = {
    "image-text": "zero-shot-image-classification",
    "image-text-classification": "image-classification",
    "text-regression": "text-classification",
    "causal-lm": "text-generation",
    "seq2seq": "text2text-generation",
    "speech-recognition": "automatic-speech-recognition",
}


def add_comparison_section(
    directory: str | os.PathLike[str],
    text: str,
    scores: Mapping[str, Mapping[str, float | None]],
    *,
    name: str,
    task: str,
    dataset: str,
) -> None:
    """Add a comparison to the `README.md` of a model directory, and the model's own scores to its metadata.

    Both replace those of an earlier call. The section stands before that of the mixing.

    Args:
        text: Markdown below the heading.
        scores: of this model, by split and metric; those that are None or not finite are left out.
    """
    path = Path(directory) / "README.md"
    card = ModelCard.load(path)
    before, _, mixing = card.text.partition(HEADING)
    card.text = f"{before.split(COMPARISON)[0].rstrip()}\n\n{COMPARISON}\n\n{text}\n"
    if mixing:
        card.text += f"\n{HEADING}{mixing}"
    card.data.model_name = name
    card.data.eval_results = [
        eval_result(_HUB_TASKS.get(task, task), dataset, split, metric, float(value))
        for split, metrics in scores.items()
        for metric, value in metrics.items()
        if value is not None and math.isfinite(value)
    ]
    card.save(path)
    ModelCard.load(path)  # which checks the metadata


def eval_result(task: str, dataset: str, split: str, metric: str, value: float, **more: Any) -> EvalResult:
    """Return a score as the metadata of a card holds it."""
    data: dict[str, Any] = {"dataset_type": dataset, "dataset_name": dataset, "dataset_split": split}
    return EvalResult(**data, task_type=task, metric_type=metric, metric_name=metric, metric_value=value, **more)
