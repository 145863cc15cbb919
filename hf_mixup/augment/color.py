"""Colour jitter that leaves the colours alone of which the words speak."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import Sample, Transform
from .keys import uniform
from .pixels import functional
from .words import names_color, names_shade


@dataclass(frozen=True)
class JitterParams:
    """Factors of brightness, contrast and saturation, and a turn of the hue in [-0.5, 0.5]; by default none.

    >>> sample = Sample({"image": torch.full((3, 2, 2), 0.5)})
    >>> ColorJitter().apply(sample, JitterParams(brightness=1.5)).images["image"].unique()
    tensor([0.7500])
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0


@dataclass
class ColorJitter(Transform[JitterParams]):
    """Change brightness, contrast, saturation and hue of all images of a row alike, unless its words name them.

    If a caption, phrase or timed text names a colour, hue and saturation stay; if it says how bright something is
    (dark, white, night), brightness and contrast stay. In doubt they stay: "orange juice" names a colour. Masks never
    change.

    Args:
        brightness, contrast, saturation: factors are drawn uniformly from [max(0, 1 - x), 1 + x).
        hue: drawn uniformly from [-x, x), a share of the colour circle; x in [0, 0.5].

    Raises:
        ValueError: numbers out of range; an image that is neither RGB nor greyscale.

    >>> sample = Sample({"image": torch.rand(3, 4, 4)}, captions={"caption": "a red ball"})
    >>> params = ColorJitter().draw(sample, torch.Generator().manual_seed(0))
    >>> params.hue, params.saturation, params.brightness == 1.0
    (0.0, 1.0, False)
    """

    needs: ClassVar[tuple[str, ...]] = ("image", "video")

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"ColorJitter({name}={value}): must not be negative")
        if self.hue > 0.5:
            raise ValueError(f"ColorJitter(hue={self.hue}): must lie in [0, 0.5]")

    def draw(self, sample: Sample, generator: torch.Generator) -> JitterParams:
        """Draw all four, then hold back those that the words forbid."""
        brightness, contrast, saturation = (
            uniform(max(0.0, 1 - spread), 1 + spread, generator)
            for spread in (self.brightness, self.contrast, self.saturation)
        )
        hue = uniform(-self.hue, self.hue, generator)
        texts = sample.texts()
        if any(map(names_shade, texts)):
            brightness = contrast = 1.0
        if any(map(names_color, texts)):
            saturation, hue = 1.0, 0.0
        return JitterParams(brightness, contrast, saturation, hue)

    def apply(self, sample: Sample, params: JitterParams) -> Sample:
        """Change the images: brightness first, then contrast, saturation, hue."""
        if params == JitterParams() or not sample.all_images():
            return sample
        return sample.map_images(lambda image: _jitter(image, params), masks=False)


def _jitter(image: Any, params: JitterParams) -> Any:
    if isinstance(image, Tensor):
        fits, found = image.shape[-3] in (1, 3), f"a tensor with {image.shape[-3]} channels"
    else:
        fits, found = image.mode in ("L", "RGB"), f"an image of mode {image.mode}"
    if not fits:
        raise ValueError(f'ColorJitter needs RGB or greyscale, found {found}: use image.convert("RGB")')
    for name, value in asdict(params).items():
        if value != getattr(JitterParams, name):
            image = getattr(functional(), f"adjust_{name}")(image, value)
    return image
