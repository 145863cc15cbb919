"""Patches of all samples in one tensor, and partners of like layout."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor, nn

from hf_mixup import Mixup
from hf_mixup.models.ragged import layouts, ragged_rows
from tests import pair_models, streams

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


def qwen3_vl() -> Any:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    text = {**streams.SMALL, "vocab_size": 80, "num_key_value_heads": 2, "head_dim": 8, "rope_parameters": rope}
    vision = {"hidden_size": 16, "intermediate_size": 32, "depth": 2, "num_heads": 2, "out_hidden_size": 16}
    vision |= {
        "patch_size": 8,
        "spatial_merge_size": 1,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    }
    tokens = {"image_token_id": 75, "vision_start_token_id": 77, "vision_end_token_id": 78, "video_token_id": 76}
    config = tr.Qwen3VLConfig(text_config=text, vision_config=vision, **tokens)
    return tr.Qwen3VLForConditionalGeneration(config)


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


@pytest.mark.parametrize("settings", [{"method": "mixup"}, {"method": "embedding"}, {"method": "mixup", "loss": "own"}])
def test_images_that_enter_at_several_depths_are_mixed(settings: dict[str, str]) -> None:
    """Qwen3-VL looks up where its patches lie, and adds what its vision tower sees to the states of several blocks."""
    model, (_, batch) = streams.make(lambda: (qwen3_vl(), {}))[0], pages([(2, 2)] * 4)
    partner = torch.tensor([2, 1, 2, 1])
    with torch.no_grad():
        ends = {1.0: model(**batch).loss, 0.0: model(**own_part(batch, partner)).loss}
        for lam, expected in ends.items():
            with Mixup(settings)(model, batch, partner=partner, lam=lam) as mixed:
                loss = mixed.loss(mixed.forward(model))
            torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
        with pytest.raises(RuntimeError, match=r"at depth 1: with lam = 0 .* Use 'mixup'"):
            Mixup({**settings, "method": "manifold"})(model, batch)


def strips() -> tuple[Any, streams.Batch]:
    """Return MiniCPM-V and a batch of two small and two large images, all of whose patches lie beside each other."""
    text = {**streams.SMALL, "model_type": "qwen3_5_text", "vocab_size": 80, "head_dim": 8, "num_key_value_heads": 2}
    text |= {f"linear_{part}": 8 for part in ("key_head_dim", "value_head_dim")}
    text |= {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "layer_types": ["full_attention"] * 2}
    config = tr.MiniCPMV4_6Config(
        text_config=text, vision_config={**streams.IMAGE}, image_token_id=75, insert_layer_id=0
    )
    model = tr.MiniCPMV4_6ForConditionalGeneration(config)
    sizes = torch.tensor([[4, 4], [4, 8], [4, 4], [4, 8]])
    ids = torch.randint(5, 60, (4, 8))
    ids[:, :1] = 75
    ids[1::2, :2] = 75
    batch = {"pixel_values": torch.randn(1, 3, 8, 8 * int(sizes.prod(1).sum())), "target_sizes": sizes}
    return model, {"input_ids": ids, **batch, "labels": ids.masked_fill(ids == 75, -100)}


@pytest.mark.parametrize("settings", [{"method": "mixup"}, {"method": "embedding"}, {"method": "mixup", "loss": "own"}])
def test_images_whose_patches_lie_beside_each_other(settings: dict[str, str]) -> None:
    model, batch = streams.make(strips)
    parts, partner = batch["pixel_values"].split([128, 256, 128, 256], -1), [2, 1, 2, 1]
    others = {key: value[partner] for key, value in batch.items() if key != "pixel_values"}
    others["pixel_values"] = torch.cat([parts[row] for row in partner], -1)
    assert ragged_rows(model, batch) == {"pixel_values": [128, 256, 128, 256]}
    with torch.no_grad():
        for lam, expected in ((1.0, model(**batch).loss), (0.0, model(**others).loss)):
            with Mixup(settings)(model, batch, partner=torch.tensor(partner), lam=lam) as mixed:
                loss = mixed.loss(mixed.forward(model))
            torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


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


def test_a_batch_without_two_like_samples_is_said_to_be_unmixed() -> None:
    model, batch = pages([(2, 2), (4, 4), (2, 4)])
    with pytest.warns(UserWarning, match="no two samples of this batch have images of one size"):
        assert Mixup("mixup")(model, batch).rate == 0


@pytest.mark.parametrize("settings", [{}, {"image_mix": "latent"}])
def test_pairs_of_images_of_two_sizes(settings: dict[str, str]) -> None:
    model = pair_models.build("Siglip2Model")
    batch = pair_models.batch(model, rows=6)
    small = torch.tensor([0, 2, 4])
    batch["spatial_shapes"][small] = torch.tensor([2, 4])
    batch["pixel_attention_mask"][small, 8:] = 0
    own = batch["spatial_shapes"].prod(1)
    drawn = [Mixup({"method": "cross_modal", **settings})(model, batch).partner for _ in range(6)]
    assert all(torch.equal(own, own[partner]) for partner in drawn) == (not settings)
    partner = torch.tensor([2, 3, 4, 5, 0, 1])
    with torch.no_grad():
        plain = model(**batch).image_embeds
        with Mixup({"method": "cross_modal", **settings})(model, batch, partner=partner, lam=0.0) as mixed:
            assert torch.allclose(model(**mixed.inputs).image_embeds, plain[partner], atol=1e-5)
    if not settings:
        with pytest.raises(ValueError, match="sample 0 and its partner 1 have other layouts"):
            Mixup("cross_modal")(model, batch, partner=torch.tensor([1, 0, 2, 3, 4, 5]))
