"""What DeepSpeed does not allow is refused before training, by its marks; where it is installed, it trains."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hf_mixup.methods.base
from hf_mixup import Mixup, MixupConfig, MixupTrainer
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS
from tests.integrations.launched import Case, check_equal, check_resumed, in_two
from tests.scripts.cases import neighbours
from tests.scripts.engines import spread


class DeepSpeedEngine(nn.Module):
    """Wraps a model as DeepSpeed's does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, **inputs: Any) -> Any:
        return self.module(**inputs)


def test_chunks(arguments: Any) -> None:
    config = MixupConfig("cross_modal", chunk_size=2)
    model = build("clip")
    with (
        pytest.raises(ValueError, match=r"chunk_size .*DeepSpeed does not allow"),
        Mixup(config)(model, batch_of("clip")) as mixed,
    ):
        mixed.forward(DeepSpeedEngine(model))
    trainer = MixupTrainer(model, arguments(), mixup=config, train_dataset=examples("clip", 8))
    trainer.is_deepspeed_enabled = True
    with pytest.raises(ValueError, match=r"chunk_size .*DeepSpeed does not allow"):
        trainer._refuse_what_cannot_mix()  # as when it is built


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_temperature_in_parts(entry_point: str, arguments: Any) -> None:
    model = build("clip")
    rows, batch = examples("clip", 8), batch_of("clip")
    model.logit_scale = nn.Parameter(torch.empty(0))
    model.logit_scale.ds_id = 3  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"ZeRO-3 keeps the temperature of CLIPModel in parts.*ZeRO-2 or DDP"):
        ENTRY_POINTS[entry_point](model, arguments(max_steps=1), MixupConfig("cross_modal"), train_dataset=rows).train()
    with pytest.raises(ValueError, match="ZeRO-3 keeps the temperature"), Mixup("cross_modal")(model, batch) as mixed:
        mixed.loss(model(**mixed.inputs))


def test_the_setting_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.integrations.is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(ValueError, match="ZeRO-3 keeps the temperature"):
        Mixup("cross_modal").prepare(build("clip"))


SPREAD: list[tuple[str, str, dict[str, Any]]] = [
    ("vit", "mixup", {}),
    ("bert", "embedding", {}),
    ("bert", "manifold", {}),
    ("trocr", "cross_modal", {}),
    ("bert", "manifold", {"loss": "own", "prob": 0.5}),
    ("bert", "adversarial", {"attack": "network"}),
]
STAGES = ["zero2", "zero3"]
CASES: list[Case] = [
    *((["spread", stage, *each, 2], extra) for stage in STAGES for *each, extra in SPREAD),
    *((["resumed", stage, 2], {}) for stage in STAGES),
    (["tried", "zero3"], {}),
]
NEEDS = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run the cases in two processes on CPUs."""
    return in_two(tmp_path_factory.mktemp("two"), CASES, DS_ACCELERATOR="cpu")


@NEEDS
@pytest.mark.slow
@pytest.mark.parametrize(("name", "method", "extra"), SPREAD)
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_equal_one(
    stage: str, name: str, method: str, extra: dict[str, Any], two: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_mixup.methods.base, "pair", neighbours)
    shared = two("spread", stage, name, method, 2, **extra)
    assert shared["kind"] == "DEEPSPEED"
    if stage == "zero2" and extra.get("prob"):  # each process tosses a coin of its own
        assert {entry["mixup_rate"] for entry in shared["logs"]} <= {0, 0.25, 0.5, 0.75, 1}
        return
    check_equal(shared, spread(str(tmp_path), "ddp", name, method, 4, **extra))


@NEEDS
@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_resumes(stage: str, two: Any) -> None:
    check_resumed(two("resumed", stage, 2))


@NEEDS
@pytest.mark.slow
def test_the_processes_try_the_exchange_together(two: Any) -> None:
    one, other = two("tried", "zero3")["steps"]
    assert {*one} == {0, 1}
    assert one == other
