"""Mosaic: four pictures round a point, with their boxes or label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional.mosaic import mosaic, quadrant_shares, quadrants
from hf_mixup.methods.base import Batch, Method, Params, Request
from hf_mixup.methods.maps import is_map, refuse_other_size
from hf_mixup.sites.inputs import float_keys

LEAST_SHARE, LEAST_PIXELS = 0.1, 2
"""What must be left of a box that a quadrant cuts: this share of its area, and this many pixels each way."""


class Mosaic(Method):
    """Put a crop of each picture top left of a point, and crops of three others right of it, below it and beyond it.

    The point lies at a share of the height and one of the width, drawn from Beta(alpha, alpha) each (a lam that is
    given sets both to its square root); lam is the share of the picture that is the row's own. Crops are as large as
    their quadrants and lie anywhere in their pictures with equal chance. Boxes move with their crops and are cut at
    their edges; of what is cut, less than a tenth of a box, or less than two pixels of a side, is dropped, in one wait
    for the device. Each has weight 1. The labels of pixels move likewise. One label a row is not mixed: it would take
    four targets.

    Source: Bochkovskiy et al. 2020, "YOLOv4: Optimal Speed and Accuracy of Object Detection", arXiv 2004.10934,
    section 3.4; the drawing of point and crops is that of Takahashi et al. 2018, "Data Augmentation using Random Image
    Cropping and Patching for Deep CNNs", arXiv 1811.09030, section 3 (there alpha = 0.3).
    """

    name = "mosaic"
    title = "Mosaic"
    blends = "image inputs `[B, C, H, W]`: crops of four, with their boxes or label maps"
    paper = "arXiv:2004.10934"
    citation = (
        "@article{bochkovskiy2020yolov4, title={{YOLOv4}: Optimal Speed and Accuracy of Object Detection}, "
        "author={Bochkovskiy, Alexey and Wang, Chien-Yao and Liao, Hong-Yuan Mark}, journal={arXiv:2004.10934}, "
        "year={2020}}"
    )
    for_boxes = True
    for_pixels = True
    own_loss = True  # the labels are of four rows

    def draw(self, request: Request) -> Params:
        if not request.boxes and not is_map(request.labels):
            raise ValueError(
                "method 'mosaic' mixes boxes and labels of pixels: a row with one label would have four; use 'cutmix' "
                "or 'resizemix'"
            )
        height, width = request.batch[self._keys(request.batch, request.rows)[0]].shape[-2:]
        if not request.boxes:
            refuse_other_size(request, [height, width], self.name)
        params, rng = super().draw(request), request.rng
        alone = params.partner == torch.arange(request.rows)
        params = replace(params, lam=params.lam.masked_fill(alone, 1.0))
        if request.lam is not None or self.config.lam is not None:
            down = across = params.lam.double().sqrt()
        else:
            down, across = params.lam.double(), self._sample_lam(request.rows, rng).double()
            across = across[self.shared_with(params.partner)]
        center = torch.stack([(down * height).round(), (across * width).round()], -1).long()
        center = torch.where((params.lam < 1)[:, None], center, torch.tensor([height, width]))
        boxes = quadrants(center, height, width)
        room = torch.tensor([height, width]) - (boxes[..., 2:] - boxes[..., :2])
        spot = torch.rand(request.rows, 4, 2, generator=rng, dtype=torch.float64)[self.shared_with(params.partner)]
        start = (spot * (room + 1)).long()  # where each crop begins in its picture
        others = [self._draw_partner(request) for _ in range(2)]
        partners = torch.stack([params.partner, *others], -1)
        lam = quadrant_shares(center, height, width)[:, 0]
        return replace(params, lam=lam, partners=partners, center=center, shift=start - boxes[..., :2])

    def apply(self, model: nn.Module, batch: Batch, params: Params, inplace: bool) -> dict[str, Any]:
        mixed = dict(batch)
        for key in [*self._keys(batch, len(params.partner)), "pixel_mask"]:
            if isinstance(batch.get(key), Tensor):
                mixed[key] = _put(batch[key], params)
        return mixed

    def mixed_boxes(
        self, labels: Sequence[Mapping[str, Tensor]], params: Params, height: int, width: int
    ) -> list[dict[str, Tensor]]:
        if params.partners is None or params.center is None or params.shift is None:
            raise ValueError(f"method {params.method!r} was given parameters without a centre")
        quarters, shifts = quadrants(params.center, height, width).tolist(), params.shift.tolist()
        made = []
        for row, others in enumerate(params.partners.tolist()):
            parts = [
                moved_boxes(labels[source], quarter, shift, height, width)
                for source, quarter, shift in zip((row, *others), quarters[row], shifts[row])
            ]
            union = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
            made.append({**union, "weights": torch.ones_like(union["boxes"][:, 0])})
        return made

    def other_labels(self, labels: Tensor, params: Params) -> Tensor:
        return _put(labels, params) if is_map(labels) else super().other_labels(labels, params)

    def label_lam(self, labels: Tensor, params: Params) -> Tensor:
        """Return 0: the row's own pixels are in the mosaic of the maps, too."""
        return torch.zeros_like(params.lam) if is_map(labels) else super().label_lam(labels, params)

    def _keys(self, batch: Batch, rows: int) -> list[str]:
        return float_keys(batch, rows, self.name, self.config.keys, dims=4)


def moved_boxes(
    labels: Mapping[str, Tensor], quarter: Sequence[int], shift: Sequence[int], height: int, width: int
) -> dict[str, Tensor]:
    """Return the boxes of a picture whose crop fills a quadrant of another, without those of which too little is left.

    Args:
        labels: `class_labels` [N] and `boxes` [N, 4] (center x, center y, width, height) in shares of the picture.
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


def _put(x: Tensor, params: Params) -> Tensor:
    if params.partners is None or params.center is None:
        raise ValueError(f"method {params.method!r} was given parameters without a centre")
    return mosaic(x, params.partners, params.center, params.shift)
