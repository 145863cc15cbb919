"""Texts -> classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_mixup.data import load_emoji
from hf_mixup.experiments.tasks.arguments import TEXT, register
from hf_mixup.experiments.tasks.bases import OneText
from hf_mixup.experiments.tasks.shared import Classified


@register
@dataclass(kw_only=True)
class TextClassification(OneText, Classified):
    """One class a text."""

    task: str = TEXT
    auto_class = "AutoModelForSequenceClassification"
    peft_task = "SEQ_CLS"

    def bundled(self) -> Any:
        return {"emoji": lambda: load_emoji("text")}
