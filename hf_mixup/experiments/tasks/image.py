"""Images: processor, and rows of pixels that are processed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset as Rows
from datasets import Image
from torch import Tensor
from transformers import AutoImageProcessor, ViTImageProcessor

from hf_mixup.data.pair_collator import as_image
from hf_mixup.experiments.tasks.cached import CachedRows
from hf_mixup.experiments.tasks.shared import WithImages, WithPixels


def load_image_processor(task: WithPixels) -> Any:
    """Return the checkpoint's image processor, or a plain one (resize, scale to [-1, 1]) for a new model.

    Raises:
        ValueError: if the task names no model.
        OSError: for a checkpoint that has none.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> load_image_processor(TaskArguments(model_type="resnet", image_size=32)).size["height"]
    32
    """
    size: dict[str, Any] = (
        {} if task.image_size is None else {"size": {"height": task.image_size, "width": task.image_size}}
    )
    if task.model is not None:
        return AutoImageProcessor.from_pretrained(task.model, **size)
    if task.model_type is None:
        raise ValueError("name a checkpoint (model) or the architecture of a new one (model_type)")
    return ViTImageProcessor(**size)


class PixelRows(CachedRows):
    """Processed images, float32 [3, H, W] each: what the samples of every task with images share.

    Args:
        flip: flip each image from left to right with a chance of 1/2, from torch's global generator. A run resumed
            at the end of an epoch flips as it would have; in the middle of one it does not, because data loaders have
            read one batch ahead of the checkpoint.
        augmentation: what else is done to each image, see `tasks.augmentation`.

    Raises:
        ValueError: (at the first use) for an image that cannot be read, naming its row and file.
    """

    def __init__(
        self,
        rows: Rows,
        processor: Any,
        task: WithImages,
        flip: bool = False,
        augmentation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(rows, processor, task)
        self.flip, self.augmentation, self.image_column = flip, augmentation, task.image_column

    def pixels(self, index: int) -> Tensor:
        """Return one image, flipped and augmented if that is wanted."""
        pixels = self._item(index)
        pixels = pixels.flip(-1) if self.flip and torch.rand(()) < 0.5 else pixels
        return pixels if self.augmentation is None else self.augmentation(pixels)

    def _processed(self, start: int, stop: int) -> Tensor:
        try:
            images = self.rows[start:stop][self.image_column]
            if None in images:
                raise OSError("a row has no image")
        except (OSError, SyntaxError):  # Pillow calls a broken PNG a SyntaxError
            self._name_the_broken_row(start, stop)
            raise
        return self.processor(images, return_tensors="pt")["pixel_values"]

    def _name_the_broken_row(self, start: int, stop: int) -> None:
        undecoded = self.rows.cast_column(self.image_column, Image(decode=False))
        for index in range(start, min(stop, len(self))):
            row = dict(undecoded[index])
            image = row.pop(self.image_column) or {}
            columns = {"file": image.get("path"), **row}
            known = {name: value for name, value in columns.items() if isinstance(value, (int, str))}
            as_image(image if any(image.values()) else None, f"image column {self.image_column!r}, the row {known}")


class ImageRows(PixelRows):
    """Samples of `pixel_values` float32 [3, H, W] and integer `labels`.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.data import load_splits
    >>> task = TaskArguments(model_type="resnet", image_size=32, max_train_samples=4)
    >>> rows = ImageRows(load_splits(task).train, load_image_processor(task), task)
    >>> rows[0]["pixel_values"].shape
    torch.Size([3, 32, 32])
    """

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": self.pixels(index), "labels": self.labels[index]}
