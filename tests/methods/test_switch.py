"""switch: each of its methods has settings of its own, also one method that it holds twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hf_mixup import Mixup, MixupConfig
from hf_mixup.methods import GridMix, InputMixup
from hf_mixup.methods import build as build_method
from hf_mixup.methods.switch import Switch
from hf_mixup.models.hooks import hooks_of
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS

TWICE = MixupConfig("switch", methods=[{"method": "mixup", "alpha": 0.05}, "cutmix", {"method": "mixup", "alpha": 500}])


def test_each_position_draws_with_its_own_alpha() -> None:
    model, batch, mixup = build("resnet"), batch_of("resnet"), Mixup(TWICE)
    lams: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for step in range(90):
        mixup.set_step(step)
        with mixup(model, batch) as mixed:
            lams[mixed.draw.choice].append(float(mixed.lam[0]))
        assert mixed.draw.method == ("mixup", "cutmix", "mixup")[mixed.draw.choice]
    assert all(len(found) > 15 for found in lams.values())
    assert all(abs(lam - 0.5) < 0.1 for lam in lams[2])
    assert sum(min(lam, 1 - lam) < 0.05 for lam in lams[0]) > len(lams[0]) * 0.6


def test_one_method_once_draws_as_before() -> None:
    """The choice is drawn first, then what the chosen method draws: as for each method by itself."""
    model, batch = build("resnet"), batch_of("resnet")
    config = MixupConfig("switch", methods=["mixup", "cutmix"], draw_seed=3)
    for step in range(6):
        mixup = Mixup(config)
        mixup.set_step(step)
        with mixup(model, batch) as mixed:
            pass
        alone = Mixup(MixupConfig(mixed.draw.method, draw_seed=3))
        alone.set_step(step)
        rng = alone.clock.tick()
        torch.multinomial(torch.ones(2), 1, generator=rng)
        assert torch.equal(alone.method._draw_partner(_request(model, batch, rng)), mixed.partner)


def _request(model: Any, batch: dict[str, Any], rng: torch.Generator) -> Any:
    from hf_mixup.methods.base import Request

    return Request(model, {"pixel_values": batch["pixel_values"]}, batch["labels"], 1.0, rng)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_entry_point_trains_and_logs(entry_point: str, arguments: Any) -> None:
    model = build("bert")
    config = MixupConfig(
        "switch", methods=[{"method": "manifold", "alpha": 0.2}, "embedding", {"method": "manifold", "alpha": 5}]
    )
    args = arguments(max_steps=6, logging_strategy="steps", logging_steps=2)
    trainer = ENTRY_POINTS[entry_point](model, args, config, train_dataset=examples("bert", 16))
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    if entry_point != "collator":
        assert all(0 < entry["mixup_lam"] <= 1 for entry in logs)
    assert hooks_of(model).checked  # by the exchange of two rows


def test_a_configuration_with_one_method_twice_comes_back(tmp_path: Any) -> None:
    TWICE.save_pretrained(tmp_path)
    assert MixupConfig.from_pretrained(tmp_path) == TWICE
    method = Mixup(TWICE).method
    assert isinstance(method, Switch)
    assert [each.alpha for each in method.held] == [0.05, 1.0, 500.0]


def test_each_method_has_settings_of_its_own() -> None:
    of_each = [{"method": "gaussian", "sigma": 0.2}, GridMix(grid=3), {"method": "resizemix", "box_sides": [0.2, 0.3]}]
    config = MixupConfig("switch", methods=of_each)
    assert config.mixing == Switch(methods=[build_method(each) for each in of_each])
    assert [each.name for each in config.mixing.choices()] == ["gaussian", "gridmix", "resizemix"]
    with pytest.raises(ValueError, match="grid=3: method 'gaussian' does not read it; gridmix does"):
        MixupConfig("switch", methods=[{"method": "gaussian", "grid": 3}])
    with pytest.raises(ValueError, match=r"alpha=0\.4: method 'switch' does not read it; mixup, "):
        MixupConfig("switch", alpha=0.4)


@pytest.mark.parametrize("methods", [["mixup"], [InputMixup()], [{"method": "mixup", "prob_per": "batch"}]])
def test_its_methods_toss_the_coin_as_it_does(methods: list[Any]) -> None:
    config = MixupConfig("switch", prob=0.5, methods=methods).replace(prob_per="sample")
    with Mixup(config)(build("resnet").eval(), batch_of("resnet", rows=32)) as mixed:
        assert 4 < int((mixed.lam < 1).sum()) < 28
    once = config.replace(methods=[{"method": "mixup", "prob": 0.5, "prob_per": "batch"}], prob=1.0)
    with Mixup(once)(build("resnet").eval(), batch_of("resnet", rows=32)) as mixed:
        assert int((mixed.lam < 1).sum()) in (0, 32)
