"""ResizeMix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional import box_lam
from hf_mixup.functional.resizing import boxes_inside, paste_nearest, paste_resized
from hf_mixup.methods._boxes import check_shares
from hf_mixup.methods._segmentation import is_map, own_pixels, refuse_other_size
from hf_mixup.methods.base import Batch, Blend, BoxDraw, Draw, FloatInputs, Request, setting
from hf_mixup.methods.capabilities import MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.models.inputs import float_keys

SIDES = (0.1, 0.8)
"""Range of the box's sides as shares of the image's, from the paper."""


@register
class ResizeMix(Blend, FloatInputs, MixesPixelLabels):
    """Paste the partner's whole image, made smaller, into a box of each image: no part of an object is cut off.

    The sides of the box are low + (high - low) * u of the image's, with (low, high) = `box_sides`, by default the
    paper's 0.1 and 0.8, and u ~ Beta(beta, alpha): uniform, as in the paper, at the default alpha = 1. If lam is given,
    by `lam` or by the caller, the sides are sqrt(1 - lam). As in the authors' code, the batch has one draw of the sides
    (see `lam_per`), in whole pixels, and each sample has its own position; a pair that shares its lam shares the
    position, too. The box lies around a pixel drawn with equal chance, and is moved inside the image where it would
    cross the edge. lam is the share of pixels outside it; `correct_lam=False` keeps it as it was before the sides were
    rounded to pixels. The image is resized bilinearly with antialiasing, a segmentation mask by the nearest pixel; the
    authors' code takes the nearest pixel for images, too.

    Source: Qin et al. 2020, "ResizeMix: Mixing Data with Preserved Object Information and True Labels", arXiv
    2012.11101; https://github.com/JayQine/ResizeMix.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup("resizemix")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> top, left, bottom, right = mixed.draw.boxes[0].tolist()  # in images of 64 x 64 pixels
    >>> bottom - top, right - left
    (32, 32)
    """

    name = "resizemix"
    title = "ResizeMix"
    blends = "image inputs `[B, C, H, W]`: the partner's whole image in a box"
    modalities = ("image",)
    paper = "arXiv:2012.11101"
    begin_with = "box_sides=[0.1,0.8]"
    citation = (
        "@article{qin2020resizemix, title={ResizeMix: Mixing Data with Preserved Object Information and True Labels}, "
        "author={Qin, Jie and Fang, Jiemin and Zhang, Qian and Liu, Wenyu and Wang, Xingang and Wang, Xinggang}, "
        "journal={arXiv preprint arXiv:2012.11101}, year={2020}}"
    )

    box_sides: list[float] | None = setting(
        None, "Lowest and highest side of the box as shares of the image's (default: 0.1 0.8)."
    )
    correct_lam: bool = setting(True, "Set lam to the true share of the sample's own pixels.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares("box_sides", self.box_sides)

    def unread(self) -> dict[str, str]:
        return {**({"box_sides": "without lam"} if self.lam is not None else {}), **super().unread()}

    def draw(self, request: Request) -> BoxDraw:
        draw = super().draw(request)
        alone = draw.partner == torch.arange(request.rows)  # an image in itself would show its instances twice
        draw = replace(draw, lam=draw.lam.masked_fill(alone, 1.0))
        height, width = request.batch[self._keys(request.batch, request.rows)[0]].shape[-2:]
        refuse_other_size(request, [height, width], self.name)
        spot = torch.rand(request.rows, 2, generator=request.rng, dtype=torch.float64)
        if self.lam_per == "pair":
            # The spot is what samples share, not the box: the coin of `prob` may leave alone the sample they share
            # with.
            spot = spot[self.shared_with(draw.partner)]
        boxes = boxes_inside(spot, height, width, draw.lam)
        return draw.more(BoxDraw, lam=box_lam(boxes, height, width) if self.correct_lam else draw.lam, boxes=boxes)

    def _draw_lam(self, request: Request, partner: Tensor) -> Tensor:
        lam = super()._draw_lam(request, partner)
        if self.lam is not None:
            return lam
        low, high = self.box_sides or SIDES
        side = low + (high - low) * (1 - lam)
        return torch.where(lam < 1, 1 - side.square(), 1.0)

    def apply(self, model: nn.Module, batch: Batch, draw: BoxDraw, inplace: bool) -> dict[str, Any]:
        mixed = dict(batch)
        for key in self._keys(batch, len(draw.partner)):
            mixed[key] = paste_resized(batch[key], draw.partner, draw.boxes, inplace=inplace)
        return mixed

    def other_labels(self, labels: Tensor, draw: Draw) -> Tensor:
        if not is_map(labels) or not isinstance(draw, BoxDraw):
            return super().other_labels(labels, draw)
        return paste_nearest(labels, draw.partner, draw.boxes)

    def label_lam(self, labels: Tensor, draw: Draw) -> Tensor:
        return own_pixels(labels, draw) if is_map(labels) else super().label_lam(labels, draw)

    def _keys(self, batch: Batch, rows: int) -> list[str]:
        return float_keys(batch, rows, self.name, self.keys, dims=4)
