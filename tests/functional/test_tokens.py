"""The two-target loss against loops in float64 and torch's own losses, and what it may keep in memory."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_mixup.functional import soft_cross_entropy, soft_targets, two_target_cross_entropy

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
SHAPES: list[tuple[int, ...]] = [(), (1,), (7,), (3, 5), (2, 3, 4), (0,), (2, 0, 3)]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(
    shape: tuple[int, ...], classes: int, dtype: torch.dtype = torch.float64, seed: int = 0, ignored: float = 0.3
) -> list[Tensor]:
    """Return logits, both labels (some -100) and both weights, which do not sum to 1."""
    generator = rng(seed)
    logits = (3 * torch.randn(*shape, classes, generator=generator, dtype=torch.float64)).to(dtype)
    labels = [
        torch.randint(classes, shape, generator=generator).where(
            torch.rand(shape, generator=generator) >= ignored, -100
        )
        for _ in range(2)
    ]
    return [logits.requires_grad_(), *labels, *(torch.rand(shape, generator=generator) for _ in range(2))]


def reference(
    logits: Tensor, own: Tensor, other: Tensor, a: Tensor, b: Tensor, smoothing: float, class_weights: list[float]
) -> tuple[float, list[list[float]]]:
    """Return the sum and its gradient [N, V] by plain Python: each target's own list of probabilities, smoothed."""
    total, gradient = 0.0, []
    for scores, row in zip(
        logits.detach().double().reshape(-1, logits.shape[-1]).tolist(),
        zip(*(each.reshape(-1).tolist() for each in (own, other, a, b))),
    ):
        size = math.fsum(math.exp(score) for score in scores)
        slopes = [0.0] * len(scores)
        for label, weight in ((row[0], row[2]), (row[1], row[3])):
            if label == -100:
                continue
            target = [smoothing / len(scores) * class_weights[c] for c in range(len(scores))]
            target[label] += (1 - smoothing) * class_weights[label]
            total -= weight * sum(t * (score - math.log(size)) for t, score in zip(target, scores))
            for c, score in enumerate(scores):
                slopes[c] += weight * (sum(target) * math.exp(score) / size - target[c])
        gradient.append(slopes)
    return total, gradient


@given(
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    classes=st.integers(1, 6),
    dtype=st.sampled_from(list(TOLERANCE)),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    weighted=st.booleans(),
    chunk=st.sampled_from([None, 1, 2, 5]),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=150, deadline=None)
def test_the_loss_and_its_gradient_are_those_of_the_loop(
    shape: tuple,
    classes: int,
    dtype: torch.dtype,
    smoothing: float,
    weighted: bool,
    chunk: Any,
    ignored: float,
    seed: int,
) -> None:
    logits, *rest = draw(shape, classes, dtype, seed, ignored)
    class_weights = torch.rand(classes, generator=rng(seed)) if weighted else None
    factors = [1.0] * classes if class_weights is None else class_weights.tolist()
    total, gradient = reference(logits, *rest, smoothing, factors)
    found = two_target_cross_entropy(logits, *rest, smoothing, class_weights, chunk)
    found.backward()
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.shape == ()
    assert found.item() == pytest.approx(total, rel=1e-5, abs=1e-5)
    assert logits.grad is not None
    assert logits.grad.dtype == dtype
    expected = torch.tensor(gradient, dtype=torch.float64).reshape(logits.shape)
    torch.testing.assert_close(logits.grad.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_with_one_target_it_is_torch_s_cross_entropy(smoothing: float, weighted: bool) -> None:
    logits, own, other, weight, _ = draw((4, 6), 9)
    class_weights = torch.rand(9, generator=rng()).double() if weighted else None
    for none in (torch.full_like(own, -100), other):  # no second target, or one that weighs nothing
        found = two_target_cross_entropy(
            logits, own, none, torch.ones_like(weight), torch.zeros_like(weight), smoothing, class_weights
        )
        expected = F.cross_entropy(
            logits.flatten(0, 1), own.flatten(), class_weights, label_smoothing=smoothing, reduction="sum"
        )
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(*(torch.autograd.grad(each, logits)[0] for each in (found, expected)))


def test_it_is_the_dense_form_on_mixed_batches() -> None:
    logits, labels, *_ = draw((6, 5), 7)
    partner, lam = torch.tensor([3, 4, 5, 0, 2, 1]), torch.rand(6, generator=rng())
    for smoothing in (0.0, 0.1):
        dense = soft_targets(labels, partner, lam, 7, smoothing).double()
        expected = soft_cross_entropy(logits, dense, reduction="sum")
        found = two_target_cross_entropy(logits, labels, labels[partner], lam[:, None], 1 - lam[:, None], smoothing)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        slopes = [torch.autograd.grad(each, logits)[0] for each in (found, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("smoothing", "weighted"), itertools.product([0.0, 0.3], [False, True]))
def test_gradcheck(smoothing: float, weighted: bool) -> None:
    logits, own, other, *weights = draw((2, 3), 4)
    class_weights = torch.rand(4, generator=rng()).double() if weighted else None
    assert torch.autograd.gradcheck(
        lambda x, a, b: two_target_cross_entropy(x, own, other, a, b, smoothing, class_weights, 2),
        (logits, *(each.double().requires_grad_() for each in weights)),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_labelled_is_zero_with_zero_gradients(shape: tuple[int, ...]) -> None:
    logits, own, other, *weights = draw(shape, 5, torch.float32, ignored=1.0)
    loss = two_target_cross_entropy(logits, own, other, *weights, smoothing=0.1)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_both_targets_the_same_add_up() -> None:
    logits, own, _, *_ = draw((9,), 5, ignored=0.0)
    half = torch.full((9,), 0.5)
    found = two_target_cross_entropy(logits, own, own, half, half)
    torch.testing.assert_close(found, F.cross_entropy(logits, own, reduction="sum"))
    (slope,) = torch.autograd.grad(found, logits)
    torch.testing.assert_close(slope.sum(-1), torch.zeros(9, dtype=torch.float64), atol=1e-12, rtol=0)


def test_extreme_logits_stay_finite() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        top = 3e4
        logits = torch.tensor([[top, -top, 0.0], [-math.inf, 0.0, 1.0]], dtype=dtype, requires_grad=True)
        loss = two_target_cross_entropy(
            logits, torch.tensor([1, 1]), torch.tensor([0, 2]), torch.ones(2), torch.ones(2)
        )
        loss.backward()
        assert loss.item() == pytest.approx(2 * top + 2 * math.log1p(math.exp(-1)) + 1, rel=5e-3)
        assert logits.grad.isfinite().all()


def test_layouts_give_the_same_and_graphs_can_be_run_twice() -> None:
    logits, own, other, *weights = draw((4, 6), 5, ignored=0.0)
    expected = two_target_cross_entropy(logits, own, other, *weights)
    (slope,) = torch.autograd.grad(expected, logits, retain_graph=True)
    assert torch.equal(torch.autograd.grad(expected, logits)[0], slope)
    wide = torch.cat([logits, logits], dim=1).detach().requires_grad_()
    turned = logits.detach().permute(2, 1, 0).contiguous().permute(2, 1, 0).requires_grad_()
    for each, view in ((wide, wide[:, :6]), (turned, turned)):
        found = two_target_cross_entropy(view, own, other, *weights, chunk=3)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, each)[0][:, :6], slope)
    with torch.no_grad():
        assert torch.equal(two_target_cross_entropy(logits, own, other, *weights), expected)


class Allocations(TorchDispatchMode):
    """Record the bytes of every tensor that an operation returns without sharing its inputs' memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {each.untyped_storage().data_ptr() for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor) and each.untyped_storage().data_ptr() not in given:
                self.sizes.append(each.nbytes)
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_only_the_gradient_is_as_large_as_the_logits(dtype: torch.dtype, smoothing: float) -> None:
    logits, own, other, *weights = draw((3, 9), 64, dtype)
    view, labels = logits[:, :-1], (own[:, :-1], other[:, :-1])
    chunk, saved = 2 * 64 * 4, []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x), Allocations() as mode:
        loss = two_target_cross_entropy(view, *labels, *(each[:, :-1] for each in weights), smoothing, chunk=2)
    assert max(mode.sizes) == chunk
    assert [each.data_ptr() for each in saved if each.nbytes > chunk] == [logits.data_ptr()]
    with Allocations() as mode:
        (slope,) = torch.autograd.grad(loss, view)
    assert [size for size in mode.sizes if size > chunk] == [slope.nbytes]
    assert slope.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_rounded_once(dtype: torch.dtype) -> None:
    logits, *rest = draw((5, 4), 30, dtype)
    exact = logits.detach().float().requires_grad_()
    losses = [two_target_cross_entropy(each, *rest, smoothing=0.1) for each in (logits, exact)]
    assert torch.equal(*losses)
    assert torch.equal(torch.autograd.grad(losses[0], logits)[0], torch.autograd.grad(losses[1], exact)[0].to(dtype))


def test_autocast_changes_nothing() -> None:
    logits, own, other, *weights = draw((5,), 6, torch.float32)
    class_weights = torch.rand(6, generator=rng())
    expected = two_target_cross_entropy(logits, own, other, *weights, 0.1, class_weights)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(two_target_cross_entropy(logits, own, other, *weights, 0.1, class_weights), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_compiles_to_one_graph(smoothing: float) -> None:
    logits, own, other, *weights = draw((3, 4), 5)
    compiled = torch.compile(two_target_cross_entropy, backend="aot_eager", fullgraph=True)
    slopes = []
    for function in (compiled, two_target_cross_entropy):
        loss = function(logits, own, other, *weights, smoothing)
        slopes += [loss.detach(), torch.autograd.grad(loss, logits)[0]]
    torch.testing.assert_close(slopes[0], slopes[2])
    torch.testing.assert_close(slopes[1], slopes[3])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu(dtype: torch.dtype) -> None:
    tensors = draw((3, 7), 50, dtype)
    class_weights = torch.rand(50, generator=rng())
    found = []
    for device in ("cpu", "cuda"):
        logits, *rest = (each.detach().to(device) for each in tensors)
        loss = two_target_cross_entropy(logits.requires_grad_(), *rest, 0.1, class_weights, chunk=4)
        found.append([loss.detach().cpu(), torch.autograd.grad(loss, logits)[0].cpu()])
    torch.testing.assert_close(*found, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"own": torch.zeros(3, dtype=torch.long)}, r"own must .*\[2\] .*\[3\]"),
        ({"other": torch.zeros(2)}, "other must .*float32"),
        ({"own": torch.tensor([0, 4])}, r"own holds label 4, outside \[0, 4\)"),
        ({"other": torch.tensor([0, -1])}, "other holds label -1"),
        ({"class_weights": torch.ones(3)}, r"class_weights must have shape \[4\], got \[3\]"),
        ({"smoothing": 1.5}, "1.5"),
        ({"chunk": 0}, "chunk must be at least 1"),
    ],
)
def test_it_refuses(change: dict[str, Any], message: str) -> None:
    labels = torch.zeros(2, dtype=torch.long)
    good = {"own": labels, "other": labels, "own_weight": torch.ones(2), "other_weight": torch.ones(2)}
    with pytest.raises(ValueError, match=message):
        two_target_cross_entropy(torch.zeros(2, 4), **{**good, **change})
