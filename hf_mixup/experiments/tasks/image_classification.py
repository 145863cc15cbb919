"""Images -> classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import IMAGE, register
from hf_mixup.experiments.tasks.augmentation import check_augmentations
from hf_mixup.experiments.tasks.shared import Classified, WithImages
from hf_mixup.utils.values import setting

if TYPE_CHECKING:
    from datasets import Dataset


@register
@dataclass(kw_only=True)
class ImageClassification(WithImages, Classified):
    """One class an image.

    Args:
        augment: what is done to single training images ahead of mixing, see `tasks.augmentation.AUGMENTATIONS`.

    >>> ImageClassification(model_type="resnet", image_size=32).task
    'image-classification'
    """

    task: str = IMAGE
    augment: list[str] | None = setting(None, "Change training images by randaugment, trivialaugment, erasing, ...")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_augmentations(self.augment or ())

    @property
    def input_column(self) -> str:
        return self.image_column

    @property
    def columns(self) -> dict[str, str]:
        return {"input": self.image_column, **super().columns}

    def bundled(self) -> Any:
        from hf_mixup.data import load_emoji

        return {"emoji": lambda: load_emoji("image")}

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_images

        return read_images(rows, split, self.dataset, self.image_column)

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.image import load_image_processor

        return load_image_processor(self)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.augmentation import Augmentation
        from hf_mixup.experiments.tasks.image import ImageRows

        augmentation = Augmentation(self.augment, processor) if train and self.augment else None
        return ImageRows(rows, processor, self, train and self.flip, augmentation)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.image import load_image_model

        return load_image_model(self, label_names)

    def drawing(self) -> Any:
        from hf_mixup.experiments.tasks.drawings import draw_images

        return draw_images
