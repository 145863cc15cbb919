"""Puzzle Mix: blocks of two images, chosen and moved so that what matters of either is seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.functional.puzzle import block_means, edge_differences, least_cost, mask_costs, puzzle, transport
from hf_mixup.methods.base import Batch, Blend, Draw, FloatInputs, MaskDraw, Request, setting
from hf_mixup.methods.capabilities import AsksGuide
from hf_mixup.methods.registry import register
from hf_mixup.methods.saliencymix import gradient_saliency
from hf_mixup.models.inputs import float_keys

BLOCKS = (2, 4, 8, 16)
"""Along each side of an image, one of them drawn for each batch."""


@dataclass(frozen=True, kw_only=True)
class PuzzleDraw(MaskDraw):
    """A draw of blocks.

    Args:
        sources: at each position the block that is put there, of the own image and of the partner's, long
            [B, 2, n * n].
    """

    sources: Tensor


@register
class PuzzleMix(Blend, FloatInputs, AsksGuide):
    """Choose for each block the own content, the partner's or the mean of both; move salient blocks to where they show.

    A block's saliency is the gradient of the loss at its pixels. The mask minimises a cost of four terms: saliency that
    is hidden, neighbours with different shares, neighbours with different pixels, and a prior with mean lam. Then
    salient blocks of either image move to where that image is seen. lam is set to the mean share of the sample's own
    content, unless `correct_lam=False`. Costs one more forward and backward pass for each mixed batch (of the guide's,
    if there is one, for the class that it finds), in evaluation mode, through activations and not to the weights, and
    one wait for the device; mask and moves are worked out on the CPU, for the whole batch at once.

    Weights of the terms, block sizes (2, 4, 8 or 16 a side) and the three shares are those of the authors' code
    (https://github.com/snu-mllab/PuzzleMix). Their code differs in this:

    - It finds the mask by alpha-beta swaps with graph cuts, here by min-sum belief propagation; both are within about
      0.2 % of the least cost.
    - Its loop that moves blocks stops earlier, and leaves positions empty that are not seen.
    - Its command for CIFAR moves pieces of 4 x 4 pixels, here whole blocks move.
    - Here pixels are compared in units of the batch's range, as the processor's mean and deviation are not known.
    - Its loss is the binary cross-entropy of a softmax, and its command for Tiny ImageNet adds the clean batch's.
    - It can add adversarial noise, which is left out here.

    Pixels beyond the last whole block follow the mask and do not move. A sample that is its own partner stays as it is.

    Raises:
        ValueError: for images smaller than 2 x 2 pixels.

    Source: Kim, Choo and Song 2020, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup", arXiv
    2009.06962, section 3.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with Mixup("puzzlemix")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.mask.shape  # the own share of each block
    torch.Size([4, 4, 4])
    """

    name = "puzzlemix"
    title = "Puzzle Mix"
    blends = "image inputs `[B, C, H, W]`: blocks chosen, and moved, by saliency"
    modalities = ("image",)
    paper = "arXiv:2009.06962"
    begin_with = "alpha=1.0"
    citation = (
        "@inproceedings{kim2020puzzle, title={Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup}, "
        "author={Kim, Jang-Hyun and Choo, Wonho and Song, Hyun Oh}, booktitle={ICML}, year={2020}}"
    )

    correct_lam: bool = setting(True, "Set lam to the true share of the sample's own pixels.")

    def draw(self, request: Request) -> Draw:
        draw = super().draw(request)
        lam = draw.lam.masked_fill(draw.partner == torch.arange(request.rows), 1.0)
        if bool((lam == 1).all()) and not request.together:  # also by the coin of `prob`: nothing to look for
            return replace(draw, lam=lam)
        key = self._keys(request.batch, request.rows)[0]
        pixels, partner = request.batch[key], draw.partner
        blocks = _draw_blocks(pixels, request.rng)
        found = [block_means(gradient_saliency(request, key), blocks), *edge_differences(pixels, partner, blocks)]
        saliency, down, across = _on_cpu([each.float() for each in found])
        shares = least_cost(*mask_costs(saliency, partner, down, across, lam))
        shares = torch.where((lam < 1)[:, None, None], shares, 1.0).masked_fill((lam == 0)[:, None, None], 0.0)
        sources = torch.stack([transport(saliency, shares > 0), transport(saliency[partner], shares < 1)], 1)
        true = _mean_share(shares, *pixels.shape[-2:])
        return draw.more(PuzzleDraw, lam=true if self.correct_lam else lam, mask=shares, sources=sources)

    def apply(self, model: nn.Module, batch: Batch, draw: PuzzleDraw, inplace: bool) -> dict[str, Any]:
        mixed = dict(batch)
        for key in self._keys(batch, len(draw.partner)):
            new = puzzle(batch[key], draw.partner, draw.mask, draw.sources)
            mixed[key] = batch[key].copy_(new) if inplace else new
        return mixed

    def _keys(self, batch: Batch, rows: int) -> list[str]:
        return float_keys(batch, rows, self.name, self.keys, dims=4)


def _draw_blocks(pixels: Tensor, rng: torch.Generator) -> int:
    """Draw how many blocks lie along a side, of those that have a pixel at least.

    Raises:
        ValueError: the images are too small to be cut.
    """
    fitting = [blocks for blocks in BLOCKS if blocks <= min(pixels.shape[-2:])]
    if not fitting:
        raise ValueError(f"method 'puzzlemix' cuts images into 2 x 2 blocks or more, found {list(pixels.shape[-2:])}")
    return fitting[int(torch.randint(len(fitting), (), generator=rng))]


def _on_cpu(tensors: list[Tensor]) -> list[Tensor]:
    """Return tensors of one dtype on the CPU, with one wait for their device: loops that end by themselves follow."""
    parts = torch.cat([each.flatten() for each in tensors]).cpu().split([each.numel() for each in tensors])
    return [part.reshape(each.shape) for part, each in zip(parts, tensors)]


def _mean_share(shares: Tensor, height: int, width: int) -> Tensor:
    """Return the mean over the pixels, whose blocks at the far edges may be larger: float32 [B]."""
    blocks = shares.shape[-1]
    sides = []
    for length in (height, width):
        side = torch.full((blocks,), length // blocks, dtype=torch.float64)
        side[-1] += length % blocks
        sides.append(side / length)
    return torch.einsum("bij,i,j->b", shares.double(), *sides).float()
