"""Images -> captions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_mixup.data import load_emoji
from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.shared import Captioned

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared, Splits


@register
@dataclass(kw_only=True)
class ImageToText(Captioned):
    """A caption an image, by an encoder-decoder (vision-encoder-decoder), or a language model that sees (llava).

    Args:
        config_overrides: those of the halves of a new model under `encoder` and `decoder`, or `vision_config` and
            `text_config`.
    """

    task: str = "image-to-text"
    preview_kind = "streams"

    def __post_init__(self) -> None:
        if self.model is None and self.model_type is None:
            self.model_type = "vision-encoder-decoder"
        super().__post_init__()

    @property
    def columns(self) -> dict[str, str]:
        return {"image": self.image_column, "caption": self.caption_column}

    def bundled(self) -> Any:
        return {"emoji": lambda: load_emoji("image-text")}

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_images, read_texts

        rows = read_texts(rows, split, self.dataset, "caption", self.caption_column)
        return read_images(rows, split, self.dataset, self.image_column)

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.captioning import load_caption_processor

        return load_caption_processor(self, train[self.caption_column][:])

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.captioning import CaptionRows

        return CaptionRows(rows, processor, self, train)

    def collator(self, processor: Any) -> Any:
        from hf_mixup.experiments.tasks.captioning import caption_collator

        return caption_collator(processor.tokenizer)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.captioning import load_caption_model

        return load_caption_model(self, processor)

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.prepared import SCORES_OF_TEXTS
        from hf_mixup.metrics import next_token_scores, token_scores

        made = super().prepared(splits)
        kept = next_token_scores if made.train.prompt else token_scores
        return replace(made, **SCORES_OF_TEXTS, preprocess_logits=kept)
