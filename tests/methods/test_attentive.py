"""Attentive CutMix: the most attended cells of the partner, one at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_mixup import Mixup, MixupConfig
from hf_mixup.functional.masks import enlarge_cells, top_cells
from hf_mixup.models.attention import attention_grid
from tests.conftest import build
from tests.methods.images import images, mixed_by, own_pixels


def test_top_cells_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(4, (6, 3, 5), generator=generator).double()
    count = torch.tensor([0, 1, 4, 7, 14, 15])
    found = top_cells(scores, count)
    for row, wanted in enumerate(count.tolist()):
        ranked = sorted(range(15), key=lambda cell: (-float(scores[row].flatten()[cell]), cell))
        assert sorted(ranked[:wanted]) == found[row].flatten().nonzero().flatten().tolist()
    pixels = enlarge_cells(found, 7, 11)
    for y in range(7):
        for x in range(11):
            assert torch.equal(pixels[:, y, x], found[:, y * 3 // 7, x * 5 // 11])


@pytest.mark.parametrize("name", ["vit", "resnet"])
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_attentive_pastes_the_most_attended_cells(name: str, lam_per: str) -> None:
    height, width = (16, 16) if name == "vit" else (39, 26)
    model, batch = build(name).train(), images(5, height, width)
    x = batch["pixel_values"]
    grid = attention_grid(model, {"pixel_values": x}, x)
    rows, columns = grid.shape[1:]
    mixed = mixed_by("attentive", batch, model, lam_per=lam_per, draw_seed=3)
    with Mixup(MixupConfig(method="mixup", lam_per=lam_per, draw_seed=3))(model, batch) as plain:
        lam, partner = plain.lam.double(), plain.partner
    assert torch.equal(mixed.partner, partner)
    kept = own_pixels(mixed, height, width)
    for row, other in enumerate(partner.tolist()):
        count = round((1 - float(lam[row])) * rows * columns)
        best = grid[other].flatten().sort(descending=True).indices[:count].tolist()
        for y in range(height):
            for z in range(width):
                cell = (y * rows // height) * columns + z * columns // width
                assert bool(kept[row, y, z]) == (cell not in best)
        assert torch.equal(mixed.inputs["pixel_values"][row], torch.where(kept[row], x[row], x[other]))
        assert float(mixed.lam[row]) == pytest.approx(float(kept[row].double().mean()), abs=1e-7)
    assert float(mixed.lam.min()) > 0 or lam_per == "sample"


def test_attentive_leaves_alone_what_it_should() -> None:
    model, batch = build("vit").train(), images(4)
    before = batch["pixel_values"].clone()
    seen: list[Any] = []
    handle = model.register_forward_pre_hook(lambda module, args: seen.append(module.training))
    untouched = mixed_by("attentive", batch, model, lam=1.0)
    assert untouched.inputs["pixel_values"] is batch["pixel_values"]
    assert not seen
    mixed = mixed_by("attentive", batch, model, lam=torch.tensor([1.0, 0.5, 1.0, 0.0]))
    assert seen == [False]  # one pass, in evaluation mode
    handle.remove()
    assert mixed.lam.tolist() == [1, 0.5, 1, 0]
    assert torch.equal(mixed.inputs["pixel_values"][::2], before[::2])
    assert torch.equal(mixed.inputs["pixel_values"][3], before[mixed.partner[3]])
    assert torch.equal(batch["pixel_values"], before)
    assert all(p.grad is None for p in model.parameters())
    single = mixed_by("attentive", images(1), model, lam=0.3)
    assert torch.equal(single.inputs["pixel_values"], images(1)["pixel_values"])
    narrow = {**images(3), "pixel_values": images(3)["pixel_values"].contiguous(memory_format=torch.channels_last)}
    out = mixed_by("attentive", narrow, model, lam=0.5).inputs["pixel_values"]
    assert out.is_contiguous(memory_format=torch.channels_last)
    halved = {**batch, "pixel_values": before.bfloat16()}
    assert mixed_by("attentive", halved, model.bfloat16(), lam=0.5).inputs["pixel_values"].dtype == torch.bfloat16
    written = mixed_by("attentive", batch, model.float(), lam=0.5, inplace=True)
    assert written.inputs["pixel_values"] is batch["pixel_values"]
    assert not torch.equal(batch["pixel_values"], before)


def test_the_papers_share() -> None:
    model, batch = build("resnet").eval(), images(2, 56, 56)
    mixed = mixed_by("attentive", batch, model, lam=0.8776)
    cells = attention_grid(model, {"pixel_values": batch["pixel_values"]}, batch["pixel_values"])[0].numel()
    assert cells == 49
    assert mixed.lam.tolist() == pytest.approx([1 - 6 / 49] * 2)
