"""PatchMix: whole patches of the model."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hf_mixup import MixupConfig
from hf_mixup.methods.base import Request
from tests.methods.images import randn, rng


@pytest.mark.parametrize(("height", "width", "patch"), [(16, 16, 8), (13, 20, 4), (12, 9, (4, 3)), (8, 8, 8)])
def test_patchmix_takes_whole_patches(height: int, width: int, patch: Any) -> None:
    model = torch.nn.Identity()
    model.config = SimpleNamespace(patch_size=patch)
    down, across = patch if isinstance(patch, tuple) else (patch, patch)
    cells = (height // down) * (width // across)
    batch, given, seen = {"pixel_values": randn(9, 3, height, width)}, torch.rand(9, generator=rng(5)), set()
    mixing = MixupConfig(method="patchmix", lam_per="sample").mixing
    record = mixing.draw(Request(model, batch, torch.arange(9), 1.0, rng(), lam=given))
    for row in range(9):
        kept = {}
        for i, j in itertools.product(range(height), range(width)):
            cell = (min(i // down, height // down - 1), min(j // across, width // across - 1))
            assert kept.setdefault(cell, bool(record.mask[row, i, j])) == bool(record.mask[row, i, j])
        assert sum(kept.values()) == round(float(given[row]) * cells)
        assert record.lam[row] == record.mask[row].double().mean().float()
        seen.add(tuple(sorted(cell for cell in kept if kept[cell])))
    assert len(seen) > 4 or cells == 1
    with pytest.raises(ValueError, match=r"Identity tells no patch_size.*use 'gridmix'"):
        mixing.draw(Request(torch.nn.Identity(), batch, torch.arange(9), 1.0, rng()))
    with pytest.raises(ValueError, match="2 x 9 pixels hold no patch"):
        mixing.draw(Request(model, {"pixel_values": randn(2, 3, 2, 9)}, torch.arange(2), 1.0, rng()))
