"""Targets and losses of pairs against loops in float64, and against the losses of transformers' models."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hf_mixup.engine.caption_ids import caption_keys
from hf_mixup.functional import (
    contrastive_cross_entropy,
    cosine_overlap,
    mix_rows,
    pair_targets,
    relevance_of,
    slerp,
    soft_info_nce,
    soft_sigmoid_loss,
)
from tests import pair_models


def draw(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(rows, (rows,), generator=generator), torch.rand(rows, generator=generator)


def operator(mix: tuple[Tensor, Tensor] | None, rows: int) -> list[list[float]]:
    """M = diag(lam) + diag(1 - lam) P, entry by entry."""
    matrix = [[0.0] * rows for _ in range(rows)]
    for i in range(rows):
        if mix is None:
            matrix[i][i] = 1.0
        else:
            matrix[i][i] += float(mix[1][i])
            matrix[i][int(mix[0][i])] += 1 - float(mix[1][i])
    return matrix


def overlap(left: list[list[float]], relevance: Tensor, right: list[list[float]], i: int, j: int) -> float:
    rows = len(left)
    return sum(left[i][k] * float(relevance[k, m]) * right[j][m] for k in range(rows) for m in range(rows))


@pytest.mark.parametrize("rows", [1, 2, 5, 7])
@pytest.mark.parametrize("sides", ["neither", "image", "text", "both", "apart"])
@pytest.mark.parametrize("duplicates", [False, True])
def test_targets_are_the_overlaps_of_the_mixes(rows: int, sides: str, duplicates: bool) -> None:
    keys = torch.arange(rows) // 2 if duplicates else torch.arange(rows)
    relevance = relevance_of(keys)
    image = draw(rows, 1) if sides in ("image", "both", "apart") else None
    text = {"text": draw(rows, 2), "both": image, "apart": draw(rows, 2)}.get(sides)
    found, scaled = pair_targets(relevance, image, text), cosine_overlap(relevance, image, text)
    left, right = operator(image, rows), operator(text, rows)
    for i in range(rows):
        for j in range(rows):
            expected = overlap(left, relevance, right, i, j)
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-6)
            lengths = overlap(left, relevance, left, i, i) * overlap(right, relevance, right, j, j)
            assert float(scaled[i, j]) == pytest.approx(expected / math.sqrt(lengths), abs=1e-5)
    if sides == "both":
        torch.testing.assert_close(scaled.diagonal(), torch.ones(rows))


def test_unique_pairs_mixed_on_one_side_have_two_targets() -> None:
    partner, lam = torch.tensor([2, 0, 1]), torch.tensor([0.3, 0.8, 0.6])
    targets = pair_targets(torch.eye(3), rows=(partner, lam))
    assert ((targets > 0).sum(-1) == 2).all()
    torch.testing.assert_close(targets.sum(-1), torch.ones(3))
    torch.testing.assert_close(targets.diagonal(), lam)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_the_loops(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 5, generator=generator, dtype=torch.float64) * 3
    targets = cosine_overlap(relevance_of(torch.tensor([0, 1, 1, 2, 3])), draw(5, 3), draw(5, 4)).double()

    def direction(scores: Tensor, wanted: Tensor) -> float:
        total = 0.0
        for i in range(5):
            log_sum = math.log(sum(math.exp(float(value)) for value in scores[i]))
            mass = float(wanted[i].sum())
            for j in range(5):
                share = (1 - smoothing) * float(wanted[i, j]) / mass + smoothing / 5
                total -= share * (float(scores[i, j]) - log_sum) / 5
        return total

    expected = (direction(logits, targets) + direction(logits.T, targets.T)) / 2
    assert float(soft_info_nce(logits, targets, label_smoothing=smoothing)) == pytest.approx(expected)
    assert float(contrastive_cross_entropy(logits, targets, smoothing)) == pytest.approx(direction(logits, targets))
    summed = 0.0
    for i in range(5):
        for j in range(5):
            share, p = (1 - smoothing) * float(targets[i, j]) + smoothing / 5, 1 / (1 + math.exp(-float(logits[i, j])))
            summed -= share * math.log(p) + (1 - share) * math.log(1 - p)
    assert float(soft_sigmoid_loss(logits, targets, smoothing)) == pytest.approx(summed / 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_compute_in_float32(dtype: torch.dtype) -> None:
    logits = (torch.randn(4, 4, generator=torch.Generator().manual_seed(0)) * 5).to(dtype)
    for loss in (soft_info_nce, soft_sigmoid_loss):
        torch.testing.assert_close(loss(logits, torch.eye(4)), loss(logits.float(), torch.eye(4)))


def test_a_row_without_mass_adds_nothing() -> None:
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    logits = torch.randn(2, 2, requires_grad=True)
    loss = soft_info_nce(logits, targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_shapes_that_differ_are_refused() -> None:
    for loss in (contrastive_cross_entropy, soft_sigmoid_loss):
        with pytest.raises(ValueError, match=r"logits \[2, 3\] and targets \[3, 3\]"):
            loss(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(IndexError):
        mix_rows(torch.zeros(2, 2), (torch.tensor([0, 2]), torch.tensor(0.5)))


# Which of transformers' own losses is right, and how it is got from ours.
OWN: dict[str, Any] = {
    "CLIPModel": soft_info_nce,
    "ChineseCLIPModel": soft_info_nce,
    "AltCLIPModel": soft_info_nce,
    "MetaClip2Model": soft_info_nce,
    "BlipModel": soft_info_nce,
    "GroupViTModel": soft_info_nce,
    "CLIPSegModel": soft_info_nce,
    "OwlViTModel": soft_info_nce,
    "XCLIPModel": soft_info_nce,
    "VisionTextDualEncoderModel": soft_info_nce,
    "SiglipModel": soft_sigmoid_loss,
    "Siglip2Model": soft_sigmoid_loss,
    "AlignModel": lambda logits, targets: soft_info_nce(logits, targets, label_smoothing=0.1),
}


@pytest.mark.parametrize("name", OWN)
def test_the_models_own_losses_are_met_at_one_hot_targets(name: str) -> None:
    model = pair_models.build(name)
    outputs = model(**pair_models.batch(model), return_loss=True)
    logits = outputs["logits_per_video" if name == "XCLIPModel" else "logits_per_image"]
    torch.testing.assert_close(OWN[name](logits, torch.eye(4)), outputs.loss, rtol=1e-5, atol=1e-5)


def test_claps_own_loss_takes_one_direction_twice() -> None:
    model = pair_models.build("ClapModel")
    outputs = model(**pair_models.batch(model), return_loss=True)
    by_audio, by_text = outputs.logits_per_audio, outputs.logits_per_text
    own = (contrastive_cross_entropy(by_text, torch.eye(4)) + contrastive_cross_entropy(by_audio.T, torch.eye(4))) / 2
    torch.testing.assert_close(outputs.loss, own)
    ours = (contrastive_cross_entropy(by_text, torch.eye(4)) + contrastive_cross_entropy(by_audio, torch.eye(4))) / 2
    torch.testing.assert_close(soft_info_nce(by_audio, torch.eye(4), by_text), ours)
    assert abs(float(ours - own)) > 1e-3


@pytest.mark.parametrize("size", [2, 7, 64])
def test_slerp_is_the_arc(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    own, other = (torch.randn(9, size, generator=generator, dtype=torch.float64) * 5 for _ in range(2))
    lam = torch.rand(9, generator=generator, dtype=torch.float64)
    found = slerp(own, other, lam)
    for i in range(9):
        a, b = own[i] / own[i].norm(), other[i] / other[i].norm()
        angle = math.acos(float(a @ b))
        expected = (math.sin(float(lam[i]) * angle) * a + math.sin(float(1 - lam[i]) * angle) * b) / math.sin(angle)
        torch.testing.assert_close(found[i], expected)
        assert float(found[i] @ a) == pytest.approx(math.cos(float(1 - lam[i]) * angle))


def test_slerp_at_its_ends_and_where_there_is_no_arc() -> None:
    own = torch.randn(5, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    other = own.detach().flip(0)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(slerp(own, other, 1.0), unit(own, dim=-1))
    torch.testing.assert_close(slerp(own, other, 0.0), unit(other, dim=-1))
    torch.testing.assert_close(slerp(own, own, 0.3), unit(own, dim=-1))
    slerp(own, own, torch.rand(5)).sum().backward()
    assert torch.isfinite(own.grad).all()
    assert torch.isfinite(slerp(own, -own, 0.3)).all()


def test_caption_keys_tell_captions_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 50_000, (3000, 12), generator=generator)
    ids[1::2] = ids[::2]  # each caption twice
    changed = ids.clone()
    changed[torch.arange(3000), torch.randint(12, (3000,), generator=generator)] += 1
    swapped = ids.clone()
    swapped[:, [2, 3]] = ids[:, [3, 2]]
    keys = caption_keys(ids)
    assert torch.equal(keys[::2], keys[1::2])
    assert len(keys.unique()) == 1500
    for other in (changed, swapped):
        assert not (caption_keys(other) == keys).any()


def test_caption_keys_do_not_see_padding() -> None:
    ids, mask = torch.tensor([[7, 8, 9, 3, 3]]), torch.tensor([[1, 1, 1, 0, 0]])
    assert torch.equal(caption_keys(ids, mask), caption_keys(ids[:, :3], mask[:, :3]))
    assert torch.equal(caption_keys(ids, mask), caption_keys(torch.tensor([[7, 8, 9]])))
