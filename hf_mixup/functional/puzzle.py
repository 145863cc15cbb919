"""Puzzle Mix: which blocks of two images to keep, and where to move what would be lost."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ._rows import check_floats, check_partner
from .blending import at_least_float32

SMOOTH, FIT, PRIOR = 1.2, 0.5, 0.2
"""Weights of like labels in neighbours, of like pixels across an edge between blocks, and of lam: the authors' code."""

DISTANCE = 0.8
"""What a move over the whole image costs, in units of all its saliency: the authors' code."""

CELL = 4
"""Pixels that are averaged before those on either side of an edge are compared."""

SHARES = (0.0, 0.5, 1.0)
"""What a block can keep of the own image."""

ROUNDS = 20
"""Of messages between blocks: on 16 x 16 blocks within 0.2 % of the least cost, as alpha-beta swaps are (measured)."""


def block_means(values: Tensor, blocks: int) -> Tensor:
    """Return the mean over each of `blocks` x `blocks` blocks: [B, H, W] -> [B, n, n].

    Sides of blocks are H // n and W // n; what is left over on the right and at the bottom is not counted.

    >>> block_means(torch.arange(20.0).reshape(1, 4, 5), 2)
    tensor([[[ 3.,  5.],
             [13., 15.]]])
    """
    height, width = values.shape[-2] // blocks, values.shape[-1] // blocks
    return F.avg_pool2d(values[:, None, : blocks * height, : blocks * width], (height, width))[:, 0]


def edge_differences(x: Tensor, partner: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """Return how unlike the pixels on either side of an edge are, for each choice of image on either side.

    Args:
        x: floats [B, C, H, W]; they are scaled by the range of the whole batch, as if it were [0, 1].
        partner: long [B].
        blocks: blocks n along each side.

    Returns:
        For edges between a block and the one below [B, 2, 2, n - 1, n], and the one to the right [B, 2, 2, n, n - 1]:
        mean absolute difference of cells of about 4 x 4 pixels, first index for the upper or left block and second
        for the other: 0 for the partner's image, 1 for the own.
    """
    height, width = x.shape[-2] // blocks, x.shape[-1] // blocks
    fine = max(1, min(height, width) // CELL)  # cells along the side of a block
    wide = at_least_float32(x)
    least, most = torch.aminmax(wide)
    cells = F.adaptive_avg_pool2d(wide[..., : blocks * height, : blocks * width], blocks * fine)
    cells = (cells - least) / (most - least).clamp(min=torch.finfo(cells.dtype).tiny)
    images = (cells[partner.to(x.device, non_blocking=True)], cells)

    def differences(one: Tensor, other: Tensor) -> Tensor:
        edge = (one[:, :, fine - 1 : -1 : fine] - other[:, :, fine::fine]).abs().mean(1)
        return edge.unflatten(-1, (blocks, fine)).mean(-1)

    down = [[differences(one, other) for other in images] for one in images]
    across = [[differences(one.mT, other.mT).mT for other in images] for one in images]
    return tuple(torch.stack([torch.stack(row, 1) for row in each], 1) for each in (down, across))  # type: ignore[return-value]


def mask_costs(
    saliency: Tensor, partner: Tensor, down: Tensor, across: Tensor, lam: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a mask costs: saliency that is lost, unlike neighbours, edges that do not fit, and distance from lam.

    Source: Kim, Choo and Song 2020, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup",
    https://arxiv.org/abs/2009.06962, equation 3, as the authors' code weighs its terms.

    Args:
        saliency: of the blocks, not negative, [B, n, n].
        partner: long [B].
        down, across: as `edge_differences` returns them.
        lam: share of the own image to expect, [B].

    Returns:
        Cost of each of the three `SHARES` in each block [B, 3, n, n], and of a unit of squared difference between the
        shares of neighbours, [B, n - 1, n] and [B, n, n - 1]. The mask costs their sum.
    """
    blocks = saliency.shape[-1]
    share = saliency / saliency.sum((-2, -1), keepdim=True).clamp(min=torch.finfo(saliency.dtype).tiny)
    own, other = share[partner].clone(), share.clone()  # what is lost where the own image is kept, or the partner's
    smooth = SMOOTH / blocks / 16
    down, across = smooth * FIT * down, smooth * FIT * across
    for fit, first, second in (
        (down, (..., slice(None, -1), slice(None)), (..., slice(1, None), slice(None))),
        (across, (..., slice(None, -1)), (..., slice(1, None))),
    ):
        for side, image in ((other, 0), (own, 1)):
            side[first] += fit[:, image].mean(1)
            side[second] += fit[:, :, image].mean(1)
    joints = [smooth + (fit[:, 1, 0] + fit[:, 0, 1] - fit[:, 1, 1] - fit[:, 0, 0]) / 2 for fit in (down, across)]
    kept, lam = torch.tensor(SHARES)[:, None, None], lam.double()[:, None]
    likely = torch.cat([(1 - lam) ** 2, 2 * lam * (1 - lam), lam**2], -1)  # two tosses of a coin that shows lam
    prior = -(likely + 1e-8).log().to(share.dtype) * PRIOR / blocks**2
    return kept * own[:, None] + (1 - kept) * other[:, None] + prior[..., None, None], joints[0], joints[1]


def least_cost(costs: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return the mask of (nearly) the least cost: the share of the own image in each block, [B, n, n].

    Blocks tell their neighbours, all at once and `ROUNDS` times, what each share would cost them: min-sum belief
    propagation, damped by half, where the authors' code swaps labels by graph cuts. Exact on a single row of blocks,
    an approximation on a grid.

    Args:
        costs, down, across: as `mask_costs` returns them.

    >>> costs, none = torch.tensor([[0.0, 4.0], [1.0, 1.0], [4.0, 0.0]]).reshape(1, 3, 1, 2), torch.zeros(1, 0, 2)
    >>> least_cost(costs, none, torch.tensor([[[1.0]]])), least_cost(costs, none, torch.tensor([[[8.0]]]))
    (tensor([[[0., 1.]]]), tensor([[[0.5000, 0.5000]]]))
    """
    shares = torch.tensor(SHARES, dtype=costs.dtype, device=costs.device)
    apart = (shares[:, None] - shares).square()[..., None, None]  # [3, 3, 1, 1]

    def message(belief: Tensor, weight: Tensor) -> Tensor:
        message = (belief[:, None] + weight[:, None, None] * apart).amin(2)
        return message - message.amin(1, keepdim=True)

    above, below, left, right = (torch.zeros_like(costs) for _ in range(4))  # the message from that side
    for _ in range(ROUNDS):
        belief = costs + above + below + left + right
        from_above = message((belief - below)[:, :, :-1], down)
        from_below = message((belief - above)[:, :, 1:], down)
        from_left = message((belief - right)[..., :-1], across)
        from_right = message((belief - left)[..., 1:], across)
        above = (above + F.pad(from_above, (0, 0, 1, 0))) / 2
        below = (below + F.pad(from_below, (0, 0, 0, 1))) / 2
        left = (left + F.pad(from_left, (1, 0))) / 2
        right = (right + F.pad(from_right, (0, 1))) / 2
    return shares[(costs + above + below + left + right).argmin(1)]


def transport(saliency: Tensor, shown: Tensor) -> Tensor:
    """Return which block to show at each position, so that salient ones are moved to where they are seen, but not far.

    Every block asks for the position where it is worth most: its share of the saliency if it is seen there, less the
    squared distance. A position takes the best block that asks for it, the others ask for their next best position,
    until all have one. The authors' code stops after n rounds and leaves some positions empty; here blocks that nobody
    sees fill those, however far they have to go. The assignment is stable, not the cheapest: no block and position
    would both be better off with each other.

    Source: Kim et al. 2020, https://arxiv.org/abs/2009.06962, section 3.4 and algorithm 1.

    Args:
        saliency: of the blocks, not negative, [B, n, n].
        shown: bool [B, n, n], where something of this image is seen.

    Returns:
        Long [B, n * n], a permutation for each row: at each position the block that goes there, both counted in reading
        order.

    >>> saliency = torch.tensor([[[1.0, 8.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]])
    >>> shown = torch.tensor([[[True, False, False], [False, False, False], [False, False, False]]])
    >>> transport(saliency, shown)
    tensor([[1, 0, 2, 3, 4, 5, 6, 7, 8]])
    """
    rows, blocks = len(saliency), saliency.shape[-1]
    count = blocks * blocks
    share = saliency.flatten(1)
    share = share / share.sum(-1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)
    position = torch.cartesian_prod(torch.arange(blocks), torch.arange(blocks)).to(share)
    far = (position[:, None] - position).square().sum(-1) / max(1, blocks - 1) ** 2
    cost = DISTANCE * far - share[..., None] * shown.flatten(1)[:, None]  # [B, block, position]
    order = torch.arange(count, device=share.device).expand(rows, -1)
    asked = cost.argmin(-1)
    while True:
        price = cost.gather(-1, asked[..., None])[..., 0]
        best = torch.full_like(price, torch.inf).scatter_reduce(1, asked, price, "amin")
        willing = torch.where(price == best.gather(1, asked), order, count)
        assigned = torch.full_like(order, count).scatter_reduce(1, asked, willing, "amin")  # the first of equals
        row, block = (assigned.gather(1, asked) != order).nonzero(as_tuple=True)
        if not len(row):
            return assigned
        cost[row, block, asked[row, block]] = torch.inf
        asked[row, block] = cost[row, block].argmin(-1)


def spread_blocks(shares: Tensor, height: int, width: int) -> Tensor:
    """Return the value of each pixel's block: [B, n, n] -> [B, height, width]; the last blocks reach to the edges.

    >>> spread_blocks(torch.tensor([[[1, 2], [3, 4]]]), 2, 5)
    tensor([[[1, 1, 2, 2, 2],
             [3, 3, 4, 4, 4]]])
    """
    row, column = (
        (torch.arange(side, device=shares.device) // (side // shares.shape[-1])).clamp(max=shares.shape[-1] - 1)
        for side in (height, width)
    )
    return shares[:, row[:, None], column]


def puzzle(x: Tensor, partner: Tensor, shares: Tensor, sources: Tensor) -> Tensor:
    """Mix images by blocks that may have moved: shares * moved own + (1 - shares) * moved partner's.

    Args:
        x: floats [B, C, H, W].
        partner: long [B] with values in [0, B).
        shares: of the own image in each block, in [0, 1], [B, n, n].
        sources: at each position the block that is put there, of the own image and of the partner's, long
            [B, 2, n * n]. Pixels beyond the last whole block stay where they are.

    Returns:
        Tensor like x, in the same memory format.

    Raises:
        TypeError: x is not floating point.
        ValueError: an argument has the wrong shape.

    >>> x = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]]]).expand(2, 1, 2, 2)
    >>> stay = torch.arange(4).expand(2, 2, 4)
    >>> puzzle(x, torch.tensor([1, 0]), torch.tensor([[1.0, 0.5], [1.0, 1.0]]).expand(2, 2, 2), stay)[0, 0]
    tensor([[1., 3.],
            [1., 2.]])
    """
    check_partner(x, partner)
    check_floats(x, "puzzle")
    blocks = shares.shape[-1]
    if x.ndim != 4 or shares.shape != (len(x), blocks, blocks) or sources.shape != (len(x), 2, blocks**2):
        raise ValueError(
            f"puzzle needs x [B, C, H, W], shares [B, n, n] and sources [B, 2, n * n], got {list(x.shape)}, "
            f"{list(shares.shape)} and {list(sources.shape)}"
        )
    height, width = x.shape[-2] // blocks, x.shape[-1] // blocks
    partner, shares, sources = partner.to(x.device), shares.to(x.device), sources.to(x.device)
    whole = x[..., : blocks * height, : blocks * width]
    cut = _in_blocks(whole, blocks).reshape(len(x) * blocks**2, -1)
    first = torch.arange(len(x), device=x.device)[:, None] * blocks**2
    own = cut.index_select(0, (first + sources[:, 0]).flatten())
    other = cut.index_select(0, (first[partner] + sources[:, 1]).flatten())
    mixed = torch.lerp(other, own, shares.reshape(-1, 1).to(x.dtype))  # exact at 0 and 1
    out = torch.empty_like(x)
    if whole.shape != x.shape:
        out.copy_(torch.lerp(x.index_select(0, partner), x, spread_blocks(shares, *x.shape[-2:])[:, None].to(x.dtype)))
    into = _in_blocks(out[..., : blocks * height, : blocks * width], blocks)
    into.copy_(mixed.reshape(into.shape))
    return out


def _in_blocks(x: Tensor, blocks: int) -> Tensor:
    """Return a view [B, n, n, C, h, w] of [B, C, n * h, n * w]."""
    rows = x.unflatten(-1, (blocks, -1)).unflatten(-3, (blocks, -1))
    return rows.permute(0, 2, 4, 1, 3, 5)
