"""Puzzle Mix: costs, mask, moves and the mix itself, each against the same by loops or by trying everything."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.functional.puzzle import (
    block_means,
    edge_differences,
    least_cost,
    mask_costs,
    puzzle,
    spread_blocks,
    transport,
)
from hf_mixup.models.saliency import input_saliency
from tests.conftest import build
from tests.methods.images import images, looking, mixed_by, rng, same_traces, traces


def drawn_costs(rows: int, blocks: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g, side = rng(seed), 4 * blocks
    saliency = block_means(torch.randn(rows, side, side, generator=g).exp(), blocks)
    x, partner = torch.rand(rows, 3, side, side, generator=g), torch.arange(rows).roll(1)
    return mask_costs(saliency, partner, *edge_differences(x, partner, blocks), torch.rand(rows, generator=g))


def total(costs: Tensor, down: Tensor, across: Tensor, mask: Tensor) -> float:
    """What one sample's mask costs, block by block."""
    blocks, found = len(mask), 0.0
    for i, j in itertools.product(range(blocks), repeat=2):
        found += float(costs[round(2 * float(mask[i, j])), i, j])
        if i + 1 < blocks:
            found += float(down[i, j]) * float(mask[i, j] - mask[i + 1, j]) ** 2
        if j + 1 < blocks:
            found += float(across[i, j]) * float(mask[i, j] - mask[i, j + 1]) ** 2
    return found


@pytest.mark.parametrize(("height", "width", "blocks"), [(16, 16, 2), (24, 16, 4), (13, 11, 3), (9, 9, 4)])
def test_costs_are_the_papers_terms(height: int, width: int, blocks: int) -> None:
    """A mask of zeros and ones costs, up to a constant: saliency hidden, edges, like labels, and the prior."""
    g, rows = rng(), 3
    x = torch.rand(rows, 2, height, width, generator=g, dtype=torch.float64)
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 0, 1  # the range is that of images
    saliency = torch.rand(rows, blocks, blocks, generator=g, dtype=torch.float64)
    partner, lam = torch.tensor([1, 2, 0]), torch.tensor([0.3, 0.5, 0.9])
    costs, down, across = mask_costs(saliency, partner, *edge_differences(x, partner, blocks), lam)
    h, w = height // blocks, width // blocks
    cells = max(1, min(h, w) // 4)

    def cell(image: Tensor, i: int, j: int) -> Tensor:
        """Mean over a cell, which shares a row of pixels with its neighbour where it has to."""
        ends = [
            (block * side + part * side // cells, block * side - (-(part + 1) * side // cells))
            for block, part, side in ((i // cells, i % cells, h), (j // cells, j % cells, w))
        ]
        (top, bottom), (left, right) = ends
        return image[:, top:bottom, left:right].mean((1, 2))

    def expected(row: int, mask: Tensor) -> float:
        shown = (x[partner[row]], x[row])
        smooth, found = 1.2 / blocks / 16, 0.0
        for i, j in itertools.product(range(blocks), repeat=2):
            own = int(mask[i, j])
            lost = saliency[partner[row]] if own else saliency[row]
            found += float(lost[i, j] / lost.sum())
            share = float(lam[row]) if own else 1 - float(lam[row])
            found -= 0.2 / blocks**2 * math.log(share**2 + 1e-8)
            for di, dj in ((1, 0), (0, 1)):
                if i + di >= blocks or j + dj >= blocks:
                    continue
                other, differences = int(mask[i + di, j + dj]), []
                for along in range(cells):
                    if di:
                        a, b = (cells * (i + 1) - 1, cells * j + along), (cells * (i + 1), cells * j + along)
                    else:
                        a, b = (cells * i + along, cells * (j + 1) - 1), (cells * i + along, cells * (j + 1))
                    differences.append(float((cell(shown[own], *a) - cell(shown[other], *b)).abs().mean()))
                found += smooth * ((own != other) + 0.5 * sum(differences) / cells)
        return found

    for row in range(rows):
        masks = [(torch.rand(blocks, blocks, generator=g) < 0.5).double() for _ in range(5)]
        offsets = [total(costs[row], down[row], across[row], mask) - expected(row, mask) for mask in masks]
        assert offsets == pytest.approx([offsets[0]] * 5, abs=1e-7)
    two = 2 * 0.3 * 0.7  # both shares half: the mean of the unary costs, and the prior of the middle
    middle = (costs[0, 0] + costs[0, 2]) / 2
    shift = 0.2 / blocks**2 * (-math.log(two + 1e-8) + (math.log(0.49 + 1e-8) + math.log(0.09 + 1e-8)) / 2)
    torch.testing.assert_close(costs[0, 1], middle + shift, rtol=1e-6, atol=1e-8)


def test_the_mask_costs_least() -> None:
    for seed in range(3):
        costs, down, across = drawn_costs(8, 2, seed)
        found = least_cost(costs, down, across)
        for row in range(8):
            tried = [
                total(costs[row], down[row], across[row], torch.tensor(each).reshape(2, 2))
                for each in itertools.product((0.0, 0.5, 1.0), repeat=4)
            ]
            assert total(costs[row], down[row], across[row], found[row]) == pytest.approx(min(tried), rel=1e-5)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0])] * 9).reshape(-1, 3, 3)
    costs, down, across = (each[0] for each in drawn_costs(1, 3))
    label = (2 * every).long()
    sums = torch.stack([costs[:, i, j][label[:, i, j]] for i in range(3) for j in range(3)]).sum(0)
    sums += ((every[:, 1:] - every[:, :-1]).square() * down).sum((1, 2))
    sums += ((every[:, :, 1:] - every[:, :, :-1]).square() * across).sum((1, 2))
    found = least_cost(costs[None], down[None], across[None])[0]
    assert total(costs, down, across, found) <= float(sums.min()) * 1.005
    chain = torch.rand(5, 3, 1, 6, generator=rng(4))  # exact without loops
    weight = torch.rand(5, 1, 5, generator=rng(5))
    found = least_cost(chain, torch.zeros(5, 0, 6), weight)
    for row in range(5):
        best = min(
            sum(float(chain[row, round(2 * z), 0, j]) for j, z in enumerate(each))
            + sum(float(weight[row, 0, j]) * (each[j] - each[j + 1]) ** 2 for j in range(5))
            for each in itertools.product((0.0, 0.5, 1.0), repeat=6)
        )
        own = found[row, 0].tolist()
        cost = sum(float(chain[row, round(2 * z), 0, j]) for j, z in enumerate(own))
        cost += sum(float(weight[row, 0, j]) * (own[j] - own[j + 1]) ** 2 for j in range(5))
        assert cost == pytest.approx(best, rel=1e-5)


def loop_transport(saliency: Tensor, shown: Tensor) -> tuple[list[int], list[list[float]]]:
    """One sample: blocks ask one after another, as in the proof of stable matching; the order is of no matter."""
    blocks = len(saliency)
    count, share = blocks**2, (saliency / saliency.sum()).flatten()
    cost = [
        [
            0.8 * ((a // blocks - b // blocks) ** 2 + (a % blocks - b % blocks) ** 2) / max(1, blocks - 1) ** 2
            - float(share[a]) * bool(shown.flatten()[b])
            for b in range(count)
        ]
        for a in range(count)
    ]
    wish = [sorted(range(count), key=lambda place, a=a: (cost[a][place], place)) for a in range(count)]
    at: list[int | None] = [None] * count
    free = list(range(count))
    while free:
        block = free.pop()
        place = wish[block].pop(0)
        held = at[place]
        if held is None or (cost[block][place], block) < (cost[held][place], held):
            at[place] = block
            if held is not None:
                free.append(held)
        else:
            free.append(block)
    return [int(block) for block in at if block is not None], cost


def published_transport(saliency: Tensor, shown: Tensor) -> list[int | None]:
    """One sample by the rule of the authors' code: n rounds, in which whoever loses a place finds it dearer by 1.

    None for a place that is left empty.
    """
    _, cost = loop_transport(saliency, shown)
    count = len(cost)
    for _ in range(len(saliency)):
        wanted = [min(range(count), key=lambda place, a=a: cost[a][place]) for a in range(count)]
        asked = [[cost[a][place] if wanted[a] == place else 0.0 for a in range(count)] for place in range(count)]
        best = [min(range(count), key=lambda a, place=place: asked[place][a]) for place in range(count)]
        won = [best[wanted[a]] == a for a in range(count)]
        for a in range(count):
            cost[a][wanted[a]] += not won[a]
    at: list[int | None] = [None] * count
    for a in range(count):
        if won[a]:
            at[wanted[a]] = a
    return at


@pytest.mark.parametrize("blocks", [2, 4, 8])
def test_transport_is_that_of_the_published_code(blocks: int) -> None:
    g, rows = rng(blocks), 8
    saliency = torch.rand(rows, blocks, blocks, generator=g, dtype=torch.float64) ** 4
    shown = torch.rand(rows, blocks, blocks, generator=g) < torch.rand(rows, 1, 1, generator=g)
    found, stayed = transport(saliency, shown), list(range(blocks**2))
    for row in range(rows):
        expected = published_transport(saliency[row], shown[row])
        for place, block in enumerate(expected):
            assert block in (None, int(found[row, place]))
            assert block is not None or not shown[row].flatten()[place]
        assert (found[row].tolist() == stayed) == all(block in (None, place) for place, block in enumerate(expected))


def test_no_sample_stays_as_it_is_because_the_way_is_dear() -> None:
    """What nobody sees may have to go far, and costs more than all that is gained; the image moves all the same."""
    saliency, shown, dear = torch.rand(20, 8, 8, generator=rng()) ** 3, torch.zeros(20, 8, 8, dtype=torch.bool), 0
    saliency[:, 0, 0] = 1.0
    shown[:, 1:6, 1:8] = True
    found = transport(saliency, shown)
    for row in range(20):
        at, cost = loop_transport(saliency[row], shown[row])
        dear += sum(cost[b][p] for p, b in enumerate(at)) > sum(cost[a][a] for a in range(64))
        assert found[row].tolist() == at != sorted(at)
    assert dear > 10


@pytest.mark.parametrize("blocks", [1, 2, 4, 6])
def test_transport_is_the_stable_assignment(blocks: int) -> None:
    g, rows, moved = rng(blocks), 12, 0
    saliency = torch.randn(rows, blocks, blocks, generator=g, dtype=torch.float64).mul(2).exp()
    shown = torch.rand(rows, blocks, blocks, generator=g) < 0.4
    saliency[0], shown[1], shown[2] = 0.0, True, False
    saliency[0, 0, 0] = 1.0  # all others are equal
    found = transport(saliency, shown)
    for row in range(rows):
        expected, cost = loop_transport(saliency[row], shown[row])
        assert found[row].tolist() == expected
        assert sorted(expected) == list(range(blocks**2))
        at = linear_sum_assignment(torch.tensor(cost).numpy())
        least = sum(cost[a][b] for a, b in zip(*at, strict=True))
        paid = {place: cost[block][place] for place, block in enumerate(expected)}
        assert sum(paid.values()) >= least - 1e-9
        for block, place in itertools.product(range(blocks**2), repeat=2):  # nobody and no place would rather swap
            assert cost[block][place] >= min(paid[place], paid[expected.index(block)]) - 1e-9
        moved += expected != sorted(expected)
    assert found[1].tolist() == found[2].tolist() == list(range(blocks**2))  # all or nothing is seen
    assert moved or blocks < 4


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (3, 3, 9, 11), (1, 1, 4, 6), (2, 2, 7, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_puzzle_is_a_loop_over_pixels(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    rows, (height, width) = shape[0], shape[-2:]
    for blocks in (1, 2, 4):
        g = rng(blocks)
        x = torch.randn(shape, generator=g).to(dtype).contiguous(memory_format=torch.channels_last)
        partner = torch.randint(rows, (rows,), generator=g)
        shares = torch.randint(3, (rows, blocks, blocks), generator=g) / 2
        sources = torch.stack([torch.stack([torch.randperm(blocks**2, generator=g) for _ in range(2)]) for _ in x])
        h, w = height // blocks, width // blocks
        expected = torch.zeros(shape, dtype=torch.float64)
        for row, i, j in itertools.product(range(rows), range(height), range(width)):
            place = min(i // h, blocks - 1) * blocks + min(j // w, blocks - 1)
            at = []
            for which in range(2):
                source = int(sources[row, which, place])
                inside = i < h * blocks and j < w * blocks
                at.append((source // blocks * h + i % h, source % blocks * w + j % w) if inside else (i, j))
            own = float(shares[row].flatten()[place])
            one, other = x[row, :, at[0][0], at[0][1]], x[partner[row], :, at[1][0], at[1][1]]
            expected[row, :, i, j] = own * one.double() + (1 - own) * other.double()
        before = x.clone()
        found = puzzle(x, partner, shares, sources)
        assert found.dtype == dtype
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-7)
        assert torch.equal(x, before)
        exact = (spread_blocks(shares, height, width) != 0.5)[:, None]
        assert torch.equal(found.double().where(exact, 0), expected.where(exact, 0))


def test_bad_input_of_the_kernel_is_named() -> None:
    x, partner, stay = torch.zeros(2, 3, 4, 4), torch.tensor([1, 0]), torch.arange(4).expand(2, 2, 4)
    with pytest.raises(TypeError, match="int64"):
        puzzle(x.long(), partner, torch.ones(2, 2, 2), stay)
    with pytest.raises(ValueError, match=r"got \[2, 3, 4, 4\], \[2, 3, 3\] and \[2, 2, 4\]"):
        puzzle(x, partner, torch.ones(2, 3, 3), stay)
    with pytest.raises(ValueError, match="partner"):
        puzzle(x, partner[:1], torch.ones(2, 2, 2), stay)


# the method


@pytest.mark.parametrize(("lam_per", "size"), [("batch", (19, 33)), ("pair", (16, 16)), ("sample", (16, 16))])
def test_puzzlemix_step_by_step(lam_per: str, size: tuple[int, int]) -> None:
    model, batch = build("resnet").train(), images(5, *size)
    x, seen = batch["pixel_values"], set()
    saliency = input_saliency(model, {"pixel_values": x}, "pixel_values", batch["labels"])
    for seed in range(3):
        with Mixup(MixupConfig(method="mixup", lam_per=lam_per, draw_seed=seed))(model, batch) as plain:
            lam, partner = plain.lam, plain.partner
        before = traces(model)
        mixed = mixed_by("puzzlemix", batch, model, lam_per=lam_per, draw_seed=seed)
        assert same_traces(before, traces(model))
        assert torch.equal(mixed.partner, partner)
        blocks = mixed.draw.mask.shape[-1]
        seen.add(blocks)
        means = block_means(saliency, blocks)
        costs = mask_costs(means, partner, *edge_differences(x, partner, blocks), lam)
        shares = least_cost(*costs)
        torch.testing.assert_close(mixed.draw.mask, shares)
        for row, other in enumerate(partner.tolist()):
            for which, source, shown in ((0, row, shares[row] > 0), (1, other, shares[row] < 1)):
                expected, _ = loop_transport(means[source].double(), shown)
                assert mixed.draw.sources[row, which].tolist() == expected
        torch.testing.assert_close(mixed.inputs["pixel_values"], puzzle(x, partner, shares, mixed.draw.sources))
        torch.testing.assert_close(mixed.lam, spread_blocks(shares, *size).double().mean((1, 2)).float())
        kept = mixed_by("puzzlemix", batch, model, lam_per=lam_per, draw_seed=seed, correct_lam=False)
        torch.testing.assert_close(kept.lam, lam)
    assert seen <= {2, 4, 8, 16}
    assert len(seen) > 1


def test_lam_is_expected_and_the_ends_are_exact() -> None:
    model, batch = build("vit").train(), images(8)
    x = batch["pixel_values"]
    shares = [float(mixed_by("puzzlemix", batch, model, lam=lam).lam.mean()) for lam in (0.1, 0.5, 0.9)]
    assert shares == sorted(shares)
    assert shares[0] < 0.4 < 0.6 < shares[2]
    given = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.3, 0.0, 0.7, 1.0])
    mixed = mixed_by("puzzlemix", batch, model, lam=given)
    out = mixed.inputs["pixel_values"]
    for row, lam in enumerate(given.tolist()):
        if lam in (0.0, 1.0):
            assert float(mixed.lam[row]) == lam
            assert torch.equal(out[row], x[row] if lam else x[mixed.partner[row]])
    alone = mixed_by("puzzlemix", batch, model, lam=0.5, partner=torch.tensor([0, 2, 1, 3, 5, 4, 7, 6]))
    assert torch.equal(alone.inputs["pixel_values"][[0, 3]], x[[0, 3]])
    single = mixed_by("puzzlemix", images(1), model, lam=0.3)
    assert torch.equal(single.inputs["pixel_values"], images(1)["pixel_values"])
    written = mixed_by("puzzlemix", batch, model, lam=0.5, inplace=True)
    assert written.inputs["pixel_values"] is x
    with pytest.raises(ValueError, match=r"cuts images into 2 x 2 blocks or more, found \[1, 9\]"):
        mixed_by("puzzlemix", images(2, 1, 9), model, lam=0.5)


def test_training_with_puzzlemix(arguments: Any) -> None:
    guide = looking(3)
    before = traces(guide)
    rows = [{"pixel_values": x, "labels": int(y)} for x, y in zip(*images(9).values(), strict=True)]
    for settings in ({"guide": guide}, {}):
        trainer = MixupTrainer(
            model=build("resnet"), args=arguments(max_steps=3), train_dataset=rows, mixup="puzzlemix", **settings
        )
        assert math.isfinite(trainer.train().training_loss)
    torch.set_rng_state(before[3])  # the Trainer's own seed
    assert same_traces(before, traces(guide))
