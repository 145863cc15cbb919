"""Attentive CutMix: the cells of the partner that the model attends to most are pasted at the same places."""

from __future__ import annotations

from typing import Literal

from hf_mixup.functional.masks import enlarge_cells, mask_lam, top_cells
from hf_mixup.methods._masks import MaskMethod
from hf_mixup.methods._segmentation import refuse_other_size
from hf_mixup.methods.base import Blend, Draw, MaskDraw, Request, setting
from hf_mixup.methods.capabilities import AsksGuide, MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.methods.saliencymix import countable
from hf_mixup.models.attention import attention_grid


@register
class AttentiveCutMix(Blend, MaskMethod, MixesPixelLabels, AsksGuide):
    """Replace cells of each image by the partner's: those that the model attends to most in the partner.

    The model's grid has g cells, of which round((1 - lam) * g) are replaced; lam is then set to the share of pixels
    that stayed the sample's own. The paper takes the best 6 of 7 x 7, `lam=0.8776`. The grid is that of the patches,
    with the attention of the class token in the last layer, averaged over heads, or rolled out through all layers
    (`attention: rollout`); for convolutional nets it is the last feature map, whose energy stands for the class
    activation map (see `attention_grid`). The paper asks a pretrained model that stays as it is: `guide=`; without one
    it is the model in training itself. That costs one more forward pass for each mixed batch, in evaluation mode and
    without a graph, and no wait for the device.

    Source: Walawalkar et al. 2020, "Attentive CutMix: An Enhanced Data Augmentation Approach for Deep Learning Based
    Image Classification", arXiv 2003.13048, section 2.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup({"method": "attentive", "lam": 0.75})(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.mask.shape, mixed.lam
    (torch.Size([4, 64, 64]), tensor([0.7500, 0.7500, 0.7500, 0.7500]))
    """

    name = "attentive"
    title = "Attentive CutMix"
    blends = "image inputs `[B, C, H, W]`: the cells of the partner that the model attends to most"
    modalities = ("image",)
    paper = "arXiv:2003.13048"
    begin_with = "lam=0.88"  # six of 49 cells are the partner's
    citation = (
        "@inproceedings{walawalkar2020attentive, title={Attentive {CutMix}: An Enhanced Data Augmentation Approach for "
        "Deep Learning Based Image Classification}, author={Walawalkar, Devesh and Shen, Zhiqiang and Liu, Zechun and "
        "Savvides, Marios}, booktitle={ICASSP}, year={2020}}"
    )

    attention: Literal["last", "rollout"] = setting(
        "last", "The attention of the last layer, or rolled out through all of them."
    )

    def draw(self, request: Request) -> Draw:
        draw = super().draw(request)
        key = self._keys(request.batch, request.rows)[0]
        pixels = request.batch[key]
        height, width = pixels.shape[-2:]
        refuse_other_size(request, [height, width], self.name)
        if bool((draw.lam == 1).all()) and not request.together:  # by the coin of `prob`: nothing to look for
            return draw
        model, inputs = request.looking(key)
        scores = countable(attention_grid(model, inputs, pixels, rollout=self.attention == "rollout"))
        count = ((1 - draw.lam.double()) * scores[0].numel()).round().long()
        partner, most = (each.to(scores.device, non_blocking=True) for each in (draw.partner, count))
        taken = top_cells(scores[partner], most)
        mask = ~enlarge_cells(taken, *pixels.shape[-2:])
        rows = None if mask.device.type == "cpu" else (count > 0).nonzero()[:, 0]
        return draw.more(MaskDraw, lam=mask_lam(mask), mask=mask, rows=rows)
