"""Images, masks and boxes, by torchvision's v2 functions; torchvision and Pillow are imported on first use."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor

from .base import Sample, flatten

_CHANNELS = (1, 3, 4)


def functional() -> ModuleType:
    """Import `torchvision.transforms.v2.functional`.

    Raises:
        ImportError: torchvision is not installed, saying how to install it.
    """
    try:
        from torchvision.transforms.v2 import functional as module
    except ImportError as error:
        raise ImportError('augmenting images needs torchvision: pip install "hf-mixup[vision]"') from error
    return module


def tv_tensors() -> ModuleType:
    """Import `torchvision.tv_tensors`, as `functional` does."""
    functional()
    from torchvision import tv_tensors as module

    return module


def _is_pil(value: Any) -> bool:
    functional()
    from PIL.Image import Image

    return isinstance(value, Image)


def check_image(value: Any) -> str | None:
    """Say what a value should be instead of what it is, None if it is an image or several in a tensor."""
    if isinstance(value, Tensor):
        if value.ndim < 3:
            return "a tensor [C, H, W]"
        channels_last = value.shape[-1] in _CHANNELS and value.shape[-3] not in _CHANNELS
        return "a tensor [C, H, W] (tensor.movedim(-1, -3) brings the channels forward)" if channels_last else None
    return None if _is_pil(value) else "a PIL image or a tensor [C, H, W] (PIL.Image.fromarray makes one of an array)"


def check_mask(value: Any) -> str | None:
    """Say what a value should be instead of what it is, None if it is a mask or several in a tensor."""
    if isinstance(value, Tensor):
        return None if value.ndim >= 2 else "a tensor [..., H, W]"
    return None if _is_pil(value) else "a PIL image or a tensor [..., H, W] (torch.as_tensor makes one of an array)"


def size(image: Any) -> tuple[int, int]:
    """Return height and width."""
    return (image.shape[-2], image.shape[-1]) if isinstance(image, Tensor) else (image.height, image.width)


def canvas(sample: Sample) -> tuple[int, int]:
    """Return the one size (height, width) of all images and masks of a row.

    Raises:
        ValueError: there is no image, or sizes differ.
    """
    sizes = {size(image) for image in sample.all_images() + flatten(sample.masks)}
    if len(sizes) != 1:
        found = ", ".join(f"{width}x{height}" for height, width in sorted(sizes)) or "no image"
        raise ValueError(
            f"masks, boxes and crops need all images of a row in one size, found {found}: resize them before"
        )
    return sizes.pop()


def flip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Mirror boxes [N, 4] in an image of a size (height, width)."""
    return functional().horizontal_flip(_wrap(boxes, size)).as_subclass(Tensor)


def crop_boxes(boxes: Tensor, size: tuple[int, int], window: tuple[int, int, int, int]) -> Tensor:
    """Move boxes [N, 4] into a window (top, left, height, width) and clip them to it; outside, they become empty."""
    moved = functional().crop(_wrap(boxes, size), *window)
    return functional().clamp_bounding_boxes(moved).as_subclass(Tensor)


def _wrap(boxes: Tensor, size: tuple[int, int]) -> Any:
    return tv_tensors().BoundingBoxes(boxes, format="XYXY", canvas_size=size)


def area(boxes: Tensor) -> Tensor:
    """Return the areas [N] of boxes [N, 4] in float64."""
    sides = boxes[:, 2:].double() - boxes[:, :2].double()
    return sides.clamp(min=0).prod(1)
