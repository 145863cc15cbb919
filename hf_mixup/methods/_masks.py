"""What methods share that mix images, or spectrograms, by a mask of places."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional.masks import mask_lam, paste, seen_lam
from hf_mixup.methods._segmentation import is_map, own_pixels, refuse_other_size
from hf_mixup.methods.base import AnyDraw, Batch, Blend, Draw, FloatInputs, MaskDraw, Request, setting
from hf_mixup.models.inputs import float_keys
from hf_mixup.models.masks import united_mask


@dataclass(kw_only=True)
class MaskMethod(FloatInputs):
    """A method that takes the partner's content outside a mask that it draws, of images unless a subclass says so."""

    def apply(self, model: nn.Module, batch: Batch, draw: MaskDraw, inplace: bool) -> dict[str, Any]:
        mixed = {**batch, **united_mask(batch, draw.partner, draw.lam)}
        for key in self._keys(batch, len(draw.partner)):
            mixed[key] = paste(batch[key], draw.partner, draw.mask, inplace=inplace)
        return mixed

    def label_lam(self, labels: Tensor, draw: Draw) -> Tensor:
        return own_pixels(labels, draw) if is_map(labels) else super().label_lam(labels, draw)

    def _keys(self, batch: Batch, rows: int) -> list[str]:
        return float_keys(batch, rows, self.name, self.keys, dims=4)


@dataclass(kw_only=True)
class RandomMask(Blend, MaskMethod):
    """A method whose mask comes from noise.

    A subclass draws fields of noise (`draw_fields`), and says which mask follows from a field and a share to keep
    (`masks_of`). Samples that share a lam share the field; the share is each sample's own, for the coin of `prob` may
    leave some of them alone. lam is then set to the share of pixels that stayed the sample's own, unless
    `correct_lam=False`.
    """

    correct_lam: bool = setting(True, "Set lam to the true share of the sample's own pixels.")

    def draw_fields(self, count: int, height: int, width: int, request: Request) -> Tensor:
        """Draw noise for `count` masks, [count, ...]."""
        raise NotImplementedError

    def masks_of(self, fields: Tensor, share: Tensor, height: int, width: int, request: Request) -> Tensor:
        """Return which pixels stay the sample's own, bool [b, H, W], for fields [1 or b, ...] and shares [1 or b]."""
        raise NotImplementedError

    def draw(self, request: Request) -> MaskDraw:
        draw = super().draw(request)
        lam = draw.lam
        height, width = request.batch[self._keys(request.batch, request.rows)[0]].shape[-2:]
        refuse_other_size(request, [height, width], self.name)
        if self.lam_per == "batch":
            fields = self.draw_fields(1, height, width, request)
            lam = lam[:1] if bool((lam == lam[0]).all()) else lam
        else:
            fields = self.draw_fields(request.rows, height, width, request)[self.shared_with(draw.partner)]
        mask = self.masks_of(fields, lam, height, width, request)
        true = mask_lam(mask).expand(request.rows)
        return draw.more(MaskDraw, lam=true if self.correct_lam else draw.lam, mask=mask)


def by_content(draw: AnyDraw, kept: Tensor, seen: Tensor, correct: bool) -> tuple[AnyDraw, Tensor]:
    """Return the parameters with the shares of what is seen as lam, and which samples would show nothing.

    Args:
        kept: where a sample stays its own, bool [1 or B, ...].
        seen: where samples have content, bool [B, ...].
        correct: whether lam follows; else only samples that would show nothing get lam = 1.
    """
    lam = seen_lam(kept.to(seen.device), seen, draw.partner.to(seen.device)).cpu()
    nothing = lam.isnan()
    return replace(draw, lam=torch.where(nothing, 1.0, lam if correct else draw.lam)), nothing
