"""Manifold Mixup."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from hf_mixup.methods.base import Batch, Method, Params, Request
from hf_mixup.sites.layers import arm_layer, layer_site, resolve_depths


class Manifold(Method):
    """Blend the hidden states after a block drawn anew for each batch.

    Default depths: where there are tokens, the TMix set {7, 9, 12} of 12 blocks, scaled to the model; elsewhere the
    first three sites of the official Manifold Mixup (what enters the first block, then one and two thirds up). The
    row's own attention mask stays.

    Source: Verma et al. 2019, "Manifold Mixup", arXiv 1806.05236; Chen et al. 2020, "MixText" (TMix), arXiv 2004.12239.
    """

    name = "manifold"
    title = "Manifold Mixup"
    blends = "hidden states after a block drawn for each batch"
    paper = "arXiv:1806.05236, arXiv:2004.12239"
    citation = (
        "@inproceedings{verma2019manifold, title={Manifold Mixup: Better Representations by Interpolating Hidden "
        "States}, author={Verma, Vikas and Lamb, Alex and Beckham, Christopher and Najafi, Amir and Mitliagkas, "
        "Ioannis and Lopez-Paz, David and Bengio, Yoshua}, booktitle={ICML}, year={2019}}"
    )
    enters_model = True

    def prepare(self, model: nn.Module) -> None:
        for depth in resolve_depths(model, self._layers(model)):
            layer_site(model, depth)

    def draw(self, request: Request) -> Params:
        depths = resolve_depths(request.model, self._layers(request.model))
        drawn = int(torch.randint(len(depths), (), generator=request.rng))
        return replace(super().draw(request), layer=depths[drawn])

    def apply(self, model: nn.Module, batch: Batch, params: Params, inplace: bool) -> dict[str, Any]:
        arm_layer(model, params)
        return dict(batch)

    def _layers(self, model: nn.Module) -> list[float]:
        if self.config.layers is not None:
            return self.config.layers
        return [7 / 12, 9 / 12, 1] if getattr(model, "main_input_name", "") == "input_ids" else [0, 1 / 3, 2 / 3]
