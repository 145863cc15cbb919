"""Processes that share their samples would draw differently: refused at every entry point."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from accelerate import Accelerator

from hf_mixup import Mixup, MixupConfig
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS


class Layout(SimpleNamespace):
    """Stands for Accelerate's `ParallelismConfig`, which wants as many processes as it names."""

    def __bool__(self) -> bool:
        return False  # so that Accelerate sets up nothing


SPREAD = {"tp": "tensor parallelism", "cp": "context parallelism", "sp": "sequence parallelism"}


@pytest.mark.parametrize("short", SPREAD)
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_trainers(entry_point: str, short: str, arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tp_size=1, cp_size=1, sp_size=1, cp_enabled=False, sp_enabled=False, sp_backend=None)
    setattr(layout, f"{short}_size", 2)
    monkeypatch.setattr(Accelerator, "parallelism_config", property(lambda self: layout))
    with pytest.raises(ValueError, match=rf"{SPREAD[short]}\) spread over 2 processes.*FSDP2"):
        ENTRY_POINTS[entry_point](
            build("bert"), arguments(max_steps=1), MixupConfig("embedding"), train_dataset=examples("bert", 8)
        ).train()


def test_a_loop() -> None:
    model = build("bert").train()
    model._tp_size = 2  # as `from_pretrained(tp_plan="auto")` leaves it
    with pytest.raises(ValueError, match=r"tensor parallelism\) spread over 2 processes"):
        Mixup("embedding")(model, batch_of("bert"))
