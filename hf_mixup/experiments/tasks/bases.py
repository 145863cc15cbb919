"""What several tasks do alike: those with texts, and those with tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hf_mixup.experiments.tasks.shared import Labelled, WithColumns, WithTexts
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(kw_only=True)
class TextModel(WithTexts):
    """Tasks whose model takes nothing but texts."""

    freeze: Literal["embeddings"] | None = setting(None, "Keep the weights of the tokens' embeddings.")

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.text import load_tokenizer

        return load_tokenizer(self)


@dataclass(kw_only=True)
class OneText(TextModel, Labelled):
    """Tasks with one text and one label a row."""

    text_column: str = setting("text", "Column with the texts.")

    input_setting = "text_column"

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_texts

        return read_texts(rows, split, self.dataset, "text", self.text_column)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.text import tokenized

        return tokenized(rows, processor, self)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.text import load_text_model

        return load_text_model(self, label_names, processor)

    def collator(self, processor: Any) -> Any:
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(processor)


@dataclass(kw_only=True)
class Written(TextModel):
    """Tasks whose model writes a text.

    Both kinds, models that continue a prompt and models that read one text and write another, are scored alike.
    """

    source_column: str | None = setting("source", "Column with the prompts or sources.")
    target_column: str = setting("target", "Column with the texts to write.")

    @property
    def columns(self) -> dict[str, str]:
        source = {"source": self.source_column} if self.source_column else {}
        return {"target": self.target_column, **source}

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_texts

        for name, column in self.columns.items():
            rows = read_texts(rows, split, self.dataset, name, column)
        return rows

    def collator(self, processor: Any) -> Any:
        from transformers import DataCollatorForSeq2Seq

        return DataCollatorForSeq2Seq(processor)  # pads the labels, too


@dataclass(kw_only=True)
class Tabular(WithColumns):
    """Tasks whose model takes rows of numbers and categories."""

    tables: ClassVar[tuple[str, ...]] = ()
    """Data sets that scikit-learn ships."""

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.tables import load_table

        return {name: partial(load_table, name) for name in self.tables}

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.tables import load_tabular_processor

        return load_tabular_processor(self, train)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.tables import tabular_rows

        return tabular_rows(rows, processor, self)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.tables import load_tabular_model

        return load_tabular_model(self, label_names, processor)
