"""Boxes and cut and paste, against loops."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hf_mixup.functional import (
    box_lam,
    boxes_at,
    cut,
    cut_boxes,
    pair,
    sample_lam,
)
from tests.functional.common import (
    DTYPES,
    general_map,
    loop_cut,
    randn,
    rng,
)


def test_cut_gradients() -> None:
    x = randn(3, 1, 4, 5, dtype=torch.float64).requires_grad_()
    boxes = torch.tensor([[0, 1, 3, 4], [2, 2, 2, 2], [1, 0, 4, 5]])
    assert torch.autograd.gradcheck(lambda x: cut(x, torch.tensor([1, 1, 0]), boxes), x)
    assert torch.autograd.gradcheck(lambda x: cut(x, torch.tensor([1, 1, 0]), boxes[0]), x)


@given(
    batch=st.integers(0, 5),
    channels=st.sampled_from([(), (1,), (3,), (2, 2)]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from([*DTYPES, torch.uint8, torch.int64]),
    per_row=st.booleans(),
    inplace=st.booleans(),
    style=st.sampled_from(["timm", "torchvision", "box_sides"]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=80, deadline=None)
def test_cut_is_the_loop_and_box_lam_the_own_share(
    batch: int, channels: tuple, size: tuple, dtype: torch.dtype, per_row: bool, inplace: bool, style: str, seed: int
) -> None:
    x = (100 * randn(batch, *channels, *size, seed=seed).abs()).to(dtype)
    partner = general_map(batch, seed) if batch else torch.empty(0, dtype=torch.long)
    lam = sample_lam(1.0, batch if per_row else None, rng(seed))
    geometry = {"box_sides": (0.1, 0.9)} if style == "box_sides" else {"style": style}
    boxes = cut_boxes(size, lam, rng(seed), **geometry)
    assert boxes.dtype == torch.long
    assert boxes.shape == (*lam.shape, 4)

    expected = loop_cut(x, partner, boxes)
    formula = cut(x.clone().requires_grad_(), partner, boxes) if dtype.is_floating_point else expected
    out = cut(x, partner, boxes, inplace)
    assert torch.equal(out, expected)
    assert torch.equal(formula, expected)
    assert (out is x) == inplace

    indicator = (
        cut(torch.stack([torch.ones(size), torch.zeros(size)]), torch.tensor([1, 0]), boxes.reshape(-1, 4)[0])
        if boxes.numel()
        else None
    )
    if indicator is not None:
        assert indicator[0].mean().item() == pytest.approx(box_lam(boxes, *size).reshape(-1)[0].item(), abs=1e-6)


@pytest.mark.parametrize("per_row", [False, True])
def test_cut_of_large_regions(per_row: bool) -> None:
    x = randn(6, 3, 224, 224)
    for partner in (pair(6, rng()), pair(6, mode="match"), general_map(6)):
        boxes = cut_boxes((224, 224), torch.full((6,), 0.1) if per_row else 0.1, rng(), box_sides=(0.8, 0.9))
        expected = cut(x.clone().requires_grad_(), partner, boxes)
        assert torch.equal(cut(x, partner, boxes), expected)
        assert torch.equal(cut(x.clone(), partner, boxes, inplace=True), expected)


@pytest.mark.parametrize("box", [[3, 3, 3, 5], [5, 0, 2, 8], [0, 0, 0, 0], [9, 9, 12, 12], [-4, -4, 0, 0]])
def test_an_empty_box_is_the_identity(box: list[int]) -> None:
    x, boxes = randn(3, 2, 8, 8), torch.tensor(box)
    for requires_grad, per_row in itertools.product([False, True], repeat=2):
        arguments = pair(3, rng()), boxes.expand(3, 4) if per_row else boxes
        assert torch.equal(cut(x.clone().requires_grad_(requires_grad), *arguments), x)


@pytest.mark.parametrize("style", ["timm", "torchvision"])
def test_boxes_cover_what_lam_says(style: str) -> None:
    lam = torch.linspace(0, 1, 50, dtype=torch.float64)
    middle = torch.tensor([100, 150]).expand(50, 2)
    boxes = boxes_at(middle, (200, 300), lam, style)
    assert torch.allclose(box_lam(boxes, 200, 300).double(), lam, atol=0.02)
    assert torch.equal(boxes[0], torch.tensor([0, 0, 200, 300]))
    assert box_lam(boxes, 200, 300)[-1] == 1


def test_box_centres_are_uniform() -> None:
    boxes = cut_boxes((20, 10), torch.full((4000,), 0.9999), rng(), box_sides=None, style="timm")
    assert box_lam(boxes, 20, 10).eq(1).all()  # narrower than a pixel: the corner is the centre
    assert stats.chisquare(boxes[:, 0].bincount(minlength=20)).pvalue > 0.01
    assert stats.chisquare(boxes[:, 1].bincount(minlength=10)).pvalue > 0.01


def test_minmax_boxes_lie_inside_and_have_the_sides_of_timm() -> None:
    boxes = cut_boxes((50, 40), torch.ones(3000), rng(), box_sides=(0.2, 0.8))
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (height.min(), height.max(), width.min(), width.max()) == (10, 39, 8, 31)
    assert boxes.min() == 0
    assert boxes[:, 2].max() == 50
    assert boxes[:, 3].max() == 40
    assert cut_boxes((2, 2), 0.5, rng(), box_sides=(0.2, 0.3)).shape == (4,)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lam": 1.5}, "1.5"),
        ({"lam": float("nan")}, "nan"),
        ({"lam": 0.5, "style": "ours"}, "ours"),
        ({"lam": 0.5, "box_sides": (0.5, 0.2)}, "0.5, 0.2"),
    ],
)
def test_cut_boxes_refuses(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut_boxes((8, 8), **kwargs)
