"""Mosaic: parts of four images round a centre, with their labels, boxes or segmentation masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional.mosaic import mosaic, quadrant_shares, quadrants
from hf_mixup.methods._segmentation import is_map, refuse_other_size
from hf_mixup.methods.base import Batch, Blend, Draw, FloatInputs, Request, setting
from hf_mixup.methods.capabilities import MixesBoxes, MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.models.inputs import float_keys
from hf_mixup.models.labels import Further

LEAST_SHARE, LEAST_PIXELS = 0.1, 2
"""What must be left of a box that a part cuts: this share of its area, and this many pixels each way."""


@dataclass(frozen=True, kw_only=True)
class MosaicDraw(Draw):
    """A draw of four parts.

    Args:
        further: samples that are mixed in beside the partner, long [B, 2].
        shares: weight of each of them in the targets, float32 [B, 2], taken from what lam leaves the partner.
        center: pixel (y, x) that the four parts meet at, long [2] or [B, 2].
        shift: how much further their content is read than it is put, long [4, 2] or [B, 4, 2], see
            `functional.mosaic`.
    """

    further: Tensor
    shares: Tensor
    center: Tensor
    shift: Tensor


@register
class Mosaic(Blend, FloatInputs, MixesPixelLabels, MixesBoxes):
    """Put parts of four images round a random centre; the label of each counts as much as its part covers.

    The sample's own part is at the top left, its partner's at the bottom right. The other two parts are of two further
    samples, drawn at random whatever `pairing` says; with fewer than four samples some may be the same, and a sample
    alone stays as it is. The two sides of the own part are drawn, as shares of the image's, from Beta(alpha, alpha)
    (the paper takes 0.3); if lam is given, both are its square root. Each part is cut out anywhere in its image with
    equal chance, and keeps its size. The weight of each label is the share of its part; lam is that of the own part.

    Boxes move with their parts and are cut at the edges. A box of which less than a tenth is left, or less than two
    pixels of a side, is dropped; that takes one wait for the device. Each box has weight 1. Segmentation masks move
    likewise.

    The method was published as RICAP, for classification. Mosaic is its name in object detection, where the images are
    also made smaller.

    Source: Takahashi, Matsubara and Uehara 2018, "Data Augmentation using Random Image Cropping and Patching for Deep
    CNNs", arXiv 1811.09030, section 3; Bochkovskiy et al. 2020, "YOLOv4", arXiv 2004.10934, section 3.4.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup({"method": "mosaic", "alpha": 0.3})(model, batch, lam=0.25) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.center.tolist(), mixed.draw.shares[0].tolist()  # all four parts are alike here
    ([32, 32], [0.25, 0.25])
    """

    name = "mosaic"
    title = "Mosaic (RICAP)"
    blends = "image inputs `[B, C, H, W]`: parts of four images, with their boxes or segmentation masks"
    modalities = ("image",)
    paper = "arXiv:1811.09030"
    begin_with = "alpha=0.3"
    citation = (
        "@inproceedings{takahashi2018ricap, title={{RICAP}: Random Image Cropping and Patching Data Augmentation for "
        "Deep {CNNs}}, author={Takahashi, Ryo and Matsubara, Takashi and Uehara, Kuniaki}, booktitle={ACML}, "
        "year={2018}}"
    )
    own_loss = True  # four labels a sample

    alpha: float = setting(
        1.0, "Sides of the sample's own part ~ Beta(alpha, alpha). 0 switches mixing off.", at_least=0
    )

    def draw(self, request: Request) -> MosaicDraw:
        draw, rows, rng = super().draw(request), request.rows, request.rng
        alone = draw.partner == torch.arange(rows)  # nobody to be put beside
        draw = replace(draw, lam=draw.lam.masked_fill(alone, 1.0))
        size = request.batch[self._keys(request.batch, rows)[0]].shape[-2:]
        refuse_other_size(request, size, self.name)
        further = torch.stack([self._pair(request, "random") for _ in range(2)], 1)
        shared = self.shared_with(draw.partner)
        if request.lam is not None or self.lam is not None:
            sides = draw.lam.sqrt()[:, None].expand(-1, 2)
        else:
            across = torch.where(draw.lam < 1, self._fixed_or_sampled(rows, rng)[shared], 1.0)
            sides = torch.stack([draw.lam, across], 1)
        spot = torch.rand(rows, 4, 2, generator=rng, dtype=torch.float64)[shared]
        if bool((sides == sides[0]).all()) and self.lam_per == "batch":
            sides, spot = sides[0], spot[0]
        center = (sides.double() * torch.tensor(size)).round().long()
        shares = quadrant_shares(center, *size).expand(rows, 4)
        return draw.more(
            MosaicDraw,
            lam=shares[:, 0],
            further=further,
            shares=shares[:, 1:3],
            center=center,
            shift=_shift(center, spot, *size),
        )

    def apply(self, model: nn.Module, batch: Batch, draw: MosaicDraw, inplace: bool) -> dict[str, Any]:
        mixed = dict(batch)
        for key in self._keys(batch, len(draw.partner)):
            new = _put(batch[key], draw)
            mixed[key] = batch[key].copy_(new) if inplace else new
        if isinstance(batch.get("pixel_mask"), Tensor):
            mixed["pixel_mask"] = _put(batch["pixel_mask"], draw)
        return mixed

    def mixed_boxes(
        self, labels: Sequence[Mapping[str, Tensor]], draw: MosaicDraw, height: int, width: int
    ) -> list[dict[str, Tensor]]:
        sources, center, shift = _layout(draw)
        quarters = quadrants(center, height, width).expand(len(sources), 4, 4).tolist()
        shifts, made = shift.expand(len(sources), 4, 2).tolist(), []
        for row, others in enumerate(sources.tolist()):
            parts = [
                moved_boxes(labels[source], quarter, by, height, width)
                for source, quarter, by in zip((row, *others), quarters[row], shifts[row])
            ]
            union = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
            made.append({**union, "weights": torch.ones_like(union["boxes"][:, 0])})
        return made

    def other_labels(self, labels: Tensor, draw: MosaicDraw) -> Tensor:
        return _put(labels, draw) if is_map(labels) else super().other_labels(labels, draw)

    def label_lam(self, labels: Tensor, draw: Draw) -> Tensor:
        """Return 0 for segmentation masks: the sample's own pixels are in the mosaic of the maps, too."""
        return torch.zeros_like(draw.lam) if is_map(labels) else super().label_lam(labels, draw)

    def pixel_parts(self, labels: Tensor, draw: MosaicDraw) -> Tensor:
        places = (torch.arange(size, device=draw.center.device) for size in labels.shape[-2:])
        lower, right = (place >= at for place, at in zip(places, draw.center.reshape(-1, 2, 1).unbind(1)))
        return draw.center.new_tensor([0, 2, 3, 1])[2 * lower[:, :, None].long() + right[:, None].long()]

    def further_labels(self, labels: Tensor, draw: MosaicDraw) -> Further:
        return () if is_map(labels) else super().further_labels(labels, draw)

    def further_rows(self, draw: MosaicDraw) -> tuple[tuple[Tensor, Tensor], ...]:
        return tuple(zip(draw.further.unbind(1), draw.shares.unbind(1)))

    def _keys(self, batch: Batch, rows: int) -> list[str]:
        return float_keys(batch, rows, self.name, self.keys, dims=4)


def _shift(center: Tensor, spot: Tensor, height: int, width: int) -> Tensor:
    """Return from how much further each part is read, long [..., 4, 2], for spots in [0, 1) of the room it has."""
    boxes = quadrants(center, height, width)
    start, room = boxes[..., :2], torch.tensor([height, width]) - (boxes[..., 2:] - boxes[..., :2])
    return (spot * (room + 1)).long() - start


def moved_boxes(
    labels: Mapping[str, Tensor], quarter: Sequence[int], shift: Sequence[int], height: int, width: int
) -> dict[str, Tensor]:
    """Return the boxes of an image whose crop fills a part of another, without those of which too little is left.

    Args:
        labels: `class_labels` [N] and `boxes` [N, 4] (center x, center y, width, height) in shares of the image.
        quarter: (top, left, bottom, right) in pixels.
        shift: how many pixels further (down, right) the crop is read than it is put.

    >>> labels = {"class_labels": torch.tensor([3]), "boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]])}
    >>> moved_boxes(labels, [0, 0, 4, 4], [2, 2], 8, 8)["boxes"]
    tensor([[0.2500, 0.2500, 0.5000, 0.5000]])
    """
    x, y, wide, high = labels["boxes"].unbind(-1)
    top, left, bottom, right = quarter
    sides = []
    for middle, side, by, low, end, unit in (
        (x, wide, shift[1], left, right, width),
        (y, high, shift[0], top, bottom, height),
    ):
        start, stop = ((middle + half * side) * unit - by for half in (-0.5, 0.5))
        sides.append((start.clamp(low, end), stop.clamp(low, end), side * unit, unit))
    lengths = [stop - start for start, stop, _, _ in sides]
    whole = [length >= side - 1e-3 for length, (_, _, side, _) in zip(lengths, sides)]
    left_over = lengths[0] * lengths[1] >= LEAST_SHARE * sides[0][2] * sides[1][2]
    rest = left_over & (lengths[0] >= LEAST_PIXELS) & (lengths[1] >= LEAST_PIXELS)
    kept = rest | (whole[0] & whole[1])
    middles = [(start + stop) / 2 / unit for start, stop, _, unit in sides]
    moved = torch.stack([*middles, lengths[0] / width, lengths[1] / height], -1)
    return {"class_labels": labels["class_labels"][kept], "boxes": moved[kept]}


def _layout(draw: MosaicDraw) -> tuple[Tensor, Tensor, Tensor]:
    """Return the samples of the other three parts [B, 3], the centre, and the shifts."""
    return torch.cat([draw.further, draw.partner[:, None]], 1), draw.center, draw.shift


def _put(x: Tensor, draw: MosaicDraw) -> Tensor:
    return mosaic(x, *_layout(draw))
