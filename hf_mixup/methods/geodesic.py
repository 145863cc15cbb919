"""Geodesic mixup of joint embeddings."""

from __future__ import annotations

from dataclasses import replace

import torch

from hf_mixup.functional.contrastive import Mix
from hf_mixup.methods.base import Params
from hf_mixup.methods.cross_modal import CrossModal
from hf_mixup.methods.pairs import PairMethod, along_the_arc


class Geodesic(PairMethod):
    """Mix the joint embeddings along great circles: pictures (`side: image`, V-Mix), captions (`text`, L-Mix) or both.

    The targets are the shares of the arc, M R or M R M^T. `paper_compat` takes the published target of the variant on
    both sides, I + P, which is right at lam = 1/2 only. A normalised linear blend (`cross_modal`, latent) runs along
    the same arc at another pace.

    Source: Oh et al. 2023, "Geodesic Multi-Modal Mixup for Robust Fine-Tuning", arXiv 2203.03897, section 4.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.zoo.batches import tiny_pairs
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
    citation = CrossModal.citation
    late = staticmethod(along_the_arc)

    @property
    def image_mix(self) -> str:
        return "latent"

    @property
    def text_mix(self) -> str:
        return "late"

    def sides(self, params: Params) -> tuple[Mix | None, Mix | None]:
        if self.config.paper_compat and self.mixes_image and self.mixes_text:
            params = replace(params, lam=torch.where(params.lam < 1, 0.5, 1.0))
        return super().sides(params)
