"""Settings that several tasks share, in groups; a function that reads one group takes its class as type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared, Splits


@dataclass(kw_only=True)
class Labelled(TaskArguments):
    """Tasks with a label a row."""

    label_column: str = setting("label", "Column with the classes, as names or numbers.")

    @property
    def columns(self) -> dict[str, str]:
        own = {"input": self.input_column} if self.input_setting else {}
        return {**own, "label": self.label_column}


@dataclass(kw_only=True)
class Numbered(Labelled):
    """Tasks with a number a row."""

    label_column: str = setting("label", "Column with the numbers.")
    label_kind = "number"

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.prepared import SCORES_OF_NUMBERS

        return replace(super().prepared(splits), **SCORES_OF_NUMBERS)


@dataclass(kw_only=True)
class NoisyLabels(Labelled):
    """Tasks whose training labels can be made wrong.

    Args:
        label_noise: share of the training labels that become another class, each of the others alike: of the rows,
            or of the words for token-classification. The same labels are wrong in every run; evaluation is clean.
    """

    label_noise: float = setting(0.0, "Share of the training labels replaced by another class.", at_least=0, below=1)

    def alter_training_rows(self, rows: Dataset, label_names: list[str]) -> Dataset:
        from hf_mixup.experiments.tasks.labels import with_label_noise

        return with_label_noise(rows, self.label_column, self.label_noise, label_names) if self.label_noise else rows


@dataclass(kw_only=True)
class Classified(NoisyLabels):
    """Tasks with one class a row.

    Args:
        few_shot: rows of each class to train on. They depend on `few_shot_seed` alone, so that every method and every
            seed of the training gets the same; another draw is another dataset.
    """

    few_shot: int | None = setting(None, "Train on this many rows of each class, the same for every seed.", at_least=1)
    few_shot_seed: int = setting(0, "Seed of the draw of few_shot.")

    label_kind = "class"

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

    image_size: int | None = setting(None, "Side of the square images (default: that of the checkpoint).", at_least=1)

    @property
    def model_settings(self) -> dict[str, Any]:
        return {} if self.image_size is None else {"image_size": self.image_size}


@dataclass(kw_only=True)
class WithImages(WithPixels):
    """Tasks with one image a row."""

    image_column: str = setting("image", "Column with the images.")
    flip: bool = setting(False, "Flip half of the training images from left to right.")


@dataclass(kw_only=True)
class WithVideos(WithPixels):
    """Tasks with one video a row."""

    video_column: str = setting("video", "Column with the videos: a list of images a row.")
    frames: int = setting(8, "Images of a video that a model sees, spread evenly.", at_least=1)

    @property
    def model_settings(self) -> dict[str, Any]:
        return {"num_frames": self.frames, **super().model_settings}


@dataclass(kw_only=True)
class WithAudio(Cached):
    """Tasks with one audio clip a row."""

    audio_column: str = setting("audio", "Column with the audio clips.")
    audio_rate: int | None = setting(None, "Samples a second for a new model (default: its extractor's).", at_least=1)
    max_seconds: float = setting(10.0, "Longer audio clips are cut to this.", above=0)

    def for_checkpoint(self, checkpoint: str, **unset: Any) -> Any:
        return super().for_checkpoint(checkpoint, audio_rate=None, **unset)


@dataclass(kw_only=True)
class Transcribed(WithAudio):
    """Tasks with speech a row, of which the model writes a transcript."""

    text_column: str = setting("text", "Column with the transcripts.")
    max_seconds: float = setting(30.0, "Longer recordings are refused.", above=0)
    max_length: int = setting(128, "Longest transcript that an encoder-decoder writes, in tokens.", at_least=1)


@dataclass(kw_only=True)
class WithTexts(TaskArguments):
    """Tasks with texts, whose models can be trained through LoRA adapters."""

    max_length: int = setting(128, "Longer texts are cut to this number of tokens.", at_least=1)
    lora_rank: int | None = setting(None, "Train LoRA adapters of this rank instead of all weights.", at_least=1)
    freeze: Literal["embeddings", "image", "text"] | None = setting(None, "Part of the model that keeps its weights.")

    in_words: ClassVar[bool] = False
    """Whether texts are given as lists of words."""

    def for_checkpoint(self, checkpoint: str, **unset: Any) -> Any:
        return super().for_checkpoint(checkpoint, lora_rank=None, **unset)


@dataclass(kw_only=True)
class WithCaptions(WithImages, WithTexts):
    """Tasks with an image and one or several captions a row."""

    caption_column: str = setting("caption", "Column with the captions, a text or a list of texts a row.")
    id_column: str | None = setting(None, "Column that is equal where rows fit each other (default: the caption).")
    class_column: str | None = setting(None, "Column with class names, to score zero-shot classification.")
    freeze: Literal["image", "text"] | None = setting(None, "Keep the weights of this encoder (LiT: image).")

    @property
    def columns(self) -> dict[str, str]:
        named = {"image": self.image_column, "caption": self.caption_column}
        optional = {"id": self.id_column, "class": self.class_column}
        return named | {name: column for name, column in optional.items() if column}


@dataclass(kw_only=True)
class Fused(WithImages, WithTexts):
    """Tasks with an image and a text a row, both of which the model reads."""

    text_column: str = setting("text", "Column with the texts.")
    freeze: Literal["embeddings"] | None = setting(None, "Keep the weights of the tokens' embeddings.")
    modality_dropout: float = setting(
        0.0, "Share of the training samples that lose their image or their text.", at_least=0, at_most=1
    )
    leave_out: Literal["image", "text"] | None = setting(
        None, "Leave out the images or the texts of all samples, those of the training, too."
    )


@dataclass(kw_only=True)
class Captioned(WithImages, WithTexts):
    """Tasks with an image a row, of which the model writes a caption."""

    caption_column: str = setting("caption", "Column with the captions to write.")
    prompt: str = setting("", "What a language model is asked, between the image and the caption.")
    vocabulary_size: int | None = setting(
        None, "Tokens of a vocabulary learnt from the training captions (default: MiniLM's 30,522).", at_least=100
    )
    freeze: Literal["embeddings"] | None = setting(None, "Keep the weights of the tokens' embeddings.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model and self.vocabulary_size:
            raise ValueError(f"vocabulary_size is for a new model: {self.model} has a vocabulary of its own")

    def for_checkpoint(self, checkpoint: str, **unset: Any) -> Any:
        return super().for_checkpoint(checkpoint, vocabulary_size=None, **unset)
