"""Mosaic: the kernel against a loop over pixels, its labels and loss against the same by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.functional.mosaic import _mosaic_formula, mosaic, quadrant_shares, quadrants
from hf_mixup.methods.base import Request
from tests.conftest import CLASSES, batch_of, build, examples
from tests.methods.images import rng


def drawn(rows: int, height: int, width: int, one: bool, shifted: bool, seed: int = 0) -> tuple[Tensor, ...]:
    """Partners, centres (some on an edge) and shifts that stay inside."""
    g, shape = rng(seed), () if one else (rows,)
    partners = torch.randint(rows, (rows, 3), generator=g)
    center = torch.stack([torch.randint(n + 1, shape, generator=g) for n in (height, width)], -1)
    sides = quadrants(center, height, width)
    room_before, size = sides[..., :2], torch.tensor([height, width])
    spot = torch.rand(*shape, 4, 2, generator=g)
    free = size - (sides[..., 2:] - sides[..., :2])
    shift = (spot * (free + 1)).long() - room_before if shifted else torch.zeros(*shape, 4, 2, dtype=torch.long)
    return partners, center, shift


def loop_mosaic(x: Tensor, partners: Tensor, center: Tensor, shift: Tensor) -> Tensor:
    out, rows = torch.full_like(x, 77), len(x)
    center, shift = center.expand(rows, 2), shift.expand(rows, 4, 2)
    for row, i, j in itertools.product(range(rows), range(x.shape[-2]), range(x.shape[-1])):
        corner = 2 * (i >= int(center[row, 0])) + (j >= int(center[row, 1]))
        source = row if corner == 0 else int(partners[row, corner - 1])
        down, across = shift[row, corner].tolist()
        out[row, ..., i, j] = x[source, ..., i + down, j + across]
    return out


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("shape", [(5, 3, 7, 9), (1, 2, 4, 4), (4, 6, 5), (3, 2, 2, 5, 4), (2, 1, 1, 1)])
def test_mosaic_is_a_loop_over_pixels(shape: tuple[int, ...], shifted: bool, one: bool) -> None:
    rows, (height, width) = shape[0], shape[-2:]
    for seed in range(6):
        x = torch.randn(shape, generator=rng(seed))
        x = x.contiguous(memory_format=torch.channels_last) if seed % 2 and len(shape) == 4 else x
        partners, center, shift = drawn(rows, height, width, one, shifted, seed)
        expected, before = loop_mosaic(x, partners, center, shift), x.clone()
        found = mosaic(x, partners, center, shift)
        formula = _mosaic_formula(x, partners, center.reshape(-1, 2), shift.reshape(-1, 4, 2))
        assert torch.equal(found, expected)
        assert torch.equal(formula, expected)
        assert found.stride() == formula.stride() == x.stride()
        assert torch.equal(x, before)
        if not shifted:
            assert torch.equal(mosaic(x, partners, center), expected)


def test_mosaic_ends_dtypes_and_gradient() -> None:
    x, partners = torch.randn(4, 3, 6, 5, generator=rng()), torch.tensor([[1, 2, 3], [2, 3, 0], [3, 0, 1], [0, 1, 2]])
    assert torch.equal(mosaic(x, partners, torch.tensor([6, 5])), x)
    assert torch.equal(mosaic(x, partners, torch.tensor([0, 0])), x[partners[:, 2]])
    assert torch.equal(mosaic(x, partners, torch.tensor([0, 5])), x[partners[:, 1]])
    for dtype in (torch.uint8, torch.bfloat16, torch.bool):
        y = (x * 9).to(dtype)
        assert torch.equal(mosaic(y, partners, torch.tensor([2, 3])), loop_mosaic(y, partners, torch.tensor([2, 3]),
                           torch.zeros(4, 2, dtype=torch.long)))  # fmt: skip
    centers = torch.tensor([[1, 2], [0, 4], [6, 5], [3, 3]])
    small = torch.randn(4, 1, 6, 5, dtype=torch.float64, generator=rng()).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: mosaic(value, partners, centers), small)


def test_shares_are_areas() -> None:
    partners, centers, shift = drawn(40, 7, 9, False, False)
    shares = quadrant_shares(centers, 7, 9)
    counted = loop_mosaic(torch.zeros(40, 7, 9), partners, centers, shift)  # the image is of no matter, its size is
    assert counted.shape[1:] == (7, 9)
    for row, (y, x) in enumerate(centers.tolist()):
        areas = [y * x, y * (9 - x), (7 - y) * x, (7 - y) * (9 - x)]
        assert shares[row].tolist() == pytest.approx([area / 63 for area in areas])
    torch.testing.assert_close(shares.sum(-1), torch.ones(40))


def test_bad_input_of_the_kernel_is_named() -> None:
    x, partners, center = torch.zeros(2, 3, 4, 5), torch.tensor([[1, 0, 1], [0, 1, 0]]), torch.tensor([1, 2])
    for bad, message in [
        ((x[:, 0, 0], partners, center), r"\[B, ..., H, W\], got \[2, 5\]"),
        ((x, partners[:, :2], center), r"shape \[2, 3\], got torch.int64 of shape \[2, 2\]"),
        ((x, partners.int(), center), "torch.int32"),
        ((x, partners, center.expand(3, 2)), r"center must have shape \[2\] or \[2, 2\], got \[3, 2\]"),
        ((x, partners, torch.tensor([5, 2])), "center lies outside the image of 4 x 5"),
        ((x, partners, center, torch.zeros(3, 2)), r"shift must have shape \[4, 2\] or \[2, 4, 2\]"),
        ((x, partners, center, torch.full((4, 2), 9)), "shift leads out of the image of 4 x 5"),
    ]:
        with pytest.raises(ValueError, match=message):
            mosaic(*bad)
    with pytest.raises(IndexError):
        mosaic(x, partners + 1, center)
    with pytest.raises(IndexError):
        mosaic(x, partners - 1, center.expand(2, 2))


# the method


def mixed_by(batch: dict[str, Tensor], model: Any = None, **settings: Any) -> Any:
    call = {key: settings.pop(key) for key in ("partner", "given", "inplace") if key in settings}
    call = {"lam" if key == "given" else key: value for key, value in call.items()}
    mixup = Mixup(MixupConfig(method="mosaic", **settings))
    with mixup(model or build("resnet").eval(), batch, **call) as mixed:
        return mixed


def content(mixed: Any, row: int, corner: int, height: int, width: int) -> tuple[int, tuple[slice, slice]]:
    """Which sample a corner shows, and where the corner is."""
    y, x = mixed.draw.center.expand(len(mixed.lam), 2)[row].tolist()
    where = (slice(0, y) if corner < 2 else slice(y, height), slice(0, x) if corner % 2 == 0 else slice(x, width))
    source = [row, *mixed.draw.further[row].tolist(), int(mixed.partner[row])][corner]
    return source, where


@pytest.mark.parametrize(
    "settings", [{}, {"lam_per": "sample"}, {"lam_per": "pair"}, {"lam": 0.3, "lam_per": "sample"}]
)
@pytest.mark.parametrize("size", [(16, 16), (12, 21)])
def test_each_corner_is_a_part_of_one_sample(settings: dict[str, Any], size: tuple[int, int]) -> None:
    (height, width), cells = size, size[0] * size[1]
    number = torch.arange(6 * cells, dtype=torch.float32).reshape(
        6, 1, height, width
    )  # each pixel tells where it is of
    batch = {"pixel_values": number.expand(-1, 3, -1, -1).contiguous(), "labels": torch.tensor([0, 1, 2, 3, 0, 1])}
    for seed in range(4):
        mixed = mixed_by(batch, draw_seed=seed, **settings)
        out, own = mixed.inputs["pixel_values"], torch.arange(6)
        assert bool((mixed.draw.further != own[:, None]).all())
        assert bool((mixed.partner != own).all())
        areas = torch.zeros(6, 4)
        for row, corner in itertools.product(range(6), range(4)):
            source, (down, across) = content(mixed, row, corner, height, width)
            part = out[row, 0, down, across]
            areas[row, corner] = part.numel() / cells
            if part.numel():
                first = int(part[0, 0]) - source * cells
                y, x = divmod(first, width)
                assert 0 <= y <= height - part.shape[0]
                assert 0 <= x <= width - part.shape[1]
                inside = number[source, 0, y : y + part.shape[0], x : x + part.shape[1]]
                assert torch.equal(part, inside)
        torch.testing.assert_close(mixed.lam, areas[:, 0])
        torch.testing.assert_close(mixed.draw.shares, areas[:, 1:3])
        expected = torch.zeros(6, CLASSES)
        for row, corner in itertools.product(range(6), range(4)):
            expected[row, batch["labels"][content(mixed, row, corner, height, width)[0]]] += areas[row, corner]
        torch.testing.assert_close(mixed.targets, expected)
        torch.testing.assert_close(mixed.targets.sum(-1), torch.ones(6))
        if "lam" in settings:
            assert (mixed.lam - 0.3).abs().max() < 0.06
        if settings.get("lam_per") == "pair":
            assert torch.equal(mixed.lam, mixed.lam[mixed.partner])


def test_sides_and_positions_are_drawn_evenly() -> None:
    batch = {"pixel_values": torch.zeros(1).expand(2000, 1, 400, 600), "labels": torch.zeros(2000, dtype=torch.long)}
    request = Request(torch.nn.Identity(), batch, batch["labels"], 1.0, rng())
    draw = MixupConfig(method="mosaic", lam_per="sample", alpha=2.0).mixing.draw(request)
    assert draw.center is not None
    assert draw.shift is not None
    for axis, length in ((0, 400), (1, 600)):
        assert stats.kstest(draw.center[:, axis].numpy() / length, stats.beta(2, 2).cdf).statistic < 0.04
        start = draw.shift[:, 0, axis]
        room = length - draw.center[:, axis]
        assert bool(((start >= 0) & (start <= room)).all())
        assert stats.kstest(((start + 0.5) / (room + 1)).numpy(), stats.uniform.cdf).statistic < 0.05
    assert abs(float(torch.corrcoef(draw.center.T.double())[0, 1])) < 0.1


def test_the_ends_the_coin_and_few_samples() -> None:
    batch = batch_of("resnet")
    x, partner = batch["pixel_values"], torch.tensor([3, 4, 5, 0, 2, 1])
    before = x.clone()
    assert torch.equal(mixed_by(batch, partner=partner, given=1.0).inputs["pixel_values"], x)
    none = mixed_by(batch, partner=partner, given=0.0)
    assert torch.equal(none.inputs["pixel_values"], x[partner])
    assert none.lam.tolist() == [0.0] * 6
    given = torch.tensor([1.0, 0.25, 1.0, 0.0, 0.5, 1.0])
    some = mixed_by(batch, partner=partner, given=given)
    assert torch.equal(some.inputs["pixel_values"][given == 1], x[given == 1])
    assert torch.equal(some.inputs["pixel_values"][3], x[0])
    assert float(some.lam[1]) == 0.25
    batch = {"pixel_values": torch.randn(200, 1, 8, 8), "labels": torch.zeros(200, dtype=torch.long)}
    half = mixed_by(batch, build("resnet", num_channels=1), prob=0.5, prob_per="sample", lam_per="sample", alpha=9.0)
    assert 70 < int((half.lam == 1).sum()) < 130
    for rows in (1, 2, 3, 5):
        few = batch_of("resnet", rows=rows)
        mixed = mixed_by(few, pairing="flip")
        torch.testing.assert_close(mixed.targets.sum(-1), torch.ones(rows))
        assert rows == 1 or bool((mixed.draw.further != torch.arange(rows)[:, None]).all())
    for among in ("same", "different"):
        labels = torch.tensor([0, 0, 0, 1, 1, 1])
        drawn = mixed_by({**batch, "labels": labels}, pair_class=among)
        same = labels[drawn.draw.further] == labels[:, None]
        assert bool((same == (among == "same")).all())
    assert torch.equal(x, before)
    assert mixed_by(batch, inplace=True).inputs["pixel_values"] is x
    assert not torch.equal(x, before)


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"class_weights": [0.5, 1.0, 2.0, 4.0]}])
def test_loss_and_accuracy_have_four_labels(settings: dict[str, Any]) -> None:
    model, batch = build("resnet").eval(), batch_of("resnet", rows=7)
    with Mixup(MixupConfig(method="mosaic", lam_per="sample", **settings))(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    loss = mixed.loss(outputs)
    labels, scores = batch["labels"], outputs.logits.double().log_softmax(-1)
    shares = torch.cat([mixed.lam[:, None], mixed.draw.shares, torch.zeros(7, 1)], 1).double()
    shares[:, 3] = 1 - shares.sum(1)
    smooth, weights, expected, hits = (
        settings.get("label_smoothing", 0.0),
        settings.get("class_weights", [1.0] * 4),
        0,
        0,
    )
    for row, corner in itertools.product(range(7), range(4)):
        label = int(labels[content(mixed, row, corner, 16, 16)[0]])
        target = torch.full((4,), smooth / 4).double()
        target[label] += 1 - smooth
        share = float(shares[row, corner])
        expected = expected - share * (target * scores[row] * torch.tensor(weights).double()).sum()
        hits += share * (int(outputs.logits[row].argmax()) == label)
    torch.testing.assert_close(loss.double(), expected / sum(weights[label] for label in labels), rtol=1e-5, atol=1e-6)
    assert float(mixed.accuracy()) == pytest.approx(hits / 7, abs=1e-6)
    if not settings:
        dense = -(mixed.targets * outputs.logits.log_softmax(-1)).sum(-1).mean()
        torch.testing.assert_close(loss, dense)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_other_problem_types() -> None:
    model, batch, lam = build("resnet").eval(), batch_of("resnet", rows=5), 0.4
    for labels, settings in ((torch.rand(5, 4, generator=rng()), {}), (batch["labels"], {"loss": "bce"})):
        with Mixup(MixupConfig(method="mosaic", lam=lam, **settings))(model, {**batch, "labels": labels}) as mixed:
            outputs = model(**mixed.inputs)
        hot = labels if labels.is_floating_point() else F.one_hot(labels, 4).float()
        target = torch.zeros(5, 4)
        for row in range(5):
            rest = 1 - mixed.lam[row] - mixed.draw.shares[row].sum()
            target[row] = mixed.lam[row] * hot[row] + rest * hot[mixed.partner[row]]
            target[row] += (mixed.draw.shares[row][:, None] * hot[mixed.draw.further[row]]).sum(0)
        torch.testing.assert_close(mixed.targets, target)
        expected = F.binary_cross_entropy_with_logits(outputs.logits, target)
        torch.testing.assert_close(mixed.loss(outputs), expected)
    values = torch.randn(5, generator=rng())
    single = build("resnet")
    single.config.num_labels, single.classifier[1] = 1, torch.nn.Linear(12, 1)
    with Mixup(MixupConfig(method="mosaic"))(single.eval(), {**batch, "labels": values}) as mixed:
        outputs = single(**mixed.inputs)
    rest = 1 - mixed.lam - mixed.draw.shares.sum(1)
    target = mixed.lam * values + rest * values[mixed.partner]
    target += (mixed.draw.shares * values[mixed.draw.further]).sum(1)
    torch.testing.assert_close(mixed.loss(outputs), F.mse_loss(outputs.logits[:, 0], target))


@pytest.mark.parametrize("settings", [{}, {"method": "switch", "methods": ["mosaic", "cutmix"]}])
def test_training_with_mosaic(settings: dict[str, Any], arguments: Any) -> None:
    trainer = MixupTrainer(
        model=build("vit"),
        args=arguments(max_steps=3),
        train_dataset=examples("vit", 9),
        mixup={"method": "mosaic", "prob": 0.7, "prob_per": "sample", **settings},
    )
    assert math.isfinite(trainer.train().training_loss)
