"""Settings that several tasks share, each group with what is done by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.utils.values import check_whole, setting

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(kw_only=True)
class Labelled(TaskArguments):
    """Tasks with a label a row."""

    label_column: str = setting("label", "Column with the classes, as names or numbers.")

    @property
    def columns(self) -> dict[str, str]:
        return {"label": self.label_column}


@dataclass(kw_only=True)
class NoisyLabels(Labelled):
    """Tasks whose training labels can be made wrong.

    Args:
        label_noise: share of the training labels that become another class, each of the others alike: of the rows,
            or of the words for token-classification. The same labels are wrong in every run; evaluation is clean.
    """

    label_noise: float = setting(0.0, "Share of the training labels replaced by another class, in [0, 1).")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_noise < 1:
            raise ValueError(f"label_noise={self.label_noise!r}: expected a share in [0, 1)")

    def alter_training_rows(self, rows: Dataset, label_names: list[str]) -> Dataset:
        from hf_mixup.experiments.tasks.labels import with_label_noise

        return with_label_noise(rows, self.label_column, self.label_noise, label_names) if self.label_noise else rows


@dataclass(kw_only=True)
class Classified(NoisyLabels):
    """Tasks with one class a row.

    Args:
        few_shot: rows of each class to train on. They depend on `few_shot_seed` alone, so that every method and every
            seed of the training gets the same; another draw is another data set.
    """

    few_shot: int | None = setting(None, "Train on this many rows of each class, the same for every seed.")
    few_shot_seed: int = setting(0, "Seed of the draw of few_shot.")

    label_kind = "class"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("few_shot", self.few_shot)

    def alter_training_rows(self, rows: Dataset, label_names: list[str]) -> Dataset:
        from hf_mixup.experiments.tasks.labels import few_per_class

        if self.few_shot:
            rows = few_per_class(rows, self.label_column, self.few_shot, self.few_shot_seed, label_names)
        return super().alter_training_rows(rows, label_names)


@dataclass(kw_only=True)
class Cached(TaskArguments):
    """Tasks whose samples are costly to process and are processed once."""

    cache_images: bool = setting(True, "Keep processed images, audio or videos in memory where they take at most 2 GB.")


@dataclass(kw_only=True)
class WithPixels(Cached):
    """Tasks whose model takes images, alone or as the frames of a video."""

    image_size: int | None = setting(None, "Side of the square images (default: that of the checkpoint).")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("image_size", self.image_size)


@dataclass(kw_only=True)
class WithImages(WithPixels):
    """Tasks with one image a row."""

    image_column: str = setting("image", "Column with the images.")
    flip: bool = setting(False, "Flip half of the training images from left to right.")


@dataclass(kw_only=True)
class WithTexts(TaskArguments):
    """Tasks with texts, whose models can be trained through LoRA adapters."""

    max_length: int = setting(128, "Longer texts are cut to this number of tokens.")
    lora_rank: int | None = setting(None, "Train LoRA adapters of this rank instead of all weights.")
    freeze: Literal["embeddings", "image", "text"] | None = setting(None, "Part of the model that keeps its weights.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("max_length", self.max_length)
        check_whole("lora_rank", self.lora_rank)

    def for_checkpoint(self, checkpoint: str, **unset: Any) -> Any:
        return super().for_checkpoint(checkpoint, lora_rank=None, **unset)


@dataclass(kw_only=True)
class TextModel(WithTexts):
    """Tasks whose model takes nothing but texts."""

    freeze: Literal["embeddings"] | None = setting(None, "Keep the weights of the tokens' embeddings.")

    in_words: ClassVar[bool] = False
    """Whether texts are given as lists of words."""

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.text import load_tokenizer

        return load_tokenizer(self)


@dataclass(kw_only=True)
class OneText(TextModel, Labelled):
    """Tasks with one text and one label a row."""

    text_column: str = setting("text", "Column with the texts.")

    @property
    def input_column(self) -> str:
        return self.text_column

    @property
    def columns(self) -> dict[str, str]:
        return {"input": self.text_column, **super().columns}

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

    def drawing(self) -> Any:
        from hf_mixup.experiments.tasks.drawings import draw_texts

        return draw_texts


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
class Tabular(Labelled):
    """Tasks with a row of numbers and categories."""

    numerical_columns: list[str] | None = setting(None, "Columns of numbers (default: all that hold numbers).")
    categorical_columns: list[str] | None = setting(
        None, "Columns of categories (default: all that hold texts or classes)."
    )

    tables: ClassVar[tuple[str, ...]] = ()
    """Data sets that scikit-learn ships."""

    def bundled(self) -> Any:
        from functools import partial

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
