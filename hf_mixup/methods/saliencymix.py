"""SaliencyMix: CutMix whose box lies around what stands out in the partner."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hf_mixup.functional import box_lam, boxes_at
from hf_mixup.functional.saliency import most_salient, smooth_saliency, spectral_residual
from hf_mixup.methods._boxes import BoxMethod
from hf_mixup.methods._segmentation import refuse_other_size
from hf_mixup.methods.base import Blend, BoxDraw, Request, setting
from hf_mixup.methods.capabilities import AsksGuide, MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.models.saliency import input_saliency


@register
class SaliencyMix(Blend, BoxMethod, MixesPixelLabels, AsksGuide):
    """Replace a box of each image by the partner's pixels there, the box lying around the partner's most salient one.

    Sides are sqrt(1 - lam) of the image's, rounded as `box_style` says and clipped to the image. lam is then set to the
    share of pixels that stayed the sample's own, unless `correct_lam=False`; a salient pixel near the edge makes a
    smaller box. Saliency is the spectral residual (Hou and Zhang 2007), batched and on the batch's device: two small
    Fourier transforms a batch, and no wait for the device; or, with `saliency: gradient`, the gradient of the partner's
    own loss, smoothed, which costs a forward and backward pass (of the guide's, if there is one, for the class that it
    finds). The published code takes OpenCV's static fine-grained saliency instead (differences of centre and surround),
    and places one box for the whole batch by the partner of its first sample; here each sample has the box of its own
    partner. A partner of one colour has its box in the top left corner.

    Source: Uddin et al. 2020, "SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better Regularization",
    arXiv 2006.01791, section 3.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup("saliencymix")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.boxes.shape  # one for each row, around the partner's most salient pixel
    torch.Size([4, 4])
    """

    name = "saliencymix"
    title = "SaliencyMix"
    blends = "image inputs `[B, C, H, W]`: a box around the partner's most salient pixel"
    modalities = ("image",)
    paper = "arXiv:2006.01791"
    begin_with = "alpha=1.0:prob=0.5"
    citation = (
        "@inproceedings{uddin2021saliencymix, title={{SaliencyMix}: A Saliency Guided Data Augmentation Strategy for "
        "Better Regularization}, author={Uddin, A. F. M. Shahab and Monira, Mst. Sirazam and Shin, Wheemyung and "
        "Chung, TaeChoong and Bae, Sung-Ho}, booktitle={ICLR}, year={2021}}"
    )

    saliency: Literal["spectral", "gradient"] = setting(
        "spectral", "What stands out by its spectrum, or what moves the loss (one more pass)."
    )

    def draw(self, request: Request) -> BoxDraw:
        draw = super().draw(request)
        key = next(iter(self.cut_axes(request.model, request.batch, request.rows)))
        height, width = request.batch[key].shape[-2:]
        refuse_other_size(request, [height, width], self.name)
        lam = draw.lam
        if bool((lam == 1).all()) and not request.together:  # by the coin of `prob`: nothing to look for
            return draw.more(BoxDraw, boxes=torch.zeros(4, dtype=torch.long))
        found = countable(most_salient(self._saliency(request, key)))
        device = found.device
        partner = draw.partner.to(device, non_blocking=True)
        boxes = boxes_at(found[partner], (height, width), lam, self.box_style)
        ends = [torch.zeros(4, dtype=torch.long), torch.tensor([0, 0, height, width])]  # whatever lies at the edge
        nothing, everything = (each.to(device, non_blocking=True) for each in ends)
        boxes = torch.where((lam < 1).to(device, non_blocking=True)[:, None], boxes, nothing)
        boxes = torch.where((lam == 0).to(device, non_blocking=True)[:, None], everything, boxes)
        rows = None if device.type == "cpu" else (lam < 1).nonzero()[:, 0]
        true = box_lam(boxes, height, width) if self.correct_lam else lam
        return draw.more(BoxDraw, lam=true, boxes=boxes, rows=rows)

    @property
    def asks_guide(self) -> bool:
        return self.saliency == "gradient"

    def _saliency(self, request: Request, key: str) -> Tensor:
        if self.saliency == "spectral":
            return spectral_residual(request.batch[key])
        return smooth_saliency(gradient_saliency(request, key))


def countable(found: Tensor) -> Tensor:
    """Return what a device found, there: it is not waited for, except where it has no float64 to count shares in."""
    return found.cpu() if found.device.type == "mps" else found


def gradient_saliency(request: Request, key: str) -> Tensor:
    """Return how much each pixel moves a sample's own loss, or the score of the guide's class: [B, H, W]."""
    model, inputs = request.looking(key)
    return input_saliency(model, inputs, key, request.labels if request.guide is None else None)
