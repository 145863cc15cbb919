"""GridMix."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_mixup.functional.masks import enlarge_cells, keep_highest
from hf_mixup.methods._masks import RandomMask
from hf_mixup.methods.base import Request, setting
from hf_mixup.methods.capabilities import MixesPixelLabels
from hf_mixup.methods.registry import register


@register
class GridMix(RandomMask, MixesPixelLabels):
    """Replace random cells of a grid over each image by the partner's: CutMix in many small places.

    Of the `grid` x `grid` cells, round(lam * grid**2) drawn at random stay the sample's own. lam is then set to the
    share of their pixels, unless `correct_lam=False`; where the grid does not divide the image, cells differ by a
    pixel. The paper's second loss, over the label of each cell, needs another head and is left out. `patchmix` is the
    same on the patches of a vision transformer.

    Raises:
        ValueError: for more cells a side than the images have pixels.

    Source: Baek, Bang and Shim 2021, "GridMix: Strong regularization through local context mapping", Pattern
    Recognition 109, 107594.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup({"method": "gridmix", "grid": 2})(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.mask[0, ::32, ::32].sum()  # of 2 x 2 cells are the row's own
    tensor(3)
    """

    name = "gridmix"
    title = "GridMix"
    blends = "image inputs `[B, C, H, W]`: cells of a grid"
    modalities = ("image",)
    paper = "doi:10.1016/j.patcog.2020.107594"
    begin_with = "alpha=1.0:grid=4"
    citation = (
        "@article{baek2021gridmix, title={GridMix: Strong regularization through local context mapping}, author={Baek, "
        "Kyungjune and Bang, Duhyeon and Shim, Hyunjung}, journal={Pattern Recognition}, volume={109}, "
        "pages={107594}, year={2021}}"
    )

    grid: int = setting(4, "Cells along each side of the image.", at_least=1)

    def draw_fields(self, count: int, height: int, width: int, request: Request) -> Tensor:
        cells = self.grid
        if cells > min(height, width):
            raise ValueError(
                f"grid={cells}: images of {height} x {width} pixels have no room for so many cells a side; use "
                f"{min(height, width)} or fewer"
            )
        return torch.rand(count, cells, cells, generator=request.rng)

    def masks_of(self, fields: Tensor, share: Tensor, height: int, width: int, request: Request) -> Tensor:
        return enlarge_cells(keep_highest(fields, share), height, width)
