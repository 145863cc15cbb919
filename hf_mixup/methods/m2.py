"""Mixed negatives for image-text pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional import contrastive_cross_entropy, slerp
from hf_mixup.methods._pairs import PairMethod
from hf_mixup.methods.base import Batch, Draw, DrawnLam, setting
from hf_mixup.methods.cross_modal import CrossModalMixup
from hf_mixup.methods.registry import register


@register
class M2Mix(DrawnLam, PairMethod):
    """Experimental: beside the plain loss, one whose negatives are blends of each other pair's image and caption.

    Nothing of the batch is mixed. The second loss has the weight `loss_weight` and a temperature of its own; it is the
    mean of both directions, as every loss of pairs here. The code of the authors' experiments takes the sum: its
    weights of 0.001 to 0.05 are 0.002 to 0.1 here. It also draws lam from Beta(0.5, 0.5) (`alpha: 0.5`), and divides
    the weight by the number of the epoch, which is not done here.

    Source: m2-Mix of Oh et al. 2023, arXiv 2203.03897, equation 4; https://github.com/changdaeoh/multimodal-mixup.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny_pairs
    >>> model, batch = tiny_pairs()
    >>> with Mixup({"method": "m2", "loss_weight": 0.5})(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> torch.equal(mixed.targets, torch.eye(4))  # of the plain loss; the other has negatives that are mixed
    True
    """

    name = "m2"
    title = "m2-Mix (experimental)"
    blends = "negatives only: the image and the caption of each other pair, along a great circle"
    paper = "arXiv:2203.03897"
    begin_with = "alpha=0.5:loss_weight=0.1"
    citation = CrossModalMixup.citation

    mixes_image = False
    mixes_text = False

    loss_weight: float = setting(0.1, "Weight of the loss with mixed negatives.", at_least=0)
    loss_temperature: float = setting(0.07, "Temperature of that loss.", above=0)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        return dict(batch)

    def extra_loss(self, images: Tensor, texts: Tensor, lam: Tensor, rows: Tensor, relevance: Tensor) -> Tensor:
        """Return the weighted loss against mixed negatives, the mean of both directions, 0-d.

        Args:
            images, texts: embeddings of all processes' samples, [N, D].
            lam: share of the image in each mixed negative, [N].
            rows: numbers of those that are scored here, long [n].
            relevance: [n, N], 1 for pairs that are no negatives of each other.
        """
        images, texts = (nn.functional.normalize(each.float(), dim=-1) for each in (images, texts))
        negatives = slerp(images, texts, lam)
        losses = []
        for own, other in ((images, texts), (texts, images)):
            logits = torch.where(relevance > 0, own[rows] @ other.T, own[rows] @ negatives.T)
            losses.append(contrastive_cross_entropy(logits / self.loss_temperature, relevance))
        return self.loss_weight * (losses[0] + losses[1]) / 2
