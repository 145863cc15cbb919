"""Prompts -> answers, by a model that predicts the next token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.bases import Written
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared
    from hf_mixup.experiments.tasks.splits import Splits


@register
@dataclass(kw_only=True)
class CausalLM(Written):
    """The answer to a prompt, or whole texts.

    >>> CausalLM(model_type="llama", source_column=None).columns
    {'target': 'target'}
    """

    task: str = "causal-lm"
    source_column: str | None = setting("source", "Column with the prompts; null to learn whole texts.")
    peft_task = "CAUSAL_LM"

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.emoji import emoji_causal

        return {"emoji": emoji_causal}

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.language import prompted

        return prompted(rows, processor, self)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.language import load_causal_model

        return load_causal_model(self, processor)

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.prepared import SCORES_OF_TEXTS
        from hf_mixup.metrics import next_token_scores

        return replace(super().prepared(splits), **SCORES_OF_TEXTS, preprocess_logits=next_token_scores)
