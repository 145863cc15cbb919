"""The tensor kernels against brute-force loops in float64, against timm and torchvision, and their invariants."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F

import hf_mixup.functional
from hf_mixup.functional import (
    blend,
    box_lam,
    boxes_at,
    cut,
    cut_boxes,
    pair,
    pair_by_label_distance,
    pair_by_length,
    sample_lam,
    soft_cross_entropy,
    soft_targets,
)
from hf_mixup.functional._rows import write_order

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
MODES = ["random", "match", "flip", "roll"]
LARGE_ROW = (3, 112, 112)  # above the size from which rows are processed one by one
SMALL_ROW = (3, 5, 7)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64 if dtype == torch.float64 else None).to(dtype)


def general_map(n: int, seed: int = 0) -> Tensor:
    """Trees hanging from cycles, rows that are nobody's partner, rows that are their own."""
    return torch.randint(n, (n,), generator=rng(seed))


def loop_blend(x: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    lam = lam.double().expand(len(x))
    rows = [lam[i] * x[i].double() + (1 - lam[i]) * x[partner[i]].double() for i in range(len(x))]
    return torch.stack(rows) if rows else x.double()


def loop_cut(x: Tensor, partner: Tensor, boxes: Tensor) -> Tensor:
    out = x.clone()
    for i, (top, left, bottom, right) in enumerate(boxes.expand(len(x), 4).tolist()):
        for row, column in itertools.product(range(top, bottom), range(left, right)):
            out[i, ..., row, column] = x[partner[i], ..., row, column]
    return out


def ulp(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Spacing of ``dtype`` at each (float64) value."""
    info = torch.finfo(dtype)
    exponent = torch.frexp(value.abs().clamp(min=info.tiny)).exponent - 1
    return torch.ldexp(torch.full_like(value, info.eps), exponent)


# --- lam -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 8.0, (0.5, 2.0), (6, 1.5)])
def test_sample_lam_follows_the_beta_distribution(alpha: float | tuple[float, float]) -> None:
    a, b = alpha if isinstance(alpha, tuple) else (alpha, alpha)
    lam = sample_lam(alpha, 4000, rng(1))
    assert lam.dtype == torch.float32
    assert lam.shape == (4000,)
    assert lam.device.type == "cpu"
    reference = stats.beta(a, b).rvs(4000, random_state=0).astype(np.float32)  # rounds to 1 as often as lam does
    assert stats.ks_2samp(lam.numpy(), reference).pvalue > 0.01


def test_sample_lam_is_symmetric_and_host_dominant_folds_it() -> None:
    lam = sample_lam(0.3, 4000, rng())
    folded = sample_lam(0.3, 4000, rng(), host_dominant=True)
    assert stats.ks_2samp(lam.numpy(), 1 - lam.numpy()).pvalue > 0.01
    assert torch.equal(folded, torch.maximum(lam, 1 - lam))


def test_sample_lam_depends_on_the_generator_only() -> None:
    first = sample_lam(0.2, 3, rng(5))
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert torch.equal(first, sample_lam(0.2, 3, rng(5)))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert not torch.equal(first, sample_lam(0.2, 3, rng(6)))
    generator = rng(5)
    assert sample_lam(0.2, generator=generator) != sample_lam(0.2, generator=generator)


def test_sample_lam_without_generator_follows_the_global_seed() -> None:
    torch.manual_seed(3)
    first = sample_lam(1.0)
    torch.manual_seed(3)
    assert first.shape == ()
    assert first == sample_lam(1.0)


@pytest.mark.parametrize("alpha", [1e-320, 1e-200, 1e-9, (1e-320, 1e-320), 1e300, 1.7e308])
def test_sample_lam_at_the_ends_of_the_range(alpha: float | tuple[float, float]) -> None:
    lam = sample_lam(alpha, 1000, rng())
    if lam.std() < 0.1:
        assert torch.equal(lam, torch.full_like(lam, 0.5))
    else:
        assert ((lam == 0) | (lam == 1)).all()
        assert 0.4 < lam.mean() < 0.6


def test_sample_lam_off() -> None:
    assert torch.equal(sample_lam(0.0, 3), torch.ones(3))
    assert sample_lam(0).shape == ()
    assert sample_lam((0, 0.0)) == 1


@pytest.mark.parametrize("alpha", [-0.5, float("nan"), float("inf"), (1.0, -2.0), (0.0, 1.0)])
def test_sample_lam_refuses(alpha: float | tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=str(alpha).replace("(", r"\(").replace(")", r"\)")):
        sample_lam(alpha)


# --- pair ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 8, 31])
def test_pair_is_a_permutation_without_fixed_points(n: int, mode: str) -> None:
    for seed in range(20):
        partner = pair(n, rng(seed), mode)
        rows = torch.arange(n)
        assert partner.dtype == torch.long
        assert torch.equal(partner.sort().values, rows)
        assert n == 1 or (partner != rows).all()
        if mode in ("match", "flip"):  # pairs, and one 3-cycle where the number is odd
            assert (partner[partner] != rows).sum() == (3 if n % 2 and n > 1 else 0)
        if mode == "random" and n:
            assert len(list(walk(partner, 0))) == n


def walk(partner: Tensor, start: int) -> Iterator[int]:
    row = start
    while True:
        yield row
        row = int(partner[row])
        if row == start:
            return


def test_pair_deterministic_modes_are_the_peers() -> None:
    x = torch.arange(6)
    assert torch.equal(x[pair(6, mode="flip")], x.flip(0))
    assert torch.equal(x[pair(6, mode="roll")], x.roll(1, 0))


@pytest.mark.parametrize(("mode", "outcomes"), [("random", 6), ("match", 3)])
def test_pair_draws_uniformly(mode: str, outcomes: int) -> None:
    generator = rng()
    drawn = [tuple(pair(4, generator, mode).tolist()) for _ in range(1200)]
    counts = [drawn.count(outcome) for outcome in set(drawn)]
    assert len(counts) == outcomes
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_pair_among_the_same_class(mode: str) -> None:
    labels = torch.tensor([3, 1, 3, 2, 1, 3, 3, 1])
    partner = pair(8, rng(), mode, labels, among="same")
    assert torch.equal(labels[partner], labels)
    assert (partner == torch.arange(8)).nonzero().flatten().tolist() == [3]  # the only one of its class


def test_pair_among_different_classes() -> None:
    labels = torch.tensor([0, 0, 0, 5, 0, 7])
    generator = rng()
    partners = torch.stack([pair(6, generator, labels=labels, among="different") for _ in range(600)])
    assert (labels[partners] != labels).all()
    assert stats.chisquare(partners[:, 5].bincount()[:5]).pvalue > 0.01  # uniform over the rows of other classes
    assert torch.equal(pair(3, labels=torch.ones(3, dtype=torch.long), among="different"), torch.arange(3))
    assert pair(0, labels=torch.ones(0, dtype=torch.long), among="different").shape == (0,)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n": 2, "mode": "nearest"}, "nearest"),
        ({"n": -1}, "-1"),
        ({"n": 2, "among": "same"}, "None"),
        ({"n": 2, "among": "same", "labels": torch.zeros(2)}, "float32"),
        ({"n": 2, "among": "same", "labels": torch.zeros(3, dtype=torch.long)}, r"\[3\]"),
        ({"n": 2, "among": "other", "labels": torch.zeros(2, dtype=torch.long)}, "other"),
        ({"n": 2, "among": "different", "mode": "flip", "labels": torch.zeros(2, dtype=torch.long)}, "flip"),
    ],
)
def test_pair_refuses(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair(**kwargs)


@given(lengths=st.lists(st.integers(1, 9), max_size=12), seed=st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_pair_by_length_pairs_neighbours(lengths: list[int], seed: int) -> None:
    partner, rows = pair_by_length(torch.tensor(lengths, dtype=torch.long), rng(seed)), torch.arange(len(lengths))
    assert partner.dtype == torch.long
    assert torch.equal(partner.sort().values, rows)
    assert len(lengths) == 1 or (partner != rows).all()
    to = partner.tolist()
    groups = {frozenset({row, to[row], to[to[row]]}) for row in range(len(lengths))}
    sizes = sorted(len(group) for group in groups)
    odd = len(lengths) % 2 and len(lengths) > 1
    assert sizes == ([1] if len(lengths) == 1 else [2] * (len(lengths) // 2 - bool(odd)) + [3] * bool(odd))
    ordered = sorted(sorted(lengths[row] for row in group) for group in groups)
    assert [length for group in ordered for length in group] == sorted(lengths)  # no group straddles another


def test_pair_by_length_breaks_ties_at_random_and_moves_the_cycle() -> None:
    generator = rng()
    drawn = [tuple(pair_by_length(torch.full((4,), 7), generator).tolist()) for _ in range(600)]
    counts = [drawn.count(outcome) for outcome in set(drawn)]
    assert len(counts) == 3
    assert stats.chisquare(counts).pvalue > 0.01
    drawn = [tuple(pair_by_length(torch.arange(7), generator).tolist()) for _ in range(600)]
    counts = [drawn.count(outcome) for outcome in set(drawn)]
    assert len(counts) == 3  # the cycle begins at row 0, 2 or 4
    assert stats.chisquare(counts).pvalue > 0.01


def kernel(labels: Tensor, bandwidth: float) -> Tensor:
    """The closed form, entry by entry."""
    points = labels.double().reshape(len(labels), -1).tolist()
    chances = torch.zeros(len(points), len(points), dtype=torch.float64)
    for i, j in itertools.permutations(range(len(points)), 2):
        chances[i, j] = np.exp(-sum((a - b) ** 2 for a, b in zip(points[i], points[j])) / (2 * bandwidth**2))
    return chances / chances.sum(1, keepdim=True)


@pytest.mark.parametrize("labels", [torch.tensor([0.0, 0.5, 2.0, -1.0, 2.1]), randn(5, 3)])
@pytest.mark.parametrize("bandwidth", [0.8, 3.0])
def test_pair_by_label_distance_follows_the_kernel(labels: Tensor, bandwidth: float) -> None:
    generator, expected = rng(), kernel(labels, bandwidth)
    drawn = torch.stack([pair_by_label_distance(labels, bandwidth, generator) for _ in range(4000)])
    for row in range(5):
        others = torch.arange(5) != row
        counts = drawn[:, row].bincount(minlength=5)
        assert counts[row] == 0
        assert stats.chisquare(counts[others], 4000 * expected[row, others]).pvalue > 0.005


def test_pair_by_label_distance_limits() -> None:
    labels = torch.tensor([0.0, 1.0, 2.5, 1e30, -3e38, 3.5])
    nearest = torch.tensor([1, 0, 5, 5, 0, 2])
    for bandwidth in (1e-3, 1e-300):
        found = pair_by_label_distance(labels, bandwidth, rng())
        apart = torch.tensor([0, 1, 2, 5])  # from the other two all small labels are equally far, even in float64
        assert torch.equal(found[apart], nearest[apart])
        assert (found != torch.arange(6)).all()
    generator = rng()
    for bandwidth in (float("inf"), 1e200):
        drawn = torch.stack([pair_by_label_distance(labels, bandwidth, generator) for _ in range(1500)])
        for row in range(6):
            assert stats.chisquare(drawn[:, row].bincount(minlength=6)[torch.arange(6) != row]).pvalue > 0.005
    equal = pair_by_label_distance(torch.ones(8), 1e-9, rng())
    assert (equal != torch.arange(8)).all()
    assert pair_by_label_distance(torch.ones(1), 1.0).tolist() == [0]
    assert pair_by_label_distance(torch.ones(0, 2), 1.0).shape == (0,)
    low = torch.tensor([0.0, 4.0, 0.125, 4.125])
    for dtype in (*DTYPES, torch.int64):
        assert pair_by_label_distance(low.to(dtype), 1.0, rng(1)).dtype == torch.long


def test_pairings_by_value_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    for draw in (
        lambda seed: pair_by_length(torch.ones(20), rng(seed)),
        lambda seed: pair_by_label_distance(randn(20), 1.0, rng(seed)),
    ):
        assert torch.equal(draw(1), draw(1))
        assert not torch.equal(draw(1), draw(2))
    assert torch.equal(before, torch.get_rng_state())


def test_pairings_by_value_refuse() -> None:
    with pytest.raises(ValueError, match=r"lengths .*\[2, 1\]"):
        pair_by_length(torch.ones(2, 1))
    for value in ("nan", "inf"):
        with pytest.raises(ValueError, match=f"labels must be finite, got {value}"):
            pair_by_label_distance(torch.tensor([0.0, float(value)]), 1.0)
    with pytest.raises(ValueError, match=r"labels .*\[2, 1, 1\]"):
        pair_by_label_distance(torch.ones(2, 1, 1), 1.0)
    for bandwidth in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"bandwidth must be above 0, got {bandwidth}"):
            pair_by_label_distance(torch.ones(2), bandwidth)


# --- order of writes -------------------------------------------------------------------------------------------------


@given(st.integers(1, 12).flatmap(lambda n: st.lists(st.integers(0, n - 1), min_size=n, max_size=n)))
@settings(max_examples=200, deadline=None)
def test_write_order_never_reads_an_overwritten_row(partner: list[int]) -> None:
    content: list = list(range(len(partner)))
    stash, stash_for = None, None
    for write in write_order(partner):
        if write.stash_for is not None:
            assert stash is None
            stash, stash_for = content[write.row], write.stash_for
        if write.source is None:
            assert stash_for == write.row
            content[write.row], stash = ("from", stash), None
        else:
            content[write.row] = ("from", content[write.source])
    assert content == [("from", source) for source in partner]


# --- blend -----------------------------------------------------------------------------------------------------------


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


LAYOUTS = {
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed rows": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "batch inside": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every second row": lambda x: x.repeat_interleave(2, 0)[::2],
    "crop": lambda x: F.pad(x, (1, 2, 3, 1))[..., 3:-1, 1:-2],
    "batch innermost": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("row", [LARGE_ROW, SMALL_ROW, (3, 320, 300)])
@pytest.mark.parametrize("operation", ["blend", "cut"])
def test_memory_layouts_are_right_and_kept(layout: str, row: tuple, operation: str) -> None:
    x = LAYOUTS[layout](randn(4, *row))
    second = torch.tensor([0, 2, 2, 0])
    if operation == "blend":
        apply, amount = blend, sample_lam(1.0, 4, rng())
    else:
        apply, amount = cut, cut_boxes(*x.shape[2:], torch.full((4,), 0.3), rng())
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


def test_cut_gradients() -> None:
    x = randn(3, 1, 4, 5, dtype=torch.float64).requires_grad_()
    boxes = torch.tensor([[0, 1, 3, 4], [2, 2, 2, 2], [1, 0, 4, 5]])
    assert torch.autograd.gradcheck(lambda x: cut(x, torch.tensor([1, 1, 0]), boxes), x)
    assert torch.autograd.gradcheck(lambda x: cut(x, torch.tensor([1, 1, 0]), boxes[0]), x)


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
        arguments = pair(4, rng(seed)), lam, cut_boxes(6, 6, lam, rng(seed))
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


# --- boxes and cut ---------------------------------------------------------------------------------------------------


@given(
    batch=st.integers(0, 5),
    channels=st.sampled_from([(), (1,), (3,), (2, 2)]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from([*DTYPES, torch.uint8, torch.int64]),
    per_row=st.booleans(),
    inplace=st.booleans(),
    style=st.sampled_from(["timm", "torchvision", "minmax"]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=80, deadline=None)
def test_cut_is_the_loop_and_box_lam_the_share_of_own_pixels(
    batch: int, channels: tuple, size: tuple, dtype: torch.dtype, per_row: bool, inplace: bool, style: str, seed: int
) -> None:
    x = (100 * randn(batch, *channels, *size, seed=seed).abs()).to(dtype)
    partner = general_map(batch, seed) if batch else torch.empty(0, dtype=torch.long)
    lam = sample_lam(1.0, batch if per_row else None, rng(seed))
    geometry = {"minmax": (0.1, 0.9)} if style == "minmax" else {"style": style}
    boxes = cut_boxes(*size, lam, rng(seed), **geometry)
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
        boxes = cut_boxes(224, 224, torch.full((6,), 0.1) if per_row else 0.1, rng(), minmax=(0.8, 0.9))
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
    boxes = boxes_at(middle, 200, 300, lam, style)
    assert torch.allclose(box_lam(boxes, 200, 300).double(), lam, atol=0.02)
    assert torch.equal(boxes[0], torch.tensor([0, 0, 200, 300]))
    assert box_lam(boxes, 200, 300)[-1] == 1


def test_box_centres_are_uniform() -> None:
    boxes = cut_boxes(20, 10, torch.full((4000,), 0.9999), rng(), minmax=None, style="timm")
    assert box_lam(boxes, 20, 10).eq(1).all()  # narrower than a pixel: the corner is the centre
    assert stats.chisquare(boxes[:, 0].bincount(minlength=20)).pvalue > 0.01
    assert stats.chisquare(boxes[:, 1].bincount(minlength=10)).pvalue > 0.01


def test_minmax_boxes_lie_inside_and_have_the_sides_of_timm() -> None:
    boxes = cut_boxes(50, 40, torch.ones(3000), rng(), minmax=(0.2, 0.8))
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (height.min(), height.max(), width.min(), width.max()) == (10, 39, 8, 31)
    assert boxes.min() == 0
    assert boxes[:, 2].max() == 50
    assert boxes[:, 3].max() == 40
    assert cut_boxes(2, 2, 0.5, rng(), minmax=(0.2, 0.3)).shape == (4,)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lam": 1.5}, "1.5"),
        ({"lam": float("nan")}, "nan"),
        ({"lam": 0.5, "style": "ours"}, "ours"),
        ({"lam": 0.5, "minmax": (0.5, 0.2)}, "0.5, 0.2"),
    ],
)
def test_cut_boxes_refuses(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut_boxes(8, 8, **kwargs)


# --- targets and loss ------------------------------------------------------------------------------------------------


@given(
    batch=st.integers(0, 6),
    positions=st.sampled_from([(), (3,)]),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    per_row=st.booleans(),
    ignored=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_soft_targets_are_the_loop(
    batch: int, positions: tuple, smoothing: float, per_row: bool, ignored: bool, seed: int
) -> None:
    classes = 5
    labels = torch.randint(-1 if ignored else 0, classes, (batch, *positions), generator=rng(seed))
    labels[labels == -1] = -100
    partner = general_map(batch, seed) if batch else torch.empty(0, dtype=torch.long)
    lam = sample_lam(0.5, batch if per_row else None, rng(seed))
    one_hot = torch.zeros(*labels.shape, classes, dtype=torch.float64)
    for index in itertools.product(*map(range, labels.shape)):
        if labels[index] >= 0:
            one_hot[index] = smoothing / classes
            one_hot[index][labels[index]] += 1 - smoothing
    targets = soft_targets(labels, partner, lam, classes, smoothing)
    assert targets.dtype == torch.float32
    assert targets.shape == (batch, *positions, classes)
    assert torch.allclose(targets.double(), loop_blend(one_hot, partner, lam), atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_unique_labels_give_two_classes_a_row(mode: str) -> None:
    lam = sample_lam(1.0, 7, rng()).clamp(0.01, 0.99)
    targets = soft_targets(torch.arange(7), pair(7, rng(), mode), lam, 9)
    assert (targets != 0).sum(1).eq(2).all()
    assert targets.sum(1).eq(1).all()
    assert torch.equal(targets.diagonal(), lam)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(torch.tensor([0, 7]), "7"), (torch.tensor([-3, 0]), "-3"), (torch.zeros(2), "float32")],
)
def test_soft_targets_refuses(labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_targets(labels, pair(2, rng()), 0.5, 7)


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_soft_cross_entropy_is_the_pair_form(per_row: bool, weighted: bool, ignored: bool, reduction: str) -> None:
    logits = randn(6, 4, dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 1, -100 if ignored else 2, 2])
    weight = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64) if weighted else None
    partner, lam = pair(6, rng()), sample_lam(1.0, 6 if per_row else None, rng())
    loss = soft_cross_entropy(logits, soft_targets(labels, partner, lam, 4), weight, reduction)
    own, other = (F.cross_entropy(logits, y, weight, reduction="none") for y in (labels, labels[partner]))
    expected = lam.double() * own + (1 - lam.double()) * other
    if reduction == "sum":
        expected = expected.sum()
    elif reduction == "mean":
        a, b = (y.ne(-100) * (1 if weight is None else weight[y.clamp(min=0)]) for y in (labels, labels[partner]))
        expected = expected.sum() / (lam.double() * a + (1 - lam.double()) * b).sum()
    assert torch.allclose(loss, expected, atol=1e-6)
    assert loss.dtype == torch.float64
    if not per_row and reduction == "mean":
        pairs = [F.cross_entropy(logits, y, weight) for y in (labels, labels[partner])]
        assert torch.allclose(loss, lam * pairs[0] + (1 - lam) * pairs[1], atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_soft_cross_entropy_against_a_loop_and_its_precision(dtype: torch.dtype) -> None:
    logits, targets = 20 * randn(5, 7, dtype=dtype), randn(5, 7, seed=1).softmax(-1)
    expected = [
        -sum(t * (z - np.logaddexp.reduce(row)) for t, z in zip(target, row, strict=True))
        for target, row in zip(targets.double().numpy(), logits.double().numpy(), strict=True)
    ]
    loss = soft_cross_entropy(logits, targets, reduction="none")
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert np.allclose(loss.numpy(), expected, rtol=1e-5)
    assert torch.autograd.gradcheck(lambda z: soft_cross_entropy(z, targets), logits.double().requires_grad_())


def test_soft_cross_entropy_refuses() -> None:
    with pytest.raises(ValueError, match="shape"):
        soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="median"):
        soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 3), reduction="median")


# --- the peers -------------------------------------------------------------------------------------------------------


def own_boxes_of_timm(lam: np.ndarray | float, size: tuple[int, int], minmax: tuple[float, float] | None) -> Tensor:
    """Replay timm's draws from numpy's global state, row by row as it does, and build the boxes with ours."""
    lam_rows = torch.as_tensor(lam, dtype=torch.float64 if isinstance(lam, float) else torch.float32)
    boxes = []
    for value in lam_rows.reshape(-1):
        if isinstance(lam, np.ndarray) and value == 1:
            boxes.append(torch.zeros(4, dtype=torch.long))  # timm draws nothing for a row left alone
        elif minmax:
            side = [np.random.randint(int(length * minmax[0]), int(length * minmax[1])) for length in size]
            start = [np.random.randint(0, length - cut + 1) for length, cut in zip(size, side, strict=True)]
            boxes.append(torch.tensor([*start, start[0] + side[0], start[1] + side[1]]))
        else:
            center = torch.tensor([np.random.randint(0, length) for length in size])
            boxes.append(boxes_at(center, *size, value))
    return torch.stack(boxes).reshape(*lam_rows.shape, 4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
@pytest.mark.parametrize("method", ["mixup", "cutmix", "minmax"])
@pytest.mark.parametrize("size", [(112, 112), (37, 52)])
def test_parity_with_timm(seed: int, mode: str, method: str, size: tuple[int, int]) -> None:
    timm_mixup = pytest.importorskip("timm.data.mixup")
    batch, classes, prob = 6, 10, 0.8
    minmax = (0.2, 0.8) if method == "minmax" else None
    theirs = timm_mixup.Mixup(
        mixup_alpha=0.8 if method == "mixup" else 0.0,
        cutmix_alpha=0.0 if method == "mixup" else 1.0,
        cutmix_minmax=minmax,
        prob=prob,
        mode=mode,
        label_smoothing=0.1,
        num_classes=classes,
    )
    x, labels = randn(batch, 3, *size, seed=seed), torch.randint(classes, (batch,), generator=rng(seed))
    np.random.seed(seed)
    expected_x, expected_y = theirs(x.clone(), labels)

    np.random.seed(seed)
    alpha = 0.8 if method == "mixup" else 1.0
    if mode == "batch":
        lam = float(np.random.beta(alpha, alpha)) if np.random.rand() < prob else 1.0
        drawn: np.ndarray | float = lam
    else:
        rows = batch if mode == "elem" else batch // 2
        lam = np.random.beta(alpha, alpha, size=rows).astype(np.float32)
        drawn = np.where(np.random.rand(rows) < prob, lam, np.float32(1))
    partner = pair(batch, mode="flip")

    def for_the_batch(rows: Tensor) -> Tensor:
        return torch.cat([rows, rows.flip(0)]) if mode == "pair" else rows

    if method == "mixup":
        amount = drawn if mode == "batch" else for_the_batch(torch.from_numpy(drawn))
        out = blend(x, partner, amount)
    elif mode == "batch" and drawn == 1.0:
        amount, out = 1.0, x
    else:
        boxes = own_boxes_of_timm(drawn, size, minmax)
        if mode == "batch":  # timm keeps this lam in double precision, box_lam rounds it
            top, left, bottom, right = boxes.tolist()
            amount = 1 - (bottom - top) * (right - left) / (size[0] * size[1])
            assert box_lam(boxes, *size) == torch.tensor(amount)
        else:
            boxes = for_the_batch(boxes)
            amount = box_lam(boxes, *size)
        out = cut(x, partner, boxes)
    assert torch.equal(out, expected_x)
    assert torch.equal(soft_targets(labels, partner, amount, classes, smoothing=0.1), expected_y)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("batch", [5, 6])
@pytest.mark.parametrize("size", [(112, 112), (37, 52)])
def test_parity_with_torchvision(seed: int, batch: int, size: tuple[int, int]) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    classes, partner = 10, pair(batch, mode="roll")
    x, labels = randn(batch, 3, *size, seed=seed), torch.randint(classes, (batch,), generator=rng(seed))

    mixup = v2.MixUp(alpha=0.7, num_classes=classes)
    torch.manual_seed(seed)
    expected_x, expected_y = mixup(x, labels)
    torch.manual_seed(seed)
    lam = torch.distributions.Beta(torch.tensor([0.7]), torch.tensor([0.7])).sample(()).squeeze()
    assert torch.equal(blend(x, partner, lam), expected_x)
    assert torch.equal(soft_targets(labels, partner, lam, classes), expected_y)

    cutmix = v2.CutMix(alpha=1.0, num_classes=classes)
    torch.manual_seed(seed)
    expected_x, expected_y = cutmix(x, labels)
    torch.manual_seed(seed)
    lam = float(torch.distributions.Beta(torch.tensor([1.0]), torch.tensor([1.0])).sample(()))
    column, row = (int(torch.randint(length, (1,))) for length in reversed(size))
    boxes = boxes_at(torch.tensor([row, column]), *size, lam, style="torchvision")
    assert torch.equal(cut(x, partner, boxes), expected_x)
    top, left, bottom, right = boxes.tolist()
    amount = 1 - (bottom - top) * (right - left) / (size[0] * size[1])
    assert torch.equal(soft_targets(labels, partner, amount, classes), expected_y)


# --- CUDA ------------------------------------------------------------------------------------------------------------


def interpreted_kernel(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The Triton module, executed by Triton's interpreter on CPU tensors."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    path = Path(hf_mixup.functional.__file__).with_name("_triton.py")
    spec = importlib.util.spec_from_file_location("interpreted_triton_kernel", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_row", [False, True])
def test_triton_kernel_interpreted_on_cpu(dtype: torch.dtype, per_row: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = interpreted_kernel(monkeypatch)
    x = randn(5, 2, 23, 29, dtype=dtype).to(memory_format=torch.channels_last)
    assert kernel.supports(x)
    assert not kernel.supports(x[::2])
    assert not kernel.supports(x[..., 1:])
    partner, lam = general_map(5), sample_lam(1.0, 5 if per_row else None, rng())
    wide = torch.promote_types(dtype, torch.float32)
    out = kernel.blend(x, partner, lam.to(wide), (1 - lam.to(wide)))
    expected = blend(x.clone().requires_grad_(), partner, lam)
    assert out.dtype == dtype
    assert out.stride() == x.stride()
    # Triton's interpreter truncates to bf16 where the device rounds.
    tolerance = torch.finfo(dtype).eps if dtype == torch.bfloat16 else 0
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=0)
    bad = kernel.blend(x, torch.tensor([1, 0, 7, -1, 2]), lam.to(wide), (1 - lam.to(wide)))
    assert bad.isnan().flatten(1).all(1).tolist() == [False, False, True, True, False]


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("row", [LARGE_ROW, SMALL_ROW])
def test_cuda_equals_cpu(dtype: torch.dtype, inplace: bool, per_row: bool, row: tuple) -> None:
    x, partner, lam = randn(7, *row, dtype=dtype), general_map(7), sample_lam(1.0, 7 if per_row else None, rng())
    expected = blend(x.clone().requires_grad_(), partner, lam)
    for layout in ("channels_last", "batch inside"):
        for device in ("cpu", "cuda"):
            y = LAYOUTS[layout](x.cuda())
            out = blend(y, partner.to(device), lam.to(device), inplace)
            assert (out is y) == inplace
            assert torch.equal(out.cpu(), expected)
    boxes = cut_boxes(*row[1:], lam, rng())
    assert torch.equal(cut(x.cuda(), partner, boxes, inplace).cpu(), cut(x, partner, boxes))


@needs_cuda
def test_cuda_targets_and_loss_equal_cpu() -> None:
    labels, partner, lam = torch.tensor([0, -100, 2, 3, 1]), general_map(5), sample_lam(1.0, 5, rng())
    targets, logits = soft_targets(labels, partner, lam, 4, 0.1), randn(5, 4)
    on_device = soft_targets(labels.cuda(), partner, lam, 4, 0.1)
    assert torch.equal(on_device.cpu(), targets)
    loss = soft_cross_entropy(logits.cuda(), on_device)
    assert torch.allclose(loss.cpu(), soft_cross_entropy(logits, targets))
