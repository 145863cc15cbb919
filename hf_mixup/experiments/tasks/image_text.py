"""Images and captions, for dual encoders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from hf_mixup.experiments.tasks.arguments import PAIRS, register
from hf_mixup.experiments.tasks.shared import WithImages, WithTexts
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_mixup.experiments.tasks.prepared import Prepared
    from hf_mixup.experiments.tasks.splits import Splits


@register
@dataclass(kw_only=True)
class ImageText(WithImages, WithTexts):
    """An image and a caption a row, both embedded so that pairs that belong together are near.

    Args:
        caption_column: holds a caption a row, or a list of them: training picks one each time, evaluation the first.
        id_column: rows with the same value are relevant to each other.
        class_column, class_templates: name the classes and sentences of zero-shot classification, which is then
            scored on every split.
        caption_noise, image_blank: corrupt the training rows; `eval_caption_noise` and `eval_image_blank` add a
            corrupted copy of each test split, `<split>_noisy` and `<split>_blank`. The same rows are corrupted in
            every run.

    >>> ImageText(model_type="clip", image_size=32, id_column="emoji").columns
    {'image': 'image', 'caption': 'caption', 'id': 'emoji'}
    """

    task: str = PAIRS
    caption_column: str = setting("caption", "Column with the captions, a text or a list of texts a row.")
    id_column: str | None = setting(
        None, "Column that is equal where image and caption of two rows fit (default: the caption)."
    )
    class_column: str | None = setting(None, "Column with class names, to score zero-shot classification.")
    class_templates: list[str] | None = setting(
        None, "Captions to make of class names, e.g. 'a photo of a {}' (default: the names)."
    )
    caption_noise: float = setting(0.0, "Share of training rows whose captions are exchanged.")
    image_blank: float = setting(0.0, "Share of training rows whose images are blanked.")
    eval_caption_noise: float = setting(0.0, "Also test with this share of the captions exchanged.")
    eval_image_blank: float = setting(0.0, "Also test with this share of the images blanked.")
    freeze: Literal["image", "text"] | None = setting(None, "Keep the weights of this encoder (LiT: image).")

    preview_rows = 6  # one batch, whose targets are a matrix

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("caption_noise", "image_blank", "eval_caption_noise", "eval_image_blank"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a share in [0, 1]")
        for template in self.class_templates or ():
            if template.count("{}") != 1:
                raise ValueError(f"class_templates has {template!r}: expected one {{}} where the class name goes")

    @property
    def columns(self) -> dict[str, str]:
        named = {"image": self.image_column, "caption": self.caption_column}
        optional = {"id": self.id_column, "class": self.class_column}
        return named | {name: column for name, column in optional.items() if column}

    def bundled(self) -> Any:
        from hf_mixup.data import load_emoji

        return {"emoji": lambda: load_emoji("image-text")}

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import check_captions, read_images

        check_captions(rows, split, self.dataset, self.caption_column)
        return read_images(rows, split, self.dataset, self.image_column)

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.pairs import load_pair_processor

        return load_pair_processor(self)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.pairs import PairRows

        return PairRows(rows, processor, self, train=train)

    def collator(self, processor: Any) -> Any:
        from hf_mixup.experiments.tasks.pairs import pair_collator

        return pair_collator(self, processor)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.pairs import load_pair_model

        return load_pair_model(self, processor)

    def prepared(self, splits: Splits) -> Prepared:
        from hf_mixup.experiments.tasks.pairs import prepared_pairs

        return prepared_pairs(self, super().prepared(splits))

    def drawing(self) -> Any:
        from hf_mixup.experiments.tasks.drawings import draw_pairs

        return draw_pairs

    def with_noise(self, share: float) -> ImageText:
        return replace(self, caption_noise=share)
