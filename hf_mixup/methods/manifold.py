"""Manifold Mixup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_mixup.methods.base import Batch, Blend, Draw, FixedLam, Request, setting
from hf_mixup.methods.capabilities import MixesPixelLabels, MixesTranscripts
from hf_mixup.methods.registry import register
from hf_mixup.models.blocks import Stack, install_blocks, resolve_depths, stack_of
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.padding import mix_layer


@dataclass(frozen=True, kw_only=True)
class DepthDraw(Draw):
    """A draw of a depth.

    Args:
        depth: of the blend, in blocks.
    """

    depth: int


@dataclass(kw_only=True)
class HiddenStates(FixedLam):
    """A method that changes hidden states between the blocks of a model, at a depth drawn for each batch."""

    enters_model = True

    layers: list[float] | None = setting(
        None,
        "Depths of which one is drawn for each batch: whole numbers count blocks (0 is what enters the first, -1 what "
        "leaves the last); if any lies strictly between 0 and 1, all are shares of the depth.",
    )
    modules: list[str] | None = setting(
        None, "Paths of the modules to take as blocks, instead of those that are found."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        layers = self.layers or []
        if any(0 < depth < 1 for depth in layers):
            fits = all(0 <= depth <= 1 for depth in layers)
        else:
            fits = all(depth == int(depth) for depth in layers)
        if not fits:
            raise ValueError(f"layers={self.layers!r}: use whole numbers of blocks, or shares of the depth in [0, 1]")

    def prepare(self, model: nn.Module) -> None:
        install_blocks(model)

    def draw(self, request: Request) -> DepthDraw:
        depths = self.depths(request.model, request.batch)
        drawn = int(torch.randint(len(depths), (), generator=request.rng))
        return super().draw(request).more(DepthDraw, depth=depths[drawn])

    def alike(self, model: nn.Module) -> Literal["grids", "tokens"] | None:
        return "grids"

    def draw_given(self, partner: Tensor, lam: Tensor, depth: int | None = None) -> DepthDraw:
        return DepthDraw(self.name, partner, lam, depth=0 if depth is None else depth)

    def depths(self, model: nn.Module, batch: Batch) -> list[int | None]:
        stack = self._stack(model, batch)
        if self.modules and self.layers is None:
            return list(range(1, len(stack.blocks) + 1))
        depths = resolve_depths(model, stack, self._layers(model))
        leaks = hooks_of(model).cache.get("leaks", ()) if self.chooses_depths else ()
        return [depth for depth in depths if depth not in leaks] or list(depths)

    @property
    def chooses_depths(self) -> bool:
        return self.layers is None and self.modules is None

    def apply(self, model: nn.Module, batch: Batch, draw: DepthDraw, inplace: bool) -> dict[str, Any]:
        stack, depths = self._stack(model, batch), self.depths(model, batch)
        return mix_layer(model, stack, batch, draw.partner, draw.lam, draw.depth, depths)

    def _stack(self, model: nn.Module, batch: Batch) -> Stack:
        return stack_of(model, batch, self.modules)

    def _layers(self, model: nn.Module) -> list[float]:
        """Return the depths to draw from, as `layers` has them."""
        raise NotImplementedError


@register
class ManifoldMixup(Blend, HiddenStates, MixesPixelLabels, MixesTranscripts):
    """Blend the hidden states after a block drawn anew for each batch.

    Default depths: where there are tokens, the TMix set {7, 9, 12} of 12 blocks, scaled to the model; elsewhere the
    first three sites of the official Manifold Mixup (what enters the first block, then one and two thirds up). The
    sample's own attention mask stays. Before the first step an exchange of two samples finds depths that are not exact,
    because a part of the model does not pass through them; these are left out of the default, with a warning.

    lam is drawn as in Manifold Mixup. The authors' code of MixText draws it from Beta(16, 16) (`alpha=16`), uses no
    attention mask, and takes max(lam, 1 - lam) (`lam_at_least_half=True`), except in its command for TMix alone. The
    code of Manifold Mixup takes the binary cross-entropy of a softmax; here the loss is the model's own.

    Source: Verma et al. 2019, "Manifold Mixup", arXiv 1806.05236; Chen et al. 2020, "MixText" (TMix), arXiv 2004.12239;
    https://github.com/SALT-NLP/MixText.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("sequence-classification", "bert")
    >>> with Mixup({"method": "manifold", "layers": [0, 1]})(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.depth in (0, 1)
    True
    """

    name = "manifold"
    title = "Manifold Mixup"
    blends = "hidden states after a block drawn for each batch"
    modalities = ("image", "text", "audio", "video", "table")
    paper = "arXiv:1806.05236, arXiv:2004.12239"
    begin_with = "alpha=1.0"
    citation = (
        "@inproceedings{verma2019manifold, title={Manifold Mixup: Better Representations by Interpolating Hidden "
        "States}, author={Verma, Vikas and Lamb, Alex and Beckham, Christopher and Najafi, Amir and Mitliagkas, "
        "Ioannis and Lopez-Paz, David and Bengio, Yoshua}, booktitle={ICML}, year={2019}}"
    )

    def _layers(self, model: nn.Module) -> list[float]:
        if self.layers is not None:
            return self.layers
        return [7 / 12, 9 / 12, 1] if getattr(model, "main_input_name", "") == "input_ids" else [0, 1 / 3, 2 / 3]
