"""Geodesic mixup of joint embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from hf_mixup.functional.contrastive import Mix
from hf_mixup.methods._pairs import PairMethod, along_the_arc
from hf_mixup.methods.base import Batch, Blend, Draw, setting
from hf_mixup.methods.cross_modal import CrossModalMixup
from hf_mixup.methods.registry import register


@register
class GeodesicMixup(Blend, PairMethod):
    """Mix the joint embeddings along great circles: images (`side: image`, V-Mix), captions (`text`, L-Mix) or both.

    The targets are the shares of the arc, M R or M R M^T. For the variant on both sides `paper_compat` takes the
    published target, I + P, which is right at lam = 1/2 only. A normalised linear blend (`cross_modal`, latent) has the
    same arc, but another point of it at the same lam.

    By default the loss is that of the mixed pairs alone. With `loss_weight` it is the plain loss plus `loss_weight`
    times that of the mixed pairs, from one forward pass; `targets` and accuracy are then those of the plain pairs. The
    authors' code (https://github.com/changdaeoh/multimodal-mixup) trains so: it adds 0.05 of V-Mix, 0.05 of L-Mix, 0.05
    to 0.2 of the variant on both sides and 0.01 of `m2`, each with a lam of its own from Beta(0.5, 0.5) and the partner
    of `pairing: flip`, all divided by the number of the epoch; here one variant is added, by the same weight
    throughout. Its target I + P is not divided by its sum, so that 0.1 there is 0.2 here.

    Source: Oh et al. 2023, "Geodesic Multi-Modal Mixup for Robust Fine-Tuning", arXiv 2203.03897, section 4.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny_pairs
    >>> model, batch = tiny_pairs()
    >>> partner = torch.tensor([1, 0, 3, 2])
    >>> with Mixup({"method": "geodesic", "side": "image"})(model, batch, partner, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.targets[0]
    tensor([0.7500, 0.2500, 0.0000, 0.0000])
    """

    name = "geodesic"
    title = "Geodesic mixup"
    blends = "joint embeddings of image-text pairs, along great circles"
    paper = "arXiv:2203.03897"
    begin_with = "alpha=0.5:loss_weight=0.1"
    citation = CrossModalMixup.citation
    late = staticmethod(along_the_arc)

    side: Literal["both", "image", "text"] = setting("both", "Which sides are mixed.")
    paper_compat: bool = setting(False, "With both sides: the published targets, right at lam = 1/2 only.")
    loss_weight: float | None = setting(
        None,
        "Weight of the mixed loss beside the plain one (default: the mixed loss alone).",
        at_least=0,
    )

    def unread(self) -> dict[str, str]:
        return {**({} if self.side == "both" else {"paper_compat": "with side='both'"}), **super().unread()}

    @property
    def mixes_image(self) -> bool:  # type: ignore[override]
        """Whether the images are mixed."""
        return self.side != "text"

    @property
    def mixes_text(self) -> bool:  # type: ignore[override]
        """Whether the captions are mixed."""
        return self.side != "image"

    @property
    def beside(self) -> bool:
        """Whether the mixed pairs are scored beside the plain ones."""
        return self.loss_weight is not None

    @property
    def enters_model(self) -> bool:  # type: ignore[override]
        """Whether anything is mixed inside the forward pass."""
        return not self.beside and super().enters_model

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        return dict(batch) if self.beside else super().apply(model, batch, draw, inplace)

    def sides(self, draw: Draw) -> tuple[Mix | None, Mix | None]:
        return (None, None) if self.beside else self.mixes(draw)

    def arcs(self, draw: Draw) -> tuple[Mix | None, Mix | None]:
        """Return how embeddings are mixed."""
        return super().sides(draw)

    def mixes(self, draw: Draw) -> tuple[Mix | None, Mix | None]:
        """Return how embeddings are mixed, as the targets of the mixed pairs count it."""
        if self.paper_compat and self.mixes_image and self.mixes_text:
            draw = replace(draw, lam=torch.where(draw.lam < 1, 0.5, 1.0))
        return super().sides(draw)
