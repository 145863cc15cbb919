"""Sources -> targets, by a model that reads one text and writes another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.bases import Written

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared, Splits


@register
@dataclass(kw_only=True)
class Seq2Seq(Written):
    """A translation, summary or other text for each source."""

    task: str = "seq2seq"
    hub_task = "text2text-generation"
    auto_class = "AutoModelForSeq2SeqLM"
    peft_task = "SEQ_2_SEQ_LM"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source_column is None:
            raise ValueError("source_column=None: seq2seq reads one text and writes another; name the column it reads")

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.emoji import emoji_seq2seq

        return {"emoji": emoji_seq2seq}

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        """Return rows of `input_ids`, `attention_mask` (of the source) and `labels` (the target), not yet padded."""
        lengths: dict[str, Any] = {"truncation": True, "max_length": self.max_length}
        shorter = {**lengths, "max_length": self.max_length - 1}

        def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
            encoded = processor(batch[self.columns["source"]], **lengths)
            if self.model is not None:
                labels = processor(text_target=batch[self.target_column], **lengths)["input_ids"]
            else:  # a borrowed tokenizer would put its [CLS] first, which a new model's decoder is given anyway
                plain = processor(batch[self.target_column], add_special_tokens=False, **shorter)["input_ids"]
                labels = [[*ids, processor.sep_token_id] for ids in plain]
            return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": labels}

        return rows.map(tokens, batched=True, remove_columns=rows.column_names)

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.prepared import SCORES_OF_TEXTS
        from hf_mixup.metrics import token_scores

        made = super().prepared(splits)
        collator: Any = made.collator

        def build_model() -> Any:
            collator.model = made.build_model()  # it knows how the decoder's inputs follow from the labels
            return collator.model

        return replace(made, **SCORES_OF_TEXTS, preprocess_logits=token_scores, build_model=build_model)
