"""Images -> classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_mixup.data import load_emoji
from hf_mixup.experiments.tasks.arguments import IMAGE, register
from hf_mixup.experiments.tasks.augmentation import AUGMENTATIONS
from hf_mixup.experiments.tasks.bases import PixelClassification
from hf_mixup.experiments.tasks.shared import WithImages
from hf_mixup.utils.suggest import refuse_unknown
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset


@register
@dataclass(kw_only=True)
class ImageClassification(WithImages, PixelClassification):
    """One class an image.

    Args:
        augment: what is done to single training images ahead of mixing, see `tasks.augmentation.AUGMENTATIONS`.
    """

    task: str = IMAGE
    auto_class = "AutoModelForImageClassification"
    input_setting = "image_column"
    preview_kind = "images"
    augment: list[str] | None = setting(None, "Change training images by crop, trivialaugment, erasing, ...")

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("augment", self.augment or (), AUGMENTATIONS)

    def bundled(self) -> Any:
        return {"emoji": lambda: load_emoji("image")}

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_images

        return read_images(rows, split, self.dataset, self.image_column)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.augmentation import Augmentation
        from hf_mixup.experiments.tasks.image import ImageRows

        augmentation = Augmentation(self.augment, processor) if train and self.augment else None
        return ImageRows(rows, processor, self, train and self.flip, augmentation)
