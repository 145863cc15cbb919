"""RegMixup: the mixed batch beside the clean one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.methods.base import Batch, Blend, Draw, FloatInputs, Request, Term, setting
from hf_mixup.methods.capabilities import MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.models.batches import concat_batches, select_samples
from hf_mixup.models.streams import blend_inputs


@register
class RegMixup(Blend, FloatInputs, MixesPixelLabels):
    """Add to the loss of the clean batch `loss_weight` times that of its mixed copy, both seen in one forward pass.

    The model runs over [B + R] samples: the clean ones, then the mixed copies of those R that the coin of `prob` chose
    (all, by default); a sample left alone has the plain loss only. Batch normalisation therefore takes its statistics
    from clean and mixed samples together, as in the paper's code. The logits returned are those of all B + R samples;
    the accuracy is that on the mixed ones. Both losses are divided by the B labels, as the paper writes it; its code
    takes the mean over 2 B samples, half of that.

    Raises:
        ValueError: for a batch with tokens.

    Source: Pinto et al. 2022, "RegMixup: Mixup as a Regularizer Can Surprisingly Improve Accuracy and Out Distribution
    Robustness", arXiv 2206.14502 (there alpha = 10 or 20, so that lam is near 1/2, and eta = 1).

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup({"method": "regmixup", "alpha": 10.0, "loss_weight": 1.0})(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.inputs["pixel_values"].shape  # four clean rows, then four mixed ones
    torch.Size([8, 3, 64, 64])
    """

    name = "regmixup"
    title = "RegMixup"
    blends = "any float input, as a second loss beside the clean batch's"
    modalities = ("image", "audio", "video")
    paper = "arXiv:2206.14502"
    begin_with = "alpha=10.0"
    citation = (
        "@inproceedings{pinto2022regmixup, title={RegMixup: Mixup as a Regularizer Can Surprisingly Improve Accuracy "
        "and Out Distribution Robustness}, author={Pinto, Francesco and Yang, Harry and Lim, Ser-Nam and Torr, Philip "
        "H. S. and Dokania, Puneet K.}, booktitle={NeurIPS}, year={2022}}"
    )
    own_loss = True

    loss_weight: float = setting(1.0, "Weight of the mixed loss beside the clean one.", at_least=0)

    def draw(self, request: Request) -> Draw:
        if "input_ids" in request.batch:
            raise ValueError(
                "method 'regmixup' mixes float inputs, and the batch has input_ids: tokens are mixed by "
                "method='embedding'"
            )
        draw = super().draw(request)
        others = draw.partner != torch.arange(request.rows)  # a sample that has no partner is there already
        return replace(draw, rows=((draw.lam < 1) & others).nonzero()[:, 0])

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        mixed = blend_inputs(batch, draw.partner, draw.lam, self.name, self.keys, inplace=False)
        count = len(draw.lam)
        return concat_batches(
            [batch, mixed if draw.rows is None else select_samples(mixed, draw.rows, count)], batch, count
        )

    def changed_places(self, draw: Draw) -> Tensor | None:
        return None if draw.rows is None else len(draw.lam) + torch.arange(len(draw.rows))

    def terms(self, logits: Tensor, labels: Tensor, draw: Draw) -> list[Term]:
        rows, count = draw.rows, len(labels)
        clean = Term(logits[:count], labels, labels, torch.ones_like(draw.lam))
        if rows is None or not len(rows):
            return [clean]
        others, lam = self.other_labels(labels, draw)[rows], self.label_lam(labels, draw)[rows]
        return [Term(logits[count:], labels[rows], others, lam, self.loss_weight), clean]
