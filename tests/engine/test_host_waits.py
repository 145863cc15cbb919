"""How often a draw waits for the device: each time that it reads there what only the device knows.

There is no device here. The batch is made of tensors that stand for those of one: what is computed of them is such a
tensor again, and reading one (`.cpu()`, `.item()`, a truth value, `nonzero`, ...) from code of the package is counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hf_mixup import Mixup, MixupConfig
from hf_mixup.engine.exchange import LOOKS
from hf_mixup.engine.stats import MixStats
from hf_mixup.methods.base import Draw, Request
from hf_mixup.models.ragged import layouts
from hf_mixup.testing.batches import tiny
from tests import ragged_models
from tests.conftest import build

READS = ("cpu", "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero", "unique", "numpy")
WAITS: Counter[str] = Counter()
# Labels are looked at, and a loss, only where they lie on the CPU, as the tensors of these tests do.
ON_CPU_ONLY = ("in_range", "forward", "mean_of")


class OnDevice(Tensor):
    """Stands for a tensor of a device."""

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        found = super().__torch_function__(func, types, args, kwargs or {})
        if name not in READS:
            return found
        frame = sys._getframe(1)
        while "/torch/" in frame.f_code.co_filename and frame.f_back is not None:
            frame = frame.f_back
        if "/hf_mixup/" in frame.f_code.co_filename and frame.f_code.co_name not in ON_CPU_ONLY:
            WAITS[f"{name} in {frame.f_code.co_name}"] += 1
        return found.as_subclass(Tensor) if name == "cpu" else found


@contextmanager
def waits() -> Iterator[Counter[str]]:
    WAITS.clear()
    yield WAITS


def request_for(method: str, settings: dict[str, Any], seed: int = 0) -> tuple[Any, Request]:
    family = {"ssmix": "bert", "span_cut": "bert", "embedding": "bert"}.get(method, "vit")
    kind = "image-classification" if family == "vit" else "sequence-classification"
    torch.manual_seed(0)
    model, batch = tiny(kind, family)
    rng = torch.Generator().manual_seed(seed)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    made = MixupConfig(method, **settings).mixing
    made.draw(Request(model, inputs, batch["labels"], 1.0, rng))  # what is found out at first use
    rng.manual_seed(seed)
    watched = {key: value.as_subclass(OnDevice) for key, value in inputs.items()}
    return made, Request(model, watched, batch["labels"].as_subclass(OnDevice), 1.0, rng)


CASES: list[tuple[str, dict[str, Any], int]] = [
    ("mixup", {}, 0),
    ("cutmix", {}, 0),
    ("resizemix", {}, 0),
    ("saliencymix", {}, 0),
    ("saliencymix", {"saliency": "gradient"}, 0),
    ("saliencymix", {"lam_per": "sample", "correct_lam": False}, 0),
    ("attentive", {}, 0),
    ("attentive", {"attention": "rollout", "lam_per": "sample"}, 0),
    ("adversarial", {"attack": "network"}, 0),
    ("puzzlemix", {}, 1),  # mask and moves are loops on the host
    ("ssmix", {}, 1),  # spans are chosen on the host
    ("span_cut", {}, 1),
    ("mixup", {"pair_class": "different"}, 1),  # partners are counted out on the host
    ("mixup", {"pair_class": "same"}, 1),
    ("embedding", {"pairing": "length"}, 1),
]


@pytest.mark.parametrize(("method", "settings", "expected"), CASES, ids=str)
def test_a_draw_waits_for_the_device_no_more_than_it_must(method: str, settings: dict[str, Any], expected: int) -> None:
    made, request = request_for(method, settings)
    with waits() as counted:
        drawn = made.draw(request)
    assert sum(counted.values()) == expected, counted
    assert (drawn.lam < 1).any() or method in ("ssmix", "adversarial")


@pytest.mark.parametrize("name", ragged_models.BUILD)
@pytest.mark.parametrize("settings", [{}, {"method": "cross_modal", "image_mix": "latent"}], ids=str)
def test_a_step_over_images_of_several_sizes_waits_once(name: str, settings: dict[str, Any]) -> None:
    """Where the images lie and how large they are is read together; after a while nothing else is looked at."""
    model, mixup = build(name), Mixup({"method": "mixup", **settings})
    batch = ragged_models.collate(ragged_models.rows(name, 4))
    for _ in range(LOOKS + 3):
        given = {key: value.as_subclass(OnDevice) for key, value in batch.items()}
        with waits() as counted, mixup(model, given) as mixed:
            mixed.loss(model(**mixed.inputs))
    assert counted == {"cpu in _on_host": 1}


def test_a_buffer_that_is_filled_anew_is_read_anew() -> None:
    model, batch = build("siglip2"), ragged_models.collate(ragged_models.rows("siglip2", 4))
    assert layouts(model, batch, tokens=True) is not None
    batch["spatial_shapes"].fill_(2)
    assert layouts(model, batch, tokens=True) is None


class Elsewhere(OnDevice):
    """Says that it lies on another device."""

    device = property(lambda self: torch.device("cuda"))  # type: ignore[assignment]


def test_shares_that_only_the_device_knows_are_logged_as_others_are() -> None:
    torch.manual_seed(0)
    model, batch = tiny("image-classification", "vit")
    logs = []
    for elsewhere in (False, True):
        mixup = Mixup(MixupConfig("saliencymix", prob=0.6, prob_per="sample"))
        draw, stats = mixup.method.draw, MixStats()

        def as_from_a_device(request: Request, draw: Any = draw) -> Draw:
            drawn = draw(request)
            rows = (drawn.lam < 1).nonzero()[:, 0]
            return replace(drawn, lam=drawn.lam.as_subclass(Elsewhere), rows=rows)

        if elsewhere:
            mixup.method.draw = as_from_a_device  # type: ignore[method-assign]
        for _ in range(4):
            WAITS.clear()
            with mixup(model, batch) as mixed:
                stats.add(**mixed.statistics())
            assert not WAITS
        logs.append(stats.pop())
    assert logs[0] == pytest.approx(logs[1])
    assert 0 < logs[0]["mixup_rate"] < 1
