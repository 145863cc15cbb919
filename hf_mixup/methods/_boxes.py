"""What methods share that cut a box out of images and paste the partner's content there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from hf_mixup.functional import cut
from hf_mixup.methods._segmentation import is_map, own_pixels
from hf_mixup.methods.base import Batch, BoxDraw, Draw, FloatInputs, setting
from hf_mixup.methods.mixup import united_mask
from hf_mixup.models.axes import PIXELS, own_mask
from hf_mixup.models.inputs import float_keys


@dataclass(kw_only=True)
class BoxMethod(FloatInputs):
    """A method that takes the partner's content inside a box, of images unless a subclass says so."""

    for_pixels = True

    box: Literal["timm", "torchvision"] = setting("timm", "Whose rounding of the box to follow.")
    correct_lam: bool = setting(True, "Set lam to the true share of the sample's own pixels.")

    def apply(self, model: nn.Module, batch: Batch, draw: BoxDraw, inplace: bool) -> dict[str, Any]:
        mixed = {**batch, **united_mask(batch, draw)}
        for key, axes in self.cut_axes(model, batch, len(draw.partner)).items():
            mask = own_mask(batch, batch[key])
            if mask is not None:
                of_mask = [axis - 1 for axis in axes] if mask[0] == PIXELS else axes
                mixed[mask[0]] = cut(mask[1], draw.partner, draw.boxes, axes=of_mask)
            mixed[key] = cut(batch[key], draw.partner, draw.boxes, inplace=inplace, axes=axes)
        return mixed

    def label_lam(self, labels: Tensor, draw: Draw) -> Tensor:
        return own_pixels(labels, draw) if is_map(labels) else super().label_lam(labels, draw)

    def cut_axes(self, model: nn.Module, batch: Batch, rows: int) -> dict[str, tuple[int, ...]]:
        """Return what is cut, and along which axes: the height and width of images.

        Raises:
            ValueError: if there is nothing to cut.
        """
        return dict.fromkeys(float_keys(batch, rows, self.name, self.keys, dims=4), (2, 3))
