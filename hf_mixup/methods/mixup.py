"""Mixup of raw inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional import blend
from hf_mixup.methods.base import ALPHA, Batch, Blend, Draw, FloatInputs, setting
from hf_mixup.methods.capabilities import MixesBoxes, MixesForecasts, MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.models.axes import OBSERVED
from hf_mixup.models.batches import HEARD
from hf_mixup.models.embeddings import unite_masks
from hf_mixup.models.inputs import float_keys, is_blendable


@register
class InputMixup(Blend, FloatInputs, MixesPixelLabels, MixesBoxes, MixesForecasts):
    """Blend every floating-point input (pixels, spectrograms, waveforms, features) row by row.

    Audio clips of different length: their masks are united, so that what is heard of either is seen. Of series that
    were not observed throughout, the blend counts as observed where both samples were. Where `future_values` are to be
    forecast, past and future are blended alike, and the loss is the model's own on the blend.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv 1710.09412, equation 1.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup("mixup")(model, batch, partner=torch.tensor([1, 0, 3, 2]), lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.targets[0]
    tensor([0.7500, 0.2500, 0.0000, 0.0000])
    """

    name = "mixup"
    title = "Mixup"
    blends = "any float input: `pixel_values`, `input_values`, `input_features`, ..."
    paper = "arXiv:1710.09412"
    citation = (
        "@inproceedings{zhang2018mixup, title={mixup: Beyond Empirical Risk Minimization}, author={Zhang, Hongyi and "
        "Cisse, Moustapha and Dauphin, Yann N. and Lopez-Paz, David}, booktitle={ICLR}, year={2018}}"
    )

    alpha: float = setting(1.0, f"{ALPHA} Begin with 0.2 on large data sets, with 1.0 on small ones.", at_least=0)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        return blend_inputs(batch, draw, self.name, self.keys, inplace)

    def mixed_boxes(
        self, labels: Sequence[Mapping[str, Tensor]], draw: Draw, height: int, width: int
    ) -> list[dict[str, Tensor]]:
        """Return the boxes of both rows, weighing lam and 1 - lam; at the ends, and of a row with itself, its own."""
        drawn = zip(draw.partner.tolist(), draw.lam.tolist())
        return [
            united_boxes(labels[row], labels[other], 1.0 if other == row else lam)
            for row, (other, lam) in enumerate(drawn)
        ]


def blend_inputs(batch: Batch, draw: Draw, method: str, keys: list[str] | None, inplace: bool) -> dict[str, Any]:
    """Return the inputs with every floating-point one (or those of `keys`) blended by row; masks of audio united."""
    masks = {**united_mask(batch, draw), **observed_mask(batch, draw), **shown_mask(batch, draw)}
    mixed = {**batch, **masks}
    for key in float_keys(batch, len(draw.partner), method, keys):
        mixed[key] = blend(batch[key], draw.partner, draw.lam, inplace=inplace)
    return mixed


def united_mask(batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Return the mask of mixed audio clips (or series), by its name: what is heard of either row; none beside tokens.

    A row without a share (lam = 0 or 1) adds nothing, so that both ends are exact for any lengths.
    """
    masks = {key: mask for key in HEARD if isinstance(mask := batch.get(key), Tensor) and mask.dim() in (2, 3)}
    if "input_ids" in batch:
        return {}
    return {key: unite_masks(mask, mask[draw.partner], draw.lam)[0] for key, mask in masks.items()}


def shown_mask(batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Return the mask of mixed images, by its name: what is no padding of either row that has a share."""
    mask = batch.get("pixel_mask")
    if not isinstance(mask, Tensor):
        return {}
    share = draw.lam.reshape(-1, *(1,) * (mask.dim() - 1))
    own, other = mask.bool() & (share > 0), mask[draw.partner].bool() & (share < 1)
    return {"pixel_mask": (own | other).to(mask.dtype)}


def united_boxes(own: Mapping[str, Tensor], other: Mapping[str, Tensor], lam: float) -> dict[str, Tensor]:
    """Return the boxes of two rows with weights lam and 1 - lam; at the ends those of one alone.

    >>> one, two = ({"class_labels": torch.tensor([label]), "boxes": torch.rand(1, 4)} for label in (0, 1))
    >>> united_boxes(one, two, 0.25)["weights"]
    tensor([0.2500, 0.7500])
    """
    parts = [(each, share) for each, share in ((own, lam), (other, 1 - lam)) if share > 0]
    union = {key: torch.cat([each[key] for each, _ in parts]) for key in ("class_labels", "boxes")}
    shares = [torch.full((len(each["boxes"]),), share, device=each["boxes"].device) for each, share in parts]
    return {**union, "weights": torch.cat(shares)}


def observed_mask(batch: Batch, draw: Draw) -> dict[str, Tensor]:
    """Return the masks of mixed series, by their names: a blend is known where both rows were observed.

    A row without a share (lam = 0 or 1) takes nothing away.
    """
    masks = {key: mask for key in OBSERVED if isinstance(mask := batch.get(key), Tensor)}
    for key, mask in masks.items():
        share = draw.lam.reshape(-1, *(1,) * (mask.dim() - 1))
        own, other = mask.bool() | (share == 0), mask[draw.partner].bool() | (share == 1)
        masks[key] = (own & other).to(mask.dtype)
    return masks


def blend_floats(batch: Batch, draw: Draw) -> dict[str, Any]:
    """Return the inputs with those floats blended that go with tokens: images, waveforms; often there are none."""
    keys = [key for key, value in batch.items() if is_blendable(key, value, len(draw.partner))]
    return {**batch, **{key: blend(batch[key], draw.partner, draw.lam) for key in keys}}
