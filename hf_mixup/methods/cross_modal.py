"""Cross-Modal Mixup."""

from __future__ import annotations

from hf_mixup.methods._pairs import ImageTextMix
from hf_mixup.methods.registry import register


@register
class CrossModalMixup(ImageTextMix):
    """Mix both sides of each pair with the same partner and lam; a mixed image belongs to what it shares.

    Images (`image_mix`) are blended or cut as pixels, or blended as embeddings (latent). Captions (`text_mix`) are
    blended as embeddings before those are normalised (late), or as tokens (two_eot, aligned). The targets are the
    overlaps M R M^T of the mixes, each direction divided by its own sums.

    Source: the mix of Zhang et al. 2018, arXiv 1710.09412, equation 1, applied to both modalities of CLIP (Radford et
    al. 2021, arXiv 2103.00020); in latent space it is the VL-Mix of Oh et al. 2023, arXiv 2203.03897, with exact
    targets.

    >>> import torch
    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny_pairs
    >>> model, batch = tiny_pairs()
    >>> partner = torch.tensor([1, 0, 3, 2])
    >>> with Mixup({"method": "cross_modal", "text_mix": "late"})(model, batch, partner, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.targets[0]  # M R M^T: 0.75**2 + 0.25**2 on the own caption
    tensor([0.6250, 0.3750, 0.0000, 0.0000])
    """

    name = "cross_modal"
    title = "Cross-Modal Mixup"
    blends = "both sides of image-text pairs: pixels or embeddings, caption embeddings or tokens"
    paper = "arXiv:1710.09412, arXiv:2203.03897"
    citation = (
        "@inproceedings{oh2023geodesic, title={Geodesic Multi-Modal Mixup for Robust Fine-Tuning}, author={Oh, "
        "Changdae and So, Junhyuk and Byun, Hoyoon and Lim, YongTaek and Shin, Minchul and Jeon, Jong-June and Song, "
        "Kyungwoo}, booktitle={NeurIPS}, year={2023}}"
    )
