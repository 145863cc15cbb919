"""Words -> tags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import TOKENS, register
from hf_mixup.experiments.tasks.bases import OneText
from hf_mixup.experiments.tasks.shared import NoisyLabels
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared
    from hf_mixup.experiments.tasks.splits import Splits


@register
@dataclass(kw_only=True)
class TokenClassification(OneText, NoisyLabels):
    """One tag a word, such as the names in a text.

    >>> TokenClassification(label_column="ner_tags").columns
    {'input': 'text', 'label': 'ner_tags'}
    """

    task: str = TOKENS
    text_column: str = setting("text", "Column with the lists of words.")
    label_column: str = setting("label", "Column with the lists of tags, one a word.")
    label_kind = "tags"
    peft_task = "TOKEN_CLS"
    in_words = True

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.emoji import emoji_tokens

        return {"emoji": emoji_tokens}

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_words

        return read_words(rows, split, self.dataset, self.text_column)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.text import tagged_tokens

        return tagged_tokens(rows, processor, self)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.text import load_token_model

        return load_token_model(self, label_names, processor)

    def collator(self, processor: Any) -> Any:
        from transformers import DataCollatorForTokenClassification

        return DataCollatorForTokenClassification(processor)

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.metrics import tag_metrics
        from hf_mixup.metrics.results import TAG_METRICS

        scored = partial(tag_metrics, tags=splits.label_names)
        return replace(super().prepared(splits), compute_metrics=scored, metrics=TAG_METRICS)
