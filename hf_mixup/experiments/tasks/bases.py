"""What several tasks do alike: those with images, videos or audio clips, those with texts, and those with tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hf_mixup.experiments.tasks.shared import Cached, Classified, Labelled, WithPixels, WithTexts
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(kw_only=True)
class MediaClassification(Cached, Classified):
    """Tasks with one class an image, video or audio clip."""

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.models import classifier

        return classifier(self, label_names, **self.model_settings)


@dataclass(kw_only=True)
class PixelClassification(WithPixels, MediaClassification):
    """Tasks with one class an image or video."""

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.image import load_image_processor

        return load_image_processor(self)


@dataclass(kw_only=True)
class TextModel(WithTexts):
    """Tasks whose model takes nothing but texts."""

    preview_kind = "texts"
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
        """Return rows of `input_ids`, `attention_mask` and `labels` (a class or a number each), not yet padded.

        Raises:
            ValueError: for a text without a token, as an empty one is to some tokenizers.
        """
        column, label_column = self.text_column, self.label_column

        def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
            encoded = processor(batch[column], truncation=True, max_length=self.max_length)
            if [] in encoded["input_ids"]:
                text = batch[column][encoded["input_ids"].index([])]
                raise ValueError(f"text column {column!r} holds {text!r}, which has no token: drop such rows")
            return {**encoded, "labels": batch[label_column]}

        return rows.map(tokens, batched=True, remove_columns=rows.column_names)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.models import classifier, with_adapters
        from hf_mixup.experiments.tasks.text import packaged_minilm

        task = self if self.model or self.model_type else replace(self, model=packaged_minilm())
        vocabulary = {"vocab_size": len(processor), "pad_token_id": processor.pad_token_id}
        return with_adapters(classifier(task, label_names or ["score"], **vocabulary), self)

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

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.models import auto_class, new_config, with_adapters
        from hf_mixup.experiments.tasks.text import special_tokens

        if self.model is not None:
            return with_adapters(auto_class(self).from_pretrained(self.model), self)
        if self.model_type is None:
            raise ValueError(f"{self.task}: no language model is packaged: name a model or a model_type")
        tokens = special_tokens(processor)
        config = new_config(self, vocab_size=len(processor), forced_eos_token_id=tokens["eos_token_id"], **tokens)
        if config.is_encoder_decoder:  # what the decoder reads before its first token; not all have a default
            config.decoder_start_token_id = tokens["bos_token_id"]
        return with_adapters(auto_class(self).from_config(config), self)


@dataclass(kw_only=True)
class Tabular(Labelled):
    """Tasks whose model takes rows of numbers and categories."""

    numerical_columns: list[str] | None = setting(None, "Columns of numbers (default: all that hold numbers).")
    categorical_columns: list[str] | None = setting(None, "Columns of categories (default: all of texts or classes).")
    preview_kind = "tables"
    tables: ClassVar[tuple[str, ...]] = ()
    """Datasets that scikit-learn ships."""

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.tables import load_table

        return {name: partial(load_table, name) for name in self.tables}

    def load_processor(self, train: Dataset) -> Any:
        """Return the checkpoint's processor, or one fitted to the training rows.

        Raises:
            ValueError: for columns that are not there, or that hold neither numbers nor categories.
        """
        from hf_mixup.experiments.tasks.tables import input_columns
        from hf_mixup.tabular import TabularProcessor

        if self.model is not None:
            return TabularProcessor.from_pretrained(self.model)
        columns = input_columns(train, self.numerical_columns, self.categorical_columns, self.label_column)
        target = train[self.label_column][:] if self.label_kind == "number" else None
        return TabularProcessor.fit(train[:], *columns, target)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        """Return rows of `numerical_values` [F], `categorical_values` [K] and `labels`: a class, or a scaled number.

        Numbers to predict are in standard deviations of the training rows, from their mean; so are the errors then, and
        the `label_bandwidth` of C-Mixup. `TabularProcessor.unscaled_target` leads back.
        """

        def values(batch: dict[str, list[Any]]) -> dict[str, Any]:
            labels = batch[self.label_column]
            numbers = self.label_kind == "number"
            return {**processor(batch), "labels": processor.scaled_target(labels) if numbers else labels}

        return rows.map(values, batched=True, remove_columns=rows.column_names)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.models import numbered, refuse_unknown_settings
        from hf_mixup.tabular import TabularConfig, TabularMLP

        labels = numbered(label_names) if label_names else {"num_labels": 1, "problem_type": "regression"}
        if self.model is not None:
            return TabularMLP.from_pretrained(self.model, ignore_mismatched_sizes=True, **labels)
        kind = TabularConfig.model_type
        if self.model_type not in (None, kind):
            raise ValueError(f"model_type={self.model_type!r} takes no tables: leave it out, or {kind}")
        refuse_unknown_settings(f"a {kind}", self.overrides, TabularConfig())
        sizes = {"numerical_size": len(processor.numerical), "categorical_sizes": processor.categorical_sizes}
        return TabularMLP(TabularConfig(**sizes, **labels, **self.overrides))
