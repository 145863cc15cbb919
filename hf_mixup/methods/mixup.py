"""Mixup of raw inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.methods.base import ALPHA, Batch, Blend, Draw, FloatInputs, setting
from hf_mixup.methods.capabilities import MixesBoxes, MixesForecasts, MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.models.batches import IDS
from hf_mixup.models.embeddings import install_tables
from hf_mixup.models.inputs import takes
from hf_mixup.models.streams import blend_inputs, is_looked_up, mix_streams


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

    alike = "tokens"

    alpha: float = setting(1.0, f"{ALPHA} Begin with 0.2 on large data sets, with 1.0 on small ones.", at_least=0)

    def enters(self, model: nn.Module, batch: Batch) -> bool:
        return self.keys is None and is_looked_up(batch)

    def prepare(self, model: nn.Module) -> None:
        if self.keys is None and takes(model, IDS):
            install_tables(model)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        if self.enters(model, batch):
            return mix_streams(model, batch, draw.partner, draw.lam, inplace)
        return blend_inputs(batch, draw.partner, draw.lam, self.name, self.keys, inplace)

    def mixed_boxes(
        self, labels: Sequence[Mapping[str, Tensor]], draw: Draw, height: int, width: int
    ) -> list[dict[str, Tensor]]:
        """Return the boxes of both rows, weighing lam and 1 - lam; at the ends, and of a row with itself, its own."""
        drawn = zip(draw.partner.tolist(), draw.lam.tolist())
        return [
            united_boxes(labels[row], labels[other], 1.0 if other == row else lam)
            for row, (other, lam) in enumerate(drawn)
        ]


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
