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
        boxes = self._draw_boxes(params, height, width, request.rng)
        if cfg.correct_lam or cfg.minmax is not None:
            lam = box_lam(boxes, height, width).expand(request.rows)
        return replace(params, lam=lam, boxes=boxes)

    def _draw_boxes(self, params: Params, height: int, width: int, rng: torch.Generator) -> Tensor:
        """Draw one box [4] where the whole batch shares a lam, so that the same region is swapped everywhere.

        Else one for each row, [B, 4], the same within a pair that shares its lam; empty where lam is 1.
        """
        cfg, lam = self.config, params.lam
        minmax = None if cfg.minmax is None else (cfg.minmax[0], cfg.minmax[1])

        def drawn(share: Tensor) -> Tensor:
            return cut_boxes(height, width, share, generator=rng, minmax=minmax, style=cfg.box)

        if cfg.lam_per != "batch":
            first = self.shared_with(params.partner)
            # The coin of `prob` may have left alone the row whose box its pair shares.
            shared = lam.scatter_reduce(0, first, lam, "amin")
            boxes = drawn(shared)[first]
            return torch.where((lam < 1)[:, None], boxes, 0)
        lowest, highest = torch.aminmax(lam)
        if lowest == highest:
            return drawn(lowest) if lowest < 1 else torch.zeros(4, dtype=torch.long)
        # The coin of `prob` left some rows alone, or the caller dictated a lam for each row.
        one_lam = bool(((lam == lowest) | (lam == 1)).all())
        boxes = drawn(lowest).expand(len(lam), 4) if one_lam else drawn(lam)
        return torch.where((lam < 1)[:, None], boxes, 0)

    def apply(self, model: nn.Module, batch: Batch, params: Params, inplace: bool) -> dict[str, Any]:
        if params.boxes is None:
            raise ValueError(f"method {params.method!r} was given parameters without boxes")
        mixed = dict(batch)
        for key in self._keys(batch, len(params.partner)):
            mixed[key] = cut(batch[key], params.partner, params.boxes, inplace=inplace)
        return mixed

    def _keys(self, batch: Batch, rows: int) -> list[str]:
        return float_keys(batch, rows, self.name, self.config.keys, dims=4)
