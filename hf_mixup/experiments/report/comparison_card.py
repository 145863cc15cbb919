"""The part of a model card that says what a model was compared with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCard

from hf_mixup.integrations.model_card import HEADING
from hf_mixup.integrations.whole_card import eval_results

COMPARISON = "## Comparison"


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
        task: what the Hub calls it.
        scores: of this model, by split and metric; those that are None or not finite are left out.
    """
    path = Path(directory) / "README.md"
    card = ModelCard.load(path)
    before, _, mixing = card.text.partition(HEADING)
    card.text = f"{before.split(COMPARISON)[0].rstrip()}\n\n{COMPARISON}\n\n{text}\n"
    if mixing:
        card.text += f"\n{HEADING}{mixing}"
    card.data.model_name = name
    card.data.eval_results = eval_results(scores, task, dataset, dataset)
    card.save(path)
    ModelCard.load(path)  # which checks the metadata
