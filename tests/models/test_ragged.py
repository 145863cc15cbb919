"""Patches of all samples in one tensor, and partners of like layout."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hf_mixup import Mixup
from hf_mixup.models.ragged import layouts, ragged_rows
from tests import streams

PARTNER = torch.tensor([2, 3, 0, 1])


def pages(sizes: list[tuple[int, int]], words: int = 8) -> tuple[Any, streams.Batch]:
    """Return Qwen2-VL and a batch whose images have these heights and widths in patches, text padded on the right."""
    model, _ = streams.make(streams.qwen2_vl)
    grids = torch.tensor([(1, *size) for size in sizes])
    counts = grids.prod(1).tolist()
    length = max(counts) + 2 + words
    ids = torch.zeros(len(sizes), length, dtype=torch.long)
    for row, count in enumerate(counts):
        ids[row, : count + 2] = torch.tensor([77, *[75] * count, 78])
        ids[row, count + 2 : count + 2 + words] = torch.randint(5, 60, (words,))
    seen = (ids > 0).long()
    labels = ids.masked_fill((ids == 0) | (ids >= 75), -100)
    patches = {"pixel_values": torch.randn(sum(counts), 384), "image_grid_thw": grids}
    kinds = {"attention_mask": seen, "mm_token_type_ids": (ids == 75).long()}
    return model, {"input_ids": ids, **kinds, **patches, "labels": labels}


def own_part(batch: streams.Batch, which: Tensor) -> streams.Batch:
    """Return some samples of a batch of pages, by hand."""
    ends = batch["image_grid_thw"].prod(1).cumsum(0).tolist()
    patches = [batch["pixel_values"][(0, *ends)[row] : ends[row]] for row in which.tolist()]
    whole = {key: value[which] for key, value in batch.items() if key != "pixel_values"}
    return {**whole, "pixel_values": torch.cat(patches)}


SIZES = [(2, 2), (4, 4), (2, 2), (4, 4)]


def test_rows_are_shared_out_by_the_tokens_that_stand_for_them() -> None:
    model, batch = pages(SIZES)
    assert ragged_rows(model, batch) == {"pixel_values": [4, 16, 4, 16]}
    two = {**batch, "image_grid_thw": torch.tensor([[1, 2, 2], [1, 2, 4], [1, 4, 2], [1, 1, 4], [1, 4, 4]])}
    assert ragged_rows(model, two)["image_grid_thw"] == [1, 2, 1, 1]
    del batch["pixel_values"]
    assert ragged_rows(model, batch) == {}


@pytest.mark.parametrize("method", ["mixup", "embedding", "manifold"])
def test_images_of_two_sizes_are_mixed_with_those_of_their_own(method: str) -> None:
    model, batch = pages(SIZES)
    with torch.no_grad():
        expected = {1.0: model(**batch).loss, 0.0: model(**own_part(batch, PARTNER)).loss}
        partner = torch.tensor([2, 1, 2, 1])  # no permutation, so that the losses differ
        expected[-1.0] = model(**own_part(batch, partner)).loss
        for lam, chosen in ((1.0, PARTNER), (0.0, PARTNER), (-1.0, partner)):
            with Mixup(method)(model, batch, partner=chosen, lam=max(lam, 0)) as mixed:
                loss = mixed.loss(model(**mixed.inputs))
            assert torch.allclose(loss, expected[lam], rtol=1e-4)


@pytest.mark.parametrize("method", ["mixup", "embedding", "manifold"])
def test_partners_are_drawn_among_images_of_like_size(method: str) -> None:
    model, batch = pages([(2, 2), (4, 4), (2, 2), (4, 4), (2, 4)])
    mixup = Mixup(method)
    for _ in range(8):
        assert mixup(model, batch).partner.tolist() == [2, 3, 0, 1, 4]
    with pytest.raises(ValueError, match="sample 0 and its partner 1 have other layouts"):
        mixup(model, batch, partner=torch.tensor([1, 0, 3, 2, 4]))


def test_layouts_are_positions_of_images_and_their_sizes() -> None:
    model = nn.Identity()
    model.config = SimpleNamespace(image_token_id=9)  # type: ignore[assignment]
    ids = torch.tensor([[9, 1, 2], [9, 3, 4], [1, 9, 2]])
    assert layouts(model, {"input_ids": ids}, tokens=True).tolist() == [0, 0, 1]  # type: ignore[union-attr]
    assert layouts(model, {"input_ids": ids}, tokens=False) is None
    sizes = torch.tensor([[4, 4], [4, 2], [4, 4]])
    found = layouts(model, {"input_ids": ids, "image_sizes": sizes}, tokens=False)
    assert found is not None
    assert found.tolist() == [0, 1, 0]
