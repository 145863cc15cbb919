"""The engine against the peers' own classes on the same draws; the kernels: tests/functional/test_parity.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup as TimmMixup
from torchvision.transforms import v2

from hf_mixup import Mixup
from tests.conftest import CLASSES, batch_of, build


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_timm_mixup(smoothing: float) -> None:
    model, batch = build("resnet"), batch_of("resnet")
    theirs = TimmMixup(mixup_alpha=1.0, label_smoothing=smoothing, num_classes=CLASSES)
    lam = 0.3125  # a float32, as every lam here
    theirs._params_per_batch = lambda: (lam, False)
    pixels, targets = theirs(batch["pixel_values"].clone(), batch["labels"])
    config = {"method": "mixup", "pairing": "flip", "lam": lam, "label_smoothing": smoothing}
    with Mixup(config)(model, batch) as mixed:
        pass
    assert torch.equal(mixed.inputs["pixel_values"], pixels)
    assert torch.equal(mixed.targets, targets)


def test_timm_cutmix() -> None:
    model, batch = build("resnet"), batch_of("resnet")
    np.random.seed(3)
    theirs = TimmMixup(mixup_alpha=0.0, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=CLASSES)
    pixels, targets = theirs(batch["pixel_values"].clone(), batch["labels"])
    changed = (pixels != batch["pixel_values"]).any(0).any(0).nonzero()
    (top, left), (bottom, right) = changed.min(0).values.tolist(), (changed.max(0).values + 1).tolist()

    import hf_mixup.methods._boxes as module

    boxes = torch.tensor([top, left, bottom, right])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "cut_boxes", lambda *args, **kwargs: boxes.expand(6, 4))
        mixup = Mixup({"method": "cutmix", "pairing": "flip", "self_check": False})  # its draws are those of timm
        with mixup(model, batch) as mixed:
            pass
    assert torch.equal(mixed.inputs["pixel_values"], pixels)
    torch.testing.assert_close(mixed.targets, targets, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_torchvision(method: str) -> None:
    model, batch = build("resnet"), batch_of("resnet")
    theirs = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[method](num_classes=CLASSES)
    lam, (row, column) = 0.3125, (4, 11)
    theirs._dist = type("Fixed", (), {"sample": lambda self, shape: torch.tensor(lam)})()
    with pytest.MonkeyPatch.context() as patch:
        places = iter([torch.tensor([column]), torch.tensor([row])])
        patch.setattr("torchvision.transforms.v2._augment.torch.randint", lambda *args, **kwargs: next(places))
        pixels, targets = theirs(batch["pixel_values"], batch["labels"])

    import hf_mixup.methods._boxes as module
    from hf_mixup.functional import boxes_at

    with pytest.MonkeyPatch.context() as patch:
        center = torch.tensor([row, column])
        patch.setattr(
            module, "cut_boxes", lambda size, lam, **kwargs: boxes_at(center.expand(6, 2), size, lam, "torchvision")
        )
        config = {"method": method, "pairing": "roll", "lam": lam, "self_check": False}
        config |= {"box_style": "torchvision"} if method == "cutmix" else {}
        with Mixup(config)(model, batch) as mixed:
            pass
    assert torch.equal(mixed.inputs["pixel_values"], pixels)
    torch.testing.assert_close(mixed.targets, targets, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [{}, {"lam_per": "sample"}, {"lam_per": "pair"}, {"prob": 0.5, "prob_per": "sample"}, {"box_style": "torchvision"}],
)
def test_cutmix_lam_is_the_share_of_own_pixels(settings: dict[str, object]) -> None:
    model, batch = build("resnet"), batch_of("resnet", rows=7)
    mixup = Mixup({"method": "cutmix", **settings})
    for _ in range(20):
        with mixup(model, batch) as mixed:
            own = (mixed.inputs["pixel_values"] == batch["pixel_values"]).float().mean((1, 2, 3))
        torch.testing.assert_close(mixed.lam, own)
        other = torch.where(
            mixed.inputs["pixel_values"] == batch["pixel_values"], 0, batch["pixel_values"][mixed.partner]
        )
        assert torch.equal(torch.where(other != 0, mixed.inputs["pixel_values"], 0), other)
