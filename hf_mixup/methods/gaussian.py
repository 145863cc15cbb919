"""The Gaussian vicinity: noise on what the model is given, labels as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hf_mixup.methods.base import Batch, FloatInputs, NoiseDraw, Request, setting
from hf_mixup.methods.capabilities import MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.models.axes import visible_mask
from hf_mixup.models.batches import IDS
from hf_mixup.models.inputs import float_keys
from hf_mixup.models.noise import activate_noise, install_noise, noisy


@register
class GaussianNoise(FloatInputs, MixesPixelLabels):
    """Add normal noise of standard deviation `sigma` to every float input, or to the embeddings of tokens.

    In the units of what the model is given: of normalised pixels, of an audio clip's samples; a table of embeddings
    often has entries as small as 0.02. Padding stays as it is, and so do the labels: lam is 1, each sample its own
    partner. `prob` and `prob_per` say which samples are changed, `keys` names float inputs to change instead. A sigma
    of 0 adds nothing.

    Raises:
        ValueError: for a partner or a lam that is given.

    Source: Chapelle et al. 2000, "Vicinal Risk Minimization", Advances in Neural Information Processing Systems 13,
    section 2: the vicinity of a sample is a normal distribution around it. Holmstrom and Koistinen 1992, "Using
    additive noise in back-propagation training", IEEE Transactions on Neural Networks 3(1), for networks.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup({"method": "gaussian", "sigma": 0.1})(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> (mixed.inputs["pixel_values"] - batch["pixel_values"]).std().round(decimals=2)
    tensor(0.1000)
    """

    name = "gaussian"
    alone = True
    title = "Gaussian vicinity"
    blends = "nothing: adds noise to float inputs, or to token embeddings"
    modalities = ("image", "text", "audio", "video")
    paper = "NeurIPS 2000"
    begin_with = "sigma=0.1"
    citation = (
        "@inproceedings{chapelle2000vicinal, title={Vicinal Risk Minimization}, author={Chapelle, Olivier and Weston, "
        "Jason and Bottou, L{\\'e}on and Vapnik, Vladimir}, booktitle={NeurIPS}, year={2000}}"
    )
    exchanges = False

    sigma: float = setting(0.1, "Standard deviation of the noise, in units of the inputs or embeddings.", at_least=0)

    @property
    def off(self) -> bool:
        return super().off or self.sigma == 0

    def prepare(self, model: nn.Module) -> None:
        install_noise(model)

    def draw(self, request: Request) -> NoiseDraw:
        if request.partner is not None or request.lam is not None:
            raise ValueError("method 'gaussian' mixes no rows: leave partner and lam")
        noised = self.tosses(request).expand(request.rows)
        if self.off:
            noised = torch.zeros_like(noised)
        seed = int(torch.randint(2**62, (), generator=request.rng))
        partner, lam = torch.arange(request.rows), torch.ones(request.rows)
        return NoiseDraw(self.name, partner, lam, rows=noised.nonzero()[:, 0], seed=seed)

    def apply(self, model: nn.Module, batch: Batch, draw: NoiseDraw, inplace: bool) -> dict[str, Any]:
        scale = torch.zeros_like(draw.lam)
        scale[draw.rows] = self.sigma
        if IDS in batch and self.keys is None:
            activate_noise(model, batch, draw.partner, scale, draw.seed)
            return dict(batch)
        changed = dict(batch)
        for number, key in enumerate(float_keys(batch, len(scale), self.name, self.keys)):
            seen = visible_mask(batch, batch[key])
            changed[key] = noisy(batch[key], scale, seen, draw.seed + number, inplace)
        return changed
