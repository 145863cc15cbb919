"""Mixup of features at a fixed depth."""

from __future__ import annotations

from torch import nn

from hf_mixup.methods.manifold import ManifoldMixup
from hf_mixup.methods.registry import register


@register
class FeatureMixup(ManifoldMixup):
    """Blend the hidden states at one fixed depth: after the last block, unless `layers` names another.

    Raises:
        ValueError: for several `layers`.

    Source: the special case of Manifold Mixup (Verma et al. 2019, arXiv 1806.05236) with a single eligible layer.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("sequence-classification", "bert")
    >>> with Mixup("features")(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.depth == model.config.num_hidden_layers
    True
    """

    name = "features"
    title = "Feature-space mixup"
    blends = "hidden states after a fixed block (the last by default)"
    paper = "arXiv:1806.05236"
    begin_with = "alpha=1.0"

    def _layers(self, model: nn.Module) -> list[float]:
        layers = self.layers or [-1]
        if len(layers) != 1:
            raise ValueError(f"method 'features' mixes at one depth, found layers={layers}: use 'manifold' for several")
        return layers
