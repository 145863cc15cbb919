"""Mosaic: parts of four pictures round a centre."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional.mosaic import mosaic, quadrant_shares, quadrants
from hf_mixup.methods.base import Batch, Method, Params, Request
from hf_mixup.sites.inputs import float_keys


class Mosaic(Method):
    """Put parts of four pictures round a random centre; the label of each counts as much as its part covers.

    Top left lies the row's own, bottom right its partner's, in between those of two further rows, drawn at random
    whatever `pairing` says; with fewer than four rows some may be the same. Both sides of the own part are drawn, as
    shares of the picture's, each ~ Beta(alpha, alpha) (the paper takes 0.3); a lam that is given instead sets both to
    its root. Each part is cut out of its picture anywhere with equal chance, and keeps its size. lam is always the
    share of the own part; the others' shares are theirs, so that the targets sum to 1.

    This is RICAP, where it was made for classification, under the name that detectors gave it; there the pictures are
    also made smaller.

    Source: Takahashi, Matsubara and Uehara 2018, "Data Augmentation using Random Image Cropping and Patching for Deep
    CNNs", arXiv 1811.09030, section 3; Bochkovskiy et al. 2020, "YOLOv4", arXiv 2004.10934, section 3.4.
    """

    name = "mosaic"
    title = "Mosaic (RICAP)"
    blends = "image inputs `[B, C, H, W]`: parts of four pictures"
    paper = "arXiv:1811.09030"
    citation = (
        "@inproceedings{takahashi2018ricap, title={{RICAP}: Random Image Cropping and Patching Data Augmentation for "
        "Deep {CNNs}}, author={Takahashi, Ryo and Matsubara, Takashi and Uehara, Kuniaki}, booktitle={ACML}, "
        "year={2018}}"
    )
    own_loss = True  # four labels a row

    def draw(self, request: Request) -> Params:
        params, rows, rng = super().draw(request), request.rows, request.rng
        size = request.batch[self._keys(request.batch, rows)[0]].shape[-2:]
        further = torch.stack([self._pair(request, "random") for _ in range(2)], 1)
        shared = self.shared_with(params.partner)
        if request.lam is not None or self.config.lam is not None:
            sides = params.lam.sqrt()[:, None].expand(-1, 2)
        else:
            across = torch.where(params.lam < 1, self._sample_lam(rows, rng)[shared], 1.0)
            sides = torch.stack([params.lam, across], 1)
        spot = torch.rand(rows, 4, 2, generator=rng, dtype=torch.float64)[shared]
        if bool((sides == sides[0]).all()) and self.config.lam_per == "batch":
            sides, spot = sides[0], spot[0]
        center = (sides.double() * torch.tensor(size)).round().long()
        shares = quadrant_shares(center, *size).expand(rows, 4)
        return replace(
            params,
            lam=shares[:, 0],
            further=further,
            shares=shares[:, 1:3],
            center=center,
            shift=_shift(center, spot, *size),
        )

    def apply(self, model: nn.Module, batch: Batch, params: Params, inplace: bool) -> dict[str, Any]:
        if params.further is None or params.center is None:
            raise ValueError(f"method {params.method!r} was given parameters without further rows and a center")
        others = torch.cat([params.further, params.partner[:, None]], 1)
        mixed = dict(batch)
        for key in self._keys(batch, len(params.partner)):
            new = mosaic(batch[key], others, params.center, params.shift)
            mixed[key] = batch[key].copy_(new) if inplace else new
        return mixed

    def _keys(self, batch: Batch, rows: int) -> list[str]:
        return float_keys(batch, rows, self.name, self.config.keys, dims=4)


def _shift(center: Tensor, spot: Tensor, height: int, width: int) -> Tensor:
    """Return from how much further each part is read, long [..., 4, 2], for spots in [0, 1) of the room it has."""
    boxes = quadrants(center, height, width)
    start, room = boxes[..., :2], torch.tensor([height, width]) - (boxes[..., 2:] - boxes[..., :2])
    return (spot * (room + 1)).long() - start
