"""The kernels against timm and torchvision on the same draws, bit for bit; the engine: tests/engine/test_peers.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_mixup.functional import (
    blend,
    box_lam,
    boxes_at,
    cut,
    pair,
    soft_targets,
)
from tests.functional.common import (
    randn,
    rng,
)


def own_boxes_of_timm(lam: np.ndarray | float, size: tuple[int, int], box_sides: tuple[float, float] | None) -> Tensor:
    """Replay timm's draws from numpy's global state, row by row as it does, and build the boxes with ours."""
    lam_rows = torch.as_tensor(lam, dtype=torch.float64 if isinstance(lam, float) else torch.float32)
    boxes = []
    for value in lam_rows.reshape(-1):
        if isinstance(lam, np.ndarray) and value == 1:
            boxes.append(torch.zeros(4, dtype=torch.long))  # timm draws nothing for a row left alone
        elif box_sides:
            side = [np.random.randint(int(length * box_sides[0]), int(length * box_sides[1])) for length in size]
            start = [np.random.randint(0, length - cut + 1) for length, cut in zip(size, side, strict=True)]
            boxes.append(torch.tensor([*start, start[0] + side[0], start[1] + side[1]]))
        else:
            center = torch.tensor([np.random.randint(0, length) for length in size])
            boxes.append(boxes_at(center, size, value))
    return torch.stack(boxes).reshape(*lam_rows.shape, 4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
@pytest.mark.parametrize("method", ["mixup", "cutmix", "box_sides"])
@pytest.mark.parametrize("size", [(112, 112), (37, 52)])
def test_parity_with_timm(seed: int, mode: str, method: str, size: tuple[int, int]) -> None:
    timm_mixup = pytest.importorskip("timm.data.mixup")
    batch, classes, prob = 6, 10, 0.8
    box_sides = (0.2, 0.8) if method == "box_sides" else None
    theirs = timm_mixup.Mixup(
        mixup_alpha=0.8 if method == "mixup" else 0.0,
        cutmix_alpha=0.0 if method == "mixup" else 1.0,
        cutmix_minmax=box_sides,
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
        boxes = own_boxes_of_timm(drawn, size, box_sides)
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
    boxes = boxes_at(torch.tensor([row, column]), size, lam, style="torchvision")
    assert torch.equal(cut(x, partner, boxes), expected_x)
    top, left, bottom, right = boxes.tolist()
    amount = 1 - (bottom - top) * (right - left) / (size[0] * size[1])
    assert torch.equal(soft_targets(labels, partner, amount, classes), expected_y)
