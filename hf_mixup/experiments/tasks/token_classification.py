"""Words -> tags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import TOKENS, register
from hf_mixup.experiments.tasks.bases import OneText
from hf_mixup.experiments.tasks.shared import NoisyLabels
from hf_mixup.utils.constants import IGNORE_INDEX
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared, Splits


@register
@dataclass(kw_only=True)
class TokenClassification(OneText, NoisyLabels):
    """One tag a word, such as the names in a text."""

    task: str = TOKENS
    text_column: str = setting("text", "Column with the lists of words.")
    label_column: str = setting("label", "Column with the lists of tags, one a word.")
    auto_class = "AutoModelForTokenClassification"
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
        """Return rows of `input_ids`, `attention_mask` and `labels` [T], not yet padded.

        The first token of a word has its tag; the others, and special tokens, have -100 and are neither learnt nor
        scored.

        Raises:
            ValueError: for a tokenizer that does not tell to which word a token belongs.
        """
        if not processor.is_fast:
            raise ValueError(
                f"{type(processor).__name__} does not tell to which word a token belongs: token-classification needs "
                "a fast tokenizer"
            )
        lengths = {"truncation": True, "max_length": self.max_length}

        def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
            encoded = processor(batch[self.text_column], is_split_into_words=True, **lengths)
            tags = batch[self.label_column]
            return {**encoded, "labels": [_aligned(encoded.word_ids(row), tags[row]) for row in range(len(tags))]}

        return rows.map(tokens, batched=True, remove_columns=rows.column_names)

    def collator(self, processor: Any) -> Any:
        from transformers import DataCollatorForTokenClassification

        return DataCollatorForTokenClassification(processor)

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.metrics import tag_metrics
        from hf_mixup.metrics.results import TAG_METRICS

        scored = partial(tag_metrics, tags=splits.label_names)
        return replace(super().prepared(splits), compute_metrics=scored, metrics=TAG_METRICS)


def _aligned(words: list[int | None], tags: list[int]) -> list[int]:
    """Return a label a token.

    >>> _aligned([None, 0, 0, 1, None], [7, 3])
    [-100, 7, -100, 3, -100]
    """
    return [
        IGNORE_INDEX if word is None or word == last else tags[word]
        for word, last in zip(words, [None, *words], strict=False)
    ]
