"""Texts -> numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.shared import OneText
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from hf_mixup.experiments.tasks.prepared import Prepared
    from hf_mixup.experiments.tasks.splits import Splits


@register
@dataclass(kw_only=True)
class TextRegression(OneText):
    """One number a text.

    >>> TextRegression(label_column="score").columns
    {'input': 'text', 'label': 'score'}
    """

    task: str = "text-regression"
    label_column: str = setting("label", "Column with the numbers.")
    label_kind = "number"
    peft_task = "SEQ_CLS"

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.emoji import emoji_regression

        return {"emoji": emoji_regression}

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.prepared import SCORES_OF_NUMBERS

        return replace(super().prepared(splits), **SCORES_OF_NUMBERS)
