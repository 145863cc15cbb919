"""Images, each with a text -> classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.fused_model import FusedModel
from hf_mixup.experiments.tasks.shared import Classified


@register
@dataclass(kw_only=True)
class ImageTextClassification(FusedModel, Classified):
    """One class an image with its text, by a ViLT, which reads both as one sequence: a checkpoint, or a new one.

    Args:
        modality_dropout: a sample loses its image or its text, each as often, drawn anew in every epoch.
        leave_out: a control, which tells what the other modality alone is worth.
        test_changes: adds copies of each test split, named after the change: `test_no_text`, ... A missing image is
            grey, a missing text empty; a noisy image has Gaussian noise, and half the words of a noisy text are those
            of other rows.
    """

    task: str = "image-text-classification"
    hub_task = "image-classification"
    auto_class = "ViltForImagesAndTextClassification"

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.emoji import emoji_keywords

        return {"emoji": emoji_keywords}
