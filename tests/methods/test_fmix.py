"""FMix: its mask keeps the share that was drawn."""

from __future__ import annotations

import pytest
import torch

from hf_mixup.functional.masks import mask_lam
from tests.methods.images import draw


@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
@pytest.mark.parametrize("size", [(12, 9), (7, 7), (4, 16)])
def test_fmix_keeps_the_share_that_was_drawn(lam_per: str, size: tuple[int, int]) -> None:
    pixels, seen = size[0] * size[1], set()
    for seed in range(10):
        record, asked = (draw("fmix", 7, size, seed, lam_per=lam_per, correct_lam=exact) for exact in (True, False))
        assert torch.equal(record.mask, asked.mask)
        expected = (asked.lam.double() * pixels).round() / pixels
        assert torch.equal(record.lam, expected.float())
        assert torch.equal(record.lam, mask_lam(record.mask).expand(7))
        seen.add(record.mask.shape[0])
    assert seen == ({1} if lam_per == "batch" else {7})
