"""What DeepSpeed does not allow is refused before training; DeepSpeed itself is not there, its marks are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS


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
