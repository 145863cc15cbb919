"""CutMix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional import box_lam, cut, cut_boxes
from hf_mixup.methods.base import Batch, Method, Params, Request
from hf_mixup.sites.inputs import float_keys


class CutMix(Method):
    """Replace a box of each picture by the partner's pixels.

    lam is then set to the share of pixels that stayed the row's own, unless `correct_lam=False`. `minmax` draws the
    sides of the box directly, and lam always follows the box, as in timm.

    Source: Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers", arXiv 1905.04899, eq. 1-2.
    """

    name = "cutmix"
    title = "CutMix"
    blends = "image inputs `[B, C, H, W]`, cut and pasted"
    paper = "arXiv:1905.04899"
    citation = (
        "@inproceedings{yun2019cutmix, title={CutMix: Regularization Strategy to Train Strong Classifiers with "
        "Localizable Features}, author={Yun, Sangdoo and Han, Dongyoon and Oh, Seong Joon and Chun, Sanghyuk and Choe, "
        "Junsuk and Yoo, Youngjoon}, booktitle={ICCV}, year={2019}}"
    )

    def draw(self, request: Request) -> Params:
        params, cfg = super().draw(request), self.config
        lam = params.lam
        height, width = request.batch[self._keys(request.batch, request.rows)[0]].shape[-2:]
        minmax = None if cfg.minmax is None else (cfg.minmax[0], cfg.minmax[1])
        boxes = cut_boxes(height, width, lam, generator=request.rng, minmax=minmax, style=cfg.box)
        boxes = torch.where((lam < 1)[:, None], boxes[self._boxes_shared_with(params)], 0)
        if bool((boxes == boxes[0]).all()):
            boxes = boxes[0]  # one box for all is cut in one go
        if cfg.correct_lam or minmax is not None:
            lam = box_lam(boxes, height, width).expand(request.rows)
        return replace(params, lam=lam, boxes=boxes)

    def _boxes_shared_with(self, params: Params) -> Tensor:
        """Rows that share a lam share its box, so that a batch-wide draw swaps the same region in every picture."""
        if self.config.lam_per != "batch":
            return self.shared_with(params.partner)
        mixed = params.lam[params.lam < 1]
        if len(mixed) and bool((mixed == mixed[0]).all()):
            return torch.full_like(params.partner, int(params.lam.argmin()))
        return torch.arange(len(params.lam))  # the caller dictated a lam for each row

    def apply(self, model: nn.Module, batch: Batch, params: Params, inplace: bool) -> dict[str, Any]:
        if params.boxes is None:
            raise ValueError(f"method {params.method!r} was given parameters without boxes")
        mixed = dict(batch)
        for key in self._keys(batch, len(params.partner)):
            mixed[key] = cut(batch[key], params.partner, params.boxes, inplace=inplace)
        return mixed

    def _keys(self, batch: Batch, rows: int) -> list[str]:
        return float_keys(batch, rows, self.name, self.config.keys, dims=4)
