"""Changes of images as a model sees them, from 0 to 255: corruptions, noise, out-of-distribution images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from hf_mixup.experiments.tasks.augmentation import pixel_scale

Pixels = NDArray[np.uint8]
ImageChange = Callable[[Pixels, np.random.SeedSequence], Pixels]
"""(image [H, W, 3], seed of its draws) -> another image of that shape."""
CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The 15 of ImageNet-C: noise, blur, weather, digital."""
MORE_CORRUPTIONS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
_SMALLEST = 32  # pixels a side, for the library
_OWN_SEED = ("impulse_noise", "glass_blur")  # they do not draw from numpy's global generator
_BEYOND = 0.05  # of [0, 1]: what resizing may overshoot
_GRID = 4  # pieces a side
_ROOM = 2 * 1024**3  # bytes of cached images


class ImageCache:
    """Images that are made once for several models, as long as there is room (in bytes); others are made each time.

    >>> cache = ImageCache(room=3)
    >>> [int(cache("first", lambda: np.full(3, value, np.uint8))[0]) for value in (1, 2)]
    [1, 1]
    >>> [int(cache("second", lambda: np.full(3, value, np.uint8))[0]) for value in (1, 2)]
    [1, 2]
    """

    def __init__(self, room: int = _ROOM) -> None:
        self.room, self.cached = room, dict[Hashable, Pixels]()

    def __call__(self, key: Hashable, make: Callable[[], Pixels]) -> Pixels:
        """Return the image of a key, cached or made."""
        if key in self.cached:
            return self.cached[key]
        made = make()
        if made.nbytes <= self.room:
            self.room -= made.nbytes
            self.cached[key] = made
        return made


class ChangedImages(Dataset):
    """Rows with images that are changed after the processor: its scale is undone before the change and restored after.

    The draws of a row depend on the entropy and its index alone.

    Args:
        rows: of `pixel_values` [3, H, W], as `tasks.image.ImageRows`.
        entropy: whole numbers, different for every change.
        cache: keeps changed images for the next model that is scored on them.

    Raises:
        ValueError: (at the first use) where undoing the scale does not give images.
    """

    def __init__(
        self, rows: Any, processor: Any, change: ImageChange, entropy: tuple[int, ...], cache: ImageCache | None = None
    ) -> None:
        self.rows, self.change, self.entropy, self.cache = rows, change, entropy, cache
        self.mean, self.std = pixel_scale(processor)
        self.name = type(processor).__name__

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        if self.cache is None:
            made = self._changed(row, index)
        else:
            made = self.cache((self.rows, self.entropy, index), lambda: self._changed(row, index))
        pixels = torch.from_numpy(np.array(made)).permute(2, 0, 1).float() / 255  # a copy: it may be read-only
        return {**row, "pixel_values": (pixels - self.mean) / self.std}

    def _changed(self, row: dict[str, Any], index: int) -> Pixels:
        seen = row["pixel_values"] * self.std + self.mean
        if seen.min() < -_BEYOND or seen.max() > 1 + _BEYOND:
            raise ValueError(
                f"image_mean and image_std of {self.name} do not lead back to images from 0 to 1, but to "
                f"[{seen.min():.2f}, {seen.max():.2f}]: images cannot be changed as they are seen"
            )
        image = (seen.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        return self.change(image, np.random.SeedSequence((*self.entropy, index)))


def corruption(name: str, severity: int) -> ImageChange:
    """Return a corruption of ImageNet-C by the package `imagecorruptions-imaug`, with the paper's severities.

    The severities were made for images of 224 pixels and are harder for small ones. Images below 32 pixels a side are
    enlarged for the corruption and shrunk again.

    Args:
        name: one of `CORRUPTIONS` or `MORE_CORRUPTIONS`.
        severity: 1 to 5.

    Source: Hendrycks and Dietterich 2019, arXiv 1903.12261, section 3 and appendix B.

    >>> changed = corruption("contrast", severity=5)
    >>> grey = np.arange(0, 250, 50, dtype=np.uint8)[:, None, None].repeat(5, axis=1).repeat(3, axis=2)
    >>> made = changed(grey, np.random.SeedSequence(0))
    >>> made.shape, bool(np.ptp(made) < np.ptp(grey))
    ((5, 5, 3), True)
    """

    def changed(image: Pixels, draws: np.random.SeedSequence) -> Pixels:
        from imagecorruptions import corrupt

        seed = int(draws.generate_state(1)[0])
        settings = {"seed": seed} if name in _OWN_SEED else {}
        height, width = image.shape[:2]
        factor = max(1, _SMALLEST / min(height, width))
        larger = _resized(image, (round(factor * width), round(factor * height)))
        with _seeded(seed), contextlib.redirect_stdout(io.StringIO()):  # the library prints what it rounds
            made = corrupt(larger, severity=severity, corruption_name=name, **settings)
        return _resized(made, (width, height))

    return changed


def gaussian_noise(sigma: float) -> ImageChange:
    """Return Gaussian noise, clipped at black and white; `sigma` is in units of [0, 1]."""

    def changed(image: Pixels, draws: np.random.SeedSequence) -> Pixels:
        noise = np.random.default_rng(draws).normal(scale=255 * sigma, size=image.shape)
        return (image + noise).round().clip(0, 255).astype(np.uint8)

    return changed


def shuffled_patches(image: Pixels, draws: np.random.SeedSequence) -> Pixels:
    """Cut the image into four times four pieces and shuffle them: its colours and edges, but no object.

    A rest of less than four pixels at the right and bottom stays as it is.

    >>> image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1).repeat(3, axis=2)
    >>> sorted(shuffled_patches(image, np.random.SeedSequence(0))[..., 0].ravel()) == list(range(64))
    True
    """
    height, width = (side // _GRID for side in image.shape[:2])
    if not height or not width:
        raise ValueError(f"an image of {image.shape[1]} x {image.shape[0]} pixels has no {_GRID} x {_GRID} pieces")
    order = np.random.default_rng(draws).permutation(_GRID**2)
    made = image.copy()
    for target, origin in enumerate(order.tolist()):
        (y, x), (v, u) = divmod(target, _GRID), divmod(origin, _GRID)
        piece = image[v * height : (v + 1) * height, u * width : (u + 1) * width]
        made[y * height : (y + 1) * height, x * width : (x + 1) * width] = piece
    return made


def gaussian_pixels(image: Pixels, draws: np.random.SeedSequence) -> Pixels:
    """Draw each value anew, around grey with a standard deviation of a quarter of the range."""
    return np.random.default_rng(draws).normal(127.5, 63.75, image.shape).round().clip(0, 255).astype(np.uint8)


OUT_OF_DISTRIBUTION: dict[str, ImageChange] = {"shuffled_patches": shuffled_patches, "gaussian_pixels": gaussian_pixels}
"""Images of no class, made from the test images."""


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    if image.shape[1::-1] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator; its state is restored afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
