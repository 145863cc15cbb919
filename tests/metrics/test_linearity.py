"""How straight probabilities are between rows, against loops and models whose answer is known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hf_mixup import MixupConfig
from hf_mixup.metrics import Linearity, linearity
from tests.conftest import CLASSES, batch_of, build


class Shares(nn.Module):
    """A classifier whose probabilities are a linear map of its inputs, which lie on a simplex."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mixing = nn.Parameter((4 * torch.randn(6, 3)).softmax(-1))

    def forward(self, input_values: Tensor) -> dict[str, Tensor]:
        return {"logits": (input_values @ self.mixing).log()}


class Step(nn.Module):
    """A classifier that is sure of class 1 where its first input is above a threshold, else of class 0."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, input_values: Tensor) -> dict[str, Tensor]:
        above = (input_values[:, 0] > self.threshold).float()
        return {"logits": 1000 * torch.stack([1 - above, above], dim=-1)}


def random_path(steps: int = 7, rows: int = 5, classes: int = 4) -> Linearity:
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=(steps, rows, classes))
    probabilities = scores / scores.sum(axis=-1, keepdims=True)
    labels, others = rng.integers(0, classes, (2, rows))
    others[1] = labels[1]
    return Linearity(np.linspace(0, 1, steps), probabilities, labels, others)


def test_numbers_are_those_of_a_loop() -> None:
    found = random_path()
    steps, rows, classes = found.probabilities.shape
    p = found.probabilities.tolist()
    area = 0.0
    for row in range(rows):
        length = sum(abs(p[-1][row][c] - p[0][row][c]) for c in range(classes)) / 2
        assert found.length[row] == pytest.approx(length)
        off = []
        for step in range(steps):
            lam = step / (steps - 1)
            line = [lam * p[-1][row][c] + (1 - lam) * p[0][row][c] for c in range(classes)]
            off.append(sum(max(p[step][row][c] - line[c], 0) for c in range(classes)))
            assert found.deviation[step, row] == pytest.approx(off[-1], abs=1e-12)
        area += sum((one + two) / 2 for one, two in pairwise(off)) / (steps - 1)
    assert found.share == pytest.approx(area / found.length.sum())
    for step in range(steps):
        missed = 0
        for row in range(rows):
            missed += p[step][row].index(max(p[step][row])) not in (found.labels[row], found.others[row])
        assert found.misses[step] == missed / rows


def test_a_linear_model_is_straight() -> None:
    rows = (2 * torch.randn(8, 6, generator=torch.Generator().manual_seed(1))).softmax(-1)
    found = linearity(Shares(), {"input_values": rows, "labels": torch.arange(8) % 3})
    assert found.length.mean() > 0.1
    np.testing.assert_allclose(found.deviation, 0, atol=1e-6)
    assert found.share < 1e-4


@pytest.mark.parametrize("jump", [0.3, 0.5, 0.8])
def test_a_jump_is_as_far_off_as_its_area(jump: float) -> None:
    batch = {"input_values": torch.tensor([[0.0, 1.0], [1.0, 0.0]]), "labels": torch.tensor([0, 1])}
    found = linearity(Step(jump), batch, partner=torch.tensor([1, 0]), steps=1001)
    assert found.share == pytest.approx((jump**2 + (1 - jump) ** 2) / 2, abs=2e-3)
    assert not found.misses.any()


def test_rows_with_equal_probabilities_have_no_share() -> None:
    batch = {"input_values": torch.tensor([[0.0, 1.0], [0.1, 0.0]]), "labels": torch.tensor([0, 1])}
    found = linearity(Step(0.5), batch)
    assert np.isnan(found.share)
    assert found.misses.mean() == 0


@pytest.mark.parametrize("depth", [None, 0, 1, 2, 3])
def test_the_path_is_the_blend_by_hand(depth: int | None) -> None:
    """At the inputs, and after each block of a ViT that is run block by block."""
    model, batch = build("vit").train(), batch_of("vit")
    partner = torch.tensor([3, 4, 5, 0, 2, 1])
    mixup: Any = "mixup" if depth is None else {"method": "manifold", "layers": [depth]}
    found = linearity(model, batch, mixup, partner=partner, steps=5)
    assert model.training
    assert found.others.tolist() == batch["labels"][partner].tolist()
    model.eval()
    for step, lam in enumerate((0, 0.25, 0.5, 0.75, 1)):
        pixels = batch["pixel_values"]
        states = model.vit.embeddings(pixels if depth is not None else lam * pixels + (1 - lam) * pixels[partner])
        blocks = next(each for each in model.modules() if isinstance(each, torch.nn.ModuleList))
        for index, block in enumerate([*blocks, None]):
            if index == depth:
                states = lam * states + (1 - lam) * states[partner]
            if block is not None:
                states = block(states)
                states = states[0] if isinstance(states, tuple) else states
        expected = model.classifier(model.vit.layernorm(states)[:, 0]).softmax(-1).detach()
        np.testing.assert_allclose(found.probabilities[step], expected, atol=1e-6)


def test_partners_are_drawn_once_and_from_another_class() -> None:
    model, batch = build("resnet"), batch_of("resnet", rows=16)
    apart = MixupConfig("mixup", alpha=0.0, prob=0.0, pair_class="different", disable_last_ratio=1.0)
    found = linearity(model, batch, apart)
    assert (found.labels != found.others).all()
    again = linearity(model, batch, apart)
    np.testing.assert_array_equal(found.probabilities, again.probabilities)


def test_texts_are_blended_inside_the_model() -> None:
    found = linearity(build("bert"), batch_of("bert", lengths=True), "embedding", steps=3)
    assert found.probabilities.shape == (3, 6, CLASSES)


@pytest.mark.parametrize(
    ("changed", "mixup", "options", "message"),
    [
        ({}, "mixup", {"steps": 2}, "steps=2: expected at least 3"),
        ({}, "cutmix", {}, "method 'cutmix' does not blend by the lam it is given"),
        ({}, "regmixup", {}, r"one class a sample: method 'regmixup' gave logits \[12, 4\] for labels \[6\]"),
        ({"labels": torch.rand(6, CLASSES)}, "mixup", {}, r"one class a sample: .* for labels \[6, 4\] of float32"),
        ({}, "embedding", {}, "resnet|ResNet|input_ids"),
    ],
)
def test_what_has_no_such_path_is_refused(
    changed: dict[str, Tensor], mixup: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        linearity(build("resnet"), {**batch_of("resnet"), **changed}, mixup, **options)
