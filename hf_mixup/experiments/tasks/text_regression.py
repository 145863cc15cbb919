"""Texts -> numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.bases import OneText
from hf_mixup.experiments.tasks.shared import Numbered


@register
@dataclass(kw_only=True)
class TextRegression(OneText, Numbered):
    """One number a text."""

    task: str = "text-regression"
    hub_task = "text-classification"
    auto_class = "AutoModelForSequenceClassification"
    peft_task = "SEQ_CLS"

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.emoji import emoji_regression

        return {"emoji": emoji_regression}
