"""PatchMix: whole patches of a vision transformer."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_mixup.functional.masks import keep_highest
from hf_mixup.methods._masks import RandomMask
from hf_mixup.methods.base import Request
from hf_mixup.methods.capabilities import MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.models.attention import patch_of


@register
class PatchMix(RandomMask, MixesPixelLabels):
    """Replace random patches of each image by the partner's, so that a token is of one image alone.

    `gridmix` whose cells are the patches of the model, as its configuration tells their size (where a model's patches
    overlap, those at the edges of a cell see both images). Of n patches round(lam * n), drawn at random, stay the
    sample's own. lam is then set to the share of their pixels, unless `correct_lam=False`; pixels beyond the last whole
    patch go with it.

    The name is ours, the masks are the random ones that TokenMix is compared with in its paper. TokenMix itself takes
    rectangles of several patches, gives the partner 14 patches more than lam says, and weighs labels by the activations
    of a teacher; here they are weighed by area.

    Raises:
        ValueError: for a model without patches, or images smaller than one.

    Source: Liu et al. 2022, "TokenMix: Rethinking Image Mixing for Data Augmentation in Vision Transformers", arXiv
    2207.08409, section 3.2.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup("patchmix")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> patches = mixed.draw.mask[0].unfold(0, 8, 8).unfold(1, 8, 8).float().mean((-2, -1))
    >>> patches.unique(), patches.mean()  # each is the row's own or its partner's
    (tensor([0., 1.]), tensor(0.7500))
    """

    name = "patchmix"
    title = "PatchMix"
    blends = "image inputs `[B, C, H, W]`: patches of a vision transformer"
    modalities = ("image",)
    paper = "arXiv:2207.08409"
    begin_with = "alpha=1.0"
    citation = (
        "@inproceedings{liu2022tokenmix, title={{TokenMix}: Rethinking Image Mixing for Data Augmentation in Vision "
        "Transformers}, author={Liu, Jihao and Liu, Boxiao and Zhou, Hang and Li, Hongsheng and Liu, Yu}, "
        "booktitle={ECCV}, year={2022}}"
    )

    def draw_fields(self, count: int, height: int, width: int, request: Request) -> Tensor:
        down, across = _patch(request)
        if height < down or width < across:
            raise ValueError(f"images of {height} x {width} pixels hold no patch of {down} x {across}")
        return torch.rand(count, height // down, width // across, generator=request.rng)

    def masks_of(self, fields: Tensor, share: Tensor, height: int, width: int, request: Request) -> Tensor:
        kept, (down, across) = keep_highest(fields, share), _patch(request)
        row = (torch.arange(height) // down).clamp(max=kept.shape[-2] - 1)
        column = (torch.arange(width) // across).clamp(max=kept.shape[-1] - 1)
        return kept.index_select(-1, column).index_select(-2, row)


def _patch(request: Request) -> tuple[int, int]:
    found = patch_of(request.model)
    if found is None:
        raise ValueError(
            f"the configuration of {type(request.model).__name__} tells no patch_size: method 'patchmix' is for vision "
            "transformers, use 'gridmix'"
        )
    return found
