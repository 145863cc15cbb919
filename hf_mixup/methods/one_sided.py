"""Mixup of one side of image-text pairs."""

from __future__ import annotations

from typing import Literal

from hf_mixup.methods._pairs import ImageTextMix
from hf_mixup.methods.base import setting
from hf_mixup.methods.registry import register


@register
class OneSidedMixup(ImageTextMix):
    """Mix only the images (`side: image`, the default) or only the captions; targets M R.

    A mixed image belongs to both captions, with shares lam and 1 - lam.

    Raises:
        ValueError: for side="both", which is `cross_modal`.

    Source: the mix of Zhang et al. 2018, arXiv 1710.09412, equation 1, with the soft contrastive targets of i-Mix (Lee
    et al. 2021, arXiv 2010.08887, equation 4).

    >>> import torch
    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny_pairs
    >>> model, batch = tiny_pairs()
    >>> partner = torch.tensor([1, 0, 3, 2])
    >>> with Mixup({"method": "one_sided", "side": "text"})(model, batch, partner, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.targets[0]
    tensor([0.7500, 0.2500, 0.0000, 0.0000])
    """

    name = "one_sided"
    title = "One-sided mixup of pairs"
    blends = "the images or the captions of image-text pairs"
    paper = "arXiv:2010.08887"
    begin_with = "alpha=1.0:side=image"
    citation = (
        "@inproceedings{lee2021imix, title={i-Mix: A Domain-Agnostic Strategy for Contrastive Representation "
        "Learning}, author={Lee, Kibok and Zhu, Yian and Sohn, Kihyuk and Li, Chun-Liang and Shin, Jinwoo and Lee, "
        "Honglak}, booktitle={ICLR}, year={2021}}"
    )

    side: Literal["image", "text"] = setting("image", "Which side is mixed.")

    def __post_init__(self) -> None:
        if self.side == "both":
            raise ValueError("side='both' is not one side: use method='cross_modal'")
        super().__post_init__()

    @property
    def mixes_image(self) -> bool:  # type: ignore[override]
        """Whether the images are mixed."""
        return self.side == "image"

    @property
    def mixes_text(self) -> bool:  # type: ignore[override]
        """Whether the captions are mixed."""
        return self.side == "text"
