"""What is done to single training images ahead of mixing, by torchvision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hf_mixup.utils.suggest import refuse_unknown

if TYPE_CHECKING:
    from torch import Tensor

AUGMENTATIONS = ("crop", "randaugment", "trivialaugment", "autoaugment", "augmix", "erasing")


class Augmentation:
    """Random changes of one processed image, with torchvision's defaults, from torch's global generator.

    Colours are changed as they are seen, from 0 to 1: the processor's scale is undone before and put back after.
    Erasing comes last and fills with the mean colour, a zero behind normalisation.

    Args:
        names: of `AUGMENTATIONS`, done in their order there. "crop" moves the image by up to an eighth of its sides (He
            et al. 2016, arXiv 1512.03385, section 4.2), "randaugment" is Cubuk et al. 2019, arXiv 1909.13719,
            "trivialaugment" Müller and Hutter 2021, arXiv 2103.10158, "autoaugment" Cubuk et al. 2018, arXiv
            1805.09501, "augmix" Hendrycks et al. 2019, arXiv 1912.02781, "erasing" Zhong et al. 2017, arXiv 1708.04896
            (a quarter of the images).
        processor: the checkpoint's image processor; its `image_mean` and `image_std` tell the scale.

    >>> import torch
    >>> from transformers import ViTImageProcessor
    >>> augmentation = Augmentation(["trivialaugment"], ViTImageProcessor())
    >>> augmentation(torch.zeros(3, 8, 8)).shape
    torch.Size([3, 8, 8])
    """

    def __init__(self, names: Sequence[str], processor: Any) -> None:
        from torchvision.transforms import v2

        refuse_unknown("augment", names, AUGMENTATIONS)
        made: dict[str, Callable[[], Any]] = {
            "crop": lambda: shifted,
            "randaugment": v2.RandAugment,
            "trivialaugment": v2.TrivialAugmentWide,
            "autoaugment": v2.AutoAugment,
            "augmix": v2.AugMix,
            "erasing": partial(v2.RandomErasing, p=0.25),
        }
        chosen = {name: made[name]() for name in AUGMENTATIONS if name in names}
        self._erase = chosen.pop("erasing", None)
        self._change = list(chosen.values())
        self._mean, self._std = pixel_scale(processor)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return another image [3, H, W] in the processor's scale."""
        if self._change:
            seen = (pixels * self._std + self._mean).clamp(0, 1)
            for change in self._change:
                seen = change(seen)
            pixels = (seen - self._mean) / self._std
        return pixels if self._erase is None else self._erase(pixels)


def shifted(pixels: Tensor) -> Tensor:
    """Return an image [3, H, W] that was moved by up to an eighth of its sides; its edge fills what is left open.

    The same as torchvision's `RandomCrop` with padding, in a quarter of its time.

    >>> import torch
    >>> shifted(torch.ones(3, 16, 8)).unique(), shifted(torch.ones(3, 16, 8)).shape
    (tensor([1.]), torch.Size([3, 16, 8]))
    """
    import torch

    height, width = pixels.shape[-2:]
    most = (height // 8, width // 8)
    padded = torch.nn.functional.pad(pixels[None], (most[1], most[1], most[0], most[0]), mode="replicate")[0]
    top, left = (int(torch.randint(0, 2 * each + 1, size=())) for each in most)
    return padded[:, top : top + height, left : left + width]


def pixel_scale(processor: Any) -> tuple[Tensor, Tensor]:
    """Return mean and deviation [3, 1, 1] that lead from processed pixels back to images from 0 to 1.

    >>> from transformers import ViTImageProcessor
    >>> [values.flatten().tolist() for values in pixel_scale(ViTImageProcessor())]
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """
    import torch

    normalises = getattr(processor, "do_normalize", True)
    mean, std = (
        torch.tensor((getattr(processor, name, None) if normalises else None) or [default] * 3)[:, None, None]
        for name, default in (("image_mean", 0.0), ("image_std", 1.0))
    )
    return mean, std
