"""Sources -> targets, by a model that reads one text and writes another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.bases import Written

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared
    from hf_mixup.experiments.tasks.splits import Splits


@register
@dataclass(kw_only=True)
class Seq2Seq(Written):
    """A translation, summary or other text for each source.

    >>> Seq2Seq(model_type="t5").columns
    {'target': 'target', 'source': 'source'}
    """

    task: str = "seq2seq"
    peft_task = "SEQ_2_SEQ_LM"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source_column is None:
            raise ValueError("source_column=None: seq2seq reads one text and writes another; name the column it reads")

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.emoji import emoji_seq2seq

        return {"emoji": emoji_seq2seq}

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.language import translated

        return translated(rows, processor, self)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.language import load_seq2seq_model

        return load_seq2seq_model(self, processor)

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.prepared import SCORES_OF_TEXTS
        from hf_mixup.metrics import token_scores

        made = super().prepared(splits)
        collator: Any = made.collator

        def build_model() -> Any:
            collator.model = made.build_model()  # it knows how the decoder's inputs follow from the labels
            return collator.model

        return replace(made, **SCORES_OF_TEXTS, preprocess_logits=token_scores, build_model=build_model)
