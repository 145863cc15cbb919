"""The cap of a learnt scale: from where it starts, never below, only where pairs are mixed and the scale is learnt."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS

SIGLIP, TIPS = 112.34, 197.0  # pretrained scales above CLIP's cap


def started(scale: float) -> Any:
    model = build("clip")
    with torch.no_grad():
        model.logit_scale.fill_(math.log(scale))
    return model


def push(model: Any, scale: float) -> float:
    """Move the scale as a step of the optimizer would, mix once, and return where it is held."""
    with torch.no_grad():
        model.logit_scale.fill_(math.log(scale))
    return scale


@pytest.mark.parametrize(
    ("start", "moved", "held"),
    [(14.3, 90.0, 90.0), (14.3, 130.0, 100.0), (SIGLIP, 150.0, SIGLIP), (SIGLIP, 105.0, 105.0), (TIPS, 400.0, TIPS)],
)
def test_a_learnt_scale_is_held_at_the_cap_or_where_it_started(start: float, moved: float, held: float) -> None:
    model, batch, mixup = started(start), batch_of("clip"), Mixup("cross_modal")
    before = model.logit_scale.detach().clone()
    with mixup(model, batch):
        assert torch.equal(model.logit_scale, before)
    push(model, moved)
    with mixup(model, batch):
        assert model.logit_scale.exp().item() == pytest.approx(held, rel=1e-6)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_scale_that_is_kept_stays(entry_point: str, arguments: Any) -> None:
    model = started(TIPS)
    before = model.logit_scale.detach().clone()
    config = MixupConfig("cross_modal", learn_temperature=False)
    ENTRY_POINTS[entry_point](model, arguments(max_steps=2), config, train_dataset=examples("clip", 8)).train()
    assert torch.equal(model.logit_scale, before)


@pytest.mark.parametrize("settings", [{"prob": 0}, {"alpha": 0}, {"lam": 1}, {"prob": 0, "label_smoothing": 0.1}])
def test_a_scale_is_free_where_nothing_is_mixed(settings: dict[str, Any], arguments: Any) -> None:
    model = started(130.0)
    trainer = MixupTrainer(
        model, arguments(max_steps=1), mixup={"method": "cross_modal", **settings}, train_dataset=examples("clip", 8)
    )
    push(model, 150.0)
    before = model.logit_scale.detach().clone()
    trainer.mixup.prepare(model)
    with trainer.mixup(model, batch_of("clip")):
        assert torch.equal(model.logit_scale, before)


def test_the_temperature_of_align_is_held_from_above() -> None:
    from hf_mixup.engine.similarity_head import Head

    class Inverse(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.temperature = torch.nn.Parameter(torch.tensor(1 / SIGLIP))

    model, starts = Inverse(), {}
    Head(model).clamp(100.0, starts)
    assert model.temperature.item() == pytest.approx(1 / SIGLIP)
    with torch.no_grad():
        model.temperature.fill_(0.001)
    Head(model).clamp(100.0, starts)
    assert model.temperature.item() == pytest.approx(1 / SIGLIP)


def test_a_resumed_run_keeps_the_cap(arguments: Any, tmp_path: Path) -> None:
    """The cap is where the first run started, though the checkpoint's scale is another."""
    ends = []
    for resume in (False, True):
        model = started(SIGLIP)
        args = arguments(max_steps=4, save_strategy="steps", save_steps=2, optim="sgd", learning_rate=0.0)
        trainer = MixupTrainer(model, args, mixup="cross_modal", train_dataset=examples("clip", 16))
        if resume:
            trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
        else:
            trainer.train()
        push(model, 300.0)
        with trainer.mixup(model, batch_of("clip")):
            ends.append(model.logit_scale.exp().item())
    assert ends == pytest.approx([SIGLIP, SIGLIP], rel=1e-6)


def test_a_loop_of_ones_own_saves_the_cap() -> None:
    first, again, batch = Mixup("cross_modal"), Mixup("cross_modal"), batch_of("clip")
    model = started(SIGLIP)
    with first(model, batch):
        push(model, 104.0)
    again.load_state_dict(first.state_dict())
    resumed = started(104.0)
    with again(resumed, batch):
        push(resumed, 150.0)
    with again(resumed, batch):
        assert resumed.logit_scale.exp().item() == pytest.approx(SIGLIP, rel=1e-6)


def test_a_cap_below_the_start_is_said_to_be_above_it() -> None:
    with pytest.warns(UserWarning, match=r"max_logit_scale=50: .* starts at 112.3, above it.*temperature=0.02"):
        Mixup({"method": "cross_modal", "max_logit_scale": 50}).prepare(started(SIGLIP))
    model, mixup = started(SIGLIP), Mixup({"method": "cross_modal", "max_logit_scale": 50, "temperature": 0.02})
    mixup.prepare(model)
    push(model, 60.0)
    with mixup(model, batch_of("clip")):
        assert model.logit_scale.exp().item() == pytest.approx(50, rel=1e-5)
