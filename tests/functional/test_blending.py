"""The blend against a loop in float64: rounding, memory layouts, gradients and refusals, some of them with `cut`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from hf_mixup.functional import (
    blend,
    cut,
    cut_boxes,
    pair,
    sample_lam,
)
from tests.functional.common import (
    DTYPES,
    LARGE_ROW,
    LAYOUTS,
    SMALL_ROW,
    general_map,
    loop_blend,
    randn,
    rng,
    ulp,
)


@given(
    batch=st.integers(0, 7),
    row=st.sampled_from([(), (1,), SMALL_ROW, (2, 0), LARGE_ROW, (9, 11)]),
    dtype=st.sampled_from(DTYPES),
    per_row=st.booleans(),
    inplace=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_blend_is_the_loop(batch: int, row: tuple, dtype: torch.dtype, per_row: bool, inplace: bool, seed: int) -> None:
    x = randn(batch, *row, dtype=dtype, seed=seed)
    partner = general_map(batch, seed) if batch else torch.empty(0, dtype=torch.long)
    lam = sample_lam(0.5, batch if per_row else None, rng(seed))
    expected = loop_blend(x, partner, lam)
    largest = torch.maximum(x.abs(), x[partner].abs()).double()
    original = x.clone()
    out = blend(x, partner, lam, inplace)
    assert out.dtype == dtype
    assert out.shape == x.shape
    assert (out is x) if inplace else torch.equal(x, original)
    # One rounding to a 16-bit type, from float32; else the three roundings of the formula.
    wide = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    allowed = 2 * torch.finfo(wide).eps * largest + (0.5 * ulp(expected, dtype) if wide != dtype else 0)
    assert ((out.double() - expected).abs() <= allowed).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("row", [LARGE_ROW, SMALL_ROW])
@pytest.mark.parametrize("lam", [0.001, 0.3, 0.77])
def test_blend_is_more_accurate_than_the_16_bit_formula(dtype: torch.dtype, row: tuple, lam: float) -> None:
    x, partner = randn(4, *row, dtype=dtype), pair(4, mode="flip")
    expected = loop_blend(x, partner, torch.tensor(lam, dtype=torch.float64))
    # Where the two rows cancel, an ulp of the result says nothing: take one of a thousandth of the input.
    unit = ulp(torch.maximum(expected.abs(), 1e-3 * torch.maximum(x.abs(), x[partner].abs())), dtype)
    formula = x.mul(lam).add_(x.flip(0).mul_(1 - lam))
    in_ulps = [(out.double() - expected).abs() / unit for out in (blend(x, partner, lam), formula)]
    assert in_ulps[0].max() <= in_ulps[1].max()
    assert in_ulps[0].mean() < in_ulps[1].mean()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [LARGE_ROW, SMALL_ROW])
@pytest.mark.parametrize("kind", ["float", "scalar", "rows"])
@pytest.mark.parametrize("inplace", [False, True])
def test_lam_one_is_the_identity_and_zero_the_partner(dtype: torch.dtype, row: tuple, kind: str, inplace: bool) -> None:
    x, partner = randn(5, *row, dtype=dtype), general_map(5, seed=3)
    for value, expected in ((1.0, x.clone()), (0.0, x[partner])):
        lam = {"float": value, "scalar": torch.tensor(value), "rows": torch.full((5,), value)}[kind]
        assert torch.equal(blend(x.clone(), partner, lam, inplace), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [LARGE_ROW, SMALL_ROW])
@pytest.mark.parametrize("partner", [pair(5, rng()), pair(5, mode="flip"), general_map(5), torch.arange(5)])
@pytest.mark.parametrize("per_row", [False, True])
def test_in_place_is_out_of_place(dtype: torch.dtype, row: tuple, partner: Tensor, per_row: bool) -> None:
    x, lam = randn(5, *row, dtype=dtype), sample_lam(1.0, 5 if per_row else None, rng())
    expected = blend(x, partner, lam)
    out = blend(x.clone(), partner, lam, inplace=True)
    if dtype in (torch.float32, torch.float64):
        assert torch.equal(blend(x.clone().requires_grad_(), partner, lam), expected)  # so is the differentiable path
    if row == LARGE_ROW and dtype in (torch.float32, torch.float64):  # one fused operation instead of two
        assert_near(out, expected, x, partner)
    else:
        assert torch.equal(out, expected)


def assert_near(out: Tensor, expected: Tensor, x: Tensor, partner: Tensor) -> None:
    """Compare two blends, each of which may be one unit in the last place away from the exact one."""
    assert ((out.double() - expected.double()).abs() <= 2 * unit_of(x, partner)).all()


def unit_of(x: Tensor, partner: Tensor) -> Tensor:
    """Spacing of floats at the sum of both magnitudes: the blend itself may cancel to anything."""
    return ulp((x.abs() + x[partner].abs()).double(), x.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("partner", [pair(16, rng()), pair(16, mode="match"), general_map(16)])
def test_large_rows_in_place_are_nearer_to_the_exact_blend(dtype: torch.dtype, per_row: bool, partner: Tensor) -> None:
    """Nearer than the formula of timm; exact in float64 for float32, and in numpy's long double for float64."""
    x, lam = randn(16, *LARGE_ROW, dtype=dtype), sample_lam(0.5, 16, rng()) if per_row else torch.tensor(0.3)
    own = lam.to(dtype).reshape(-1, 1, 1, 1)
    formula = x * own + x[partner] * (1 - own)
    out = blend(x.clone(), partner, lam, inplace=True)
    wide = np.float64 if dtype == torch.float32 else np.longdouble
    own, first, second = (each.numpy().astype(wide) for each in (own, x, x[partner]))
    exact = own * first + (1 - own) * second
    errors = [np.abs(each.numpy().astype(wide) - exact) for each in (out, formula)]
    assert errors[0].mean() < errors[1].mean()
    assert (errors[0] <= unit_of(x, partner).numpy()).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("row", [LARGE_ROW, SMALL_ROW, (3, 320, 300)])
@pytest.mark.parametrize("operation", ["blend", "cut"])
def test_memory_layouts_are_right_and_kept(layout: str, row: tuple, operation: str) -> None:
    x = LAYOUTS[layout](randn(4, *row))
    second = torch.tensor([0, 2, 2, 0])
    if operation == "blend":
        apply, amount = blend, sample_lam(1.0, 4, rng())
    else:
        apply, amount = cut, cut_boxes(x.shape[2:], torch.full((4,), 0.3), rng())
    for partner in (pair(4, rng()), second):
        expected = apply(x.contiguous(), partner, amount)
        out = apply(x, partner, amount)
        assert torch.equal(out, expected)
        assert out.stride() == torch.empty_like(x).stride()
        y = LAYOUTS[layout](x.contiguous())
        strides = y.stride()
        assert apply(y, partner, amount, inplace=True) is y
        if operation == "cut":
            assert torch.equal(y, expected)
        else:
            assert_near(y, expected, x, partner)
        assert y.stride() == strides


def test_a_view_is_blended_without_touching_its_surroundings() -> None:
    base = randn(4, 3, 150, 150)
    view = base[:, :, 10:130, 5:140]
    expected = base.clone()
    expected[:, :, 10:130, 5:140] = blend(view.contiguous(), pair(4, mode="roll"), 0.3, inplace=True)
    blend(view, pair(4, mode="roll"), 0.3, inplace=True)
    assert torch.equal(base, expected)


@pytest.mark.parametrize("per_row", [False, True])
def test_blend_gradients(per_row: bool) -> None:
    x = randn(4, 2, 3, dtype=torch.float64).requires_grad_()
    lam = (sample_lam(1.0, 4, rng()) if per_row else torch.tensor(0.3)).double().requires_grad_()
    for partner in (pair(4, rng()), torch.tensor([1, 1, 0, 3])):
        assert torch.autograd.gradcheck(lambda x, lam, p=partner: blend(x, p, lam), (x, lam))
        assert torch.autograd.gradgradcheck(lambda x, lam, p=partner: blend(x, p, lam), (x, lam))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("per_row", [False, True])
def test_one_graph_and_no_recompilation_over_draws(inplace: bool, per_row: bool) -> None:
    torch._dynamo.reset()
    counter = CompileCounter()

    def step(x: Tensor, partner: Tensor, lam: Tensor, boxes: Tensor) -> Tensor:
        return cut(blend(x, partner, lam, inplace), partner, boxes, inplace)

    compiled = torch.compile(step, backend=counter, fullgraph=True)
    for seed in range(4):
        x, lam = randn(4, 2, 6, 6, seed=seed), sample_lam(1.0, 4 if per_row else None, rng(seed))
        arguments = pair(4, rng(seed)), lam, cut_boxes((6, 6), lam, rng(seed))
        expected = step(x.clone(), *arguments)
        assert torch.equal(compiled(x, *arguments), expected)
    assert counter.frame_count == 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_blend_refuses_integers(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="float"):
        blend(torch.zeros(2, 3, dtype=dtype), pair(2, rng()), 0.5)


@pytest.mark.parametrize(("requires_grad", "inplace"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("row", [LARGE_ROW, SMALL_ROW])
@pytest.mark.parametrize("bad", [-1, 3])
def test_a_partner_out_of_range_changes_nothing(requires_grad: bool, inplace: bool, row: tuple, bad: int) -> None:
    x = randn(3, *row).requires_grad_(requires_grad)
    before = x.detach().clone()
    partner = torch.tensor([1, 0, bad])
    with pytest.raises(IndexError):
        blend(x, partner, 0.5, inplace)
    with pytest.raises(IndexError):
        cut(x, partner, torch.tensor([0, 0, 2, 2]), inplace)
    assert torch.equal(x, before)


def test_shapes_are_checked() -> None:
    x = torch.zeros(3, 2, 2)
    for partner in (torch.arange(2), torch.arange(3).int(), torch.zeros(3, 1, dtype=torch.long)):
        with pytest.raises(ValueError, match="partner"):
            blend(x, partner, 0.5)
    with pytest.raises(ValueError, match="lam"):
        blend(x, torch.arange(3), torch.ones(2))
    with pytest.raises(ValueError, match="boxes"):
        cut(x, torch.arange(3), torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="H, W"):
        cut(torch.zeros(3, 2), torch.arange(3), torch.zeros(4, dtype=torch.long))


def test_in_place_refuses_what_it_would_break() -> None:
    leaf = torch.zeros(2, 2, 2, requires_grad=True)
    expanded = torch.zeros(1, 2, 2).expand(2, 2, 2)
    box = torch.tensor([0, 0, 1, 1])
    for x, message in ((leaf, "requires grad"), (leaf * 1, "requires grad"), (expanded, "expanded")):
        with pytest.raises(RuntimeError, match=message):
            blend(x, pair(2, rng()), 0.5, inplace=True)
        with pytest.raises(RuntimeError, match=message):
            cut(x, pair(2, rng()), box, inplace=True)
    with torch.no_grad():
        blend(leaf, pair(2, rng()), 0.5, inplace=True)
