"""Mixup of raw inputs."""

from __future__ import annotations

from typing import Any

from torch import nn

from hf_mixup.functional import blend
from hf_mixup.methods.base import Batch, Method, Params
from hf_mixup.sites.inputs import float_keys, is_blendable


class InputMixup(Method):
    """Blend every floating-point input (pixels, spectrograms, waveforms, features) row by row.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv 1710.09412, equation 1.
    """

    name = "mixup"
    title = "Mixup"
    blends = "any float input: `pixel_values`, `input_values`, `input_features`, ..."
    paper = "arXiv:1710.09412"
    citation = (
        "@inproceedings{zhang2018mixup, title={mixup: Beyond Empirical Risk Minimization}, author={Zhang, Hongyi and "
        "Cisse, Moustapha and Dauphin, Yann N. and Lopez-Paz, David}, booktitle={ICLR}, year={2018}}"
    )

    def apply(self, model: nn.Module, batch: Batch, params: Params, inplace: bool) -> dict[str, Any]:
        return blend_inputs(batch, params, self.name, self.config.keys, inplace)


def blend_inputs(batch: Batch, params: Params, method: str, keys: list[str] | None, inplace: bool) -> dict[str, Any]:
    """Return the inputs with every floating-point one (or those of `keys`) blended row by row."""
    mixed = dict(batch)
    for key in float_keys(batch, len(params.partner), method, keys):
        mixed[key] = blend(batch[key], params.partner, params.lam, inplace=inplace)
    return mixed


def blend_floats(batch: Batch, params: Params) -> dict[str, Any]:
    """Return the inputs with those floats blended that go with tokens: pictures, waveforms; often there are none."""
    keys = [key for key, value in batch.items() if is_blendable(key, value, len(params.partner))]
    return {**batch, **{key: blend(batch[key], params.partner, params.lam) for key in keys}}
