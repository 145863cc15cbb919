"""Batches of images, and how the tests of methods that paste look at them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig
from hf_mixup.methods.base import MaskDraw, Request
from tests.conftest import build

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def images(rows: int = 5, height: int = 16, width: int = 16, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pixel_values": torch.randn(rows, 3, height, width, generator=generator),
        "labels": torch.randint(4, (rows,), generator=generator),
    }


def mixed_by(method: str, batch: dict[str, Tensor], model: Any = None, **settings: Any) -> Any:
    call = {key: settings.pop(key) for key in ("partner", "lam", "inplace") if key in settings and key != "alpha"}
    mixup = Mixup(MixupConfig(method=method, self_check=False, **settings))
    with mixup(model or build("resnet").train(), batch, **call) as mixed:
        return mixed


def own_pixels(mixed: Any, height: int, width: int) -> Tensor:
    """Which pixels of each sample stay its own, from the parameters, one at a time."""
    kept = torch.ones(len(mixed.lam), height, width, dtype=torch.bool)
    for row in range(len(kept)):
        for y in range(height):
            for x in range(width):
                if isinstance(mixed.draw, MaskDraw):
                    kept[row, y, x] = mixed.draw.mask[row, y, x]
                else:
                    top, left, bottom, right = mixed.draw.boxes.expand(len(kept), 4)[row].tolist()
                    kept[row, y, x] = not (top <= y < bottom and left <= x < right)
    return kept


def traces(model: Any) -> list[Any]:
    """What a forward pass could leave behind."""
    modes = [module.training for module in model.modules()]
    state = [value.clone() for value in model.state_dict().values()]
    grads = [parameter.grad is None for parameter in model.parameters()]
    return [modes, state, grads, torch.get_rng_state(), model.config._attn_implementation]


def same_traces(one: list[Any], other: list[Any]) -> bool:
    states = all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    return states and one[0] == other[0] and one[2] == other[2] and torch.equal(one[3], other[3]) and one[4] == other[4]


def looking(seed: int = 0) -> Any:
    """A transformer that returns its attention."""
    model = build("vit", seed)
    model.set_attn_implementation("eager")
    return model.train()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=rng(seed)).to(dtype)


def resize_along(length: int, side: int) -> Tensor:
    """What torch's antialiased resizing of `length` pixels to `side` takes from each of them, [side, length].

    One direction at a time: torch 2.14 resizes both wrongly on the CPU where the result is one pixel wide.
    """
    return F.interpolate(
        torch.eye(length, dtype=torch.float64)[None, None], (side, length), mode="bilinear", antialias=True
    )[0, 0]


def loop_paste_resized(x: Tensor, partner: Tensor, boxes: Tensor) -> Tensor:
    out, (height, width) = x.double().clone(), x.shape[-2:]
    for row, (top, left, bottom, right) in enumerate(boxes.expand(len(x), 4).tolist()):
        if bottom > top and right > left:
            down, across = resize_along(height, bottom - top), resize_along(width, right - left)
            out[row, ..., top:bottom, left:right] = down @ x[partner[row]].double() @ across.T
    return out


def draw(method: str, rows: int = 6, size: tuple[int, int] = (12, 9), seed: int = 0, **settings: Any) -> Any:
    """Draw for random images; `partner`, `lam` as a tensor and `prob` go to the request."""
    partner, lam = settings.pop("partner", None), settings.pop("dictated", None)
    config = MixupConfig(method=method, **settings)
    batch, labels = {"pixel_values": randn(rows, 3, *size)}, torch.arange(rows)
    request = Request(torch.nn.Identity(), batch, labels, config.prob, rng(seed), partner, lam)
    return config.mixing.draw(request)
