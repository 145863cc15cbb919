"""A process that fails ends the run of both, with its error; what cannot begin is said before the first step.

The processes are forks, under the agent that `torchrun` and `accelerate launch` have.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.scripts.failing import REASON, train


def in_two(*given: Any) -> dict[int, int]:
    """Train in two processes; return the steps of each."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="failing",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="fork",
    )
    return elastic_launch(config, train)(*given)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("dataset", REASON),
        ("collator", REASON),
        ("forward", REASON),
        ("evaluation", REASON),
        ("empty", "process 1 of 2 has no samples of the stream to train on"),
        ("few", "process 1 of 2 has no samples of 1 samples to train on"),
    ],
)
def test_an_error_of_one_ends_both(where: str, reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(ChildFailedError):
        in_two(str(tmp_path), where)
    assert reason in capfd.readouterr().err
    assert time.monotonic() - began < 60


def test_a_stream_that_ends_early_begins_anew(tmp_path: Path) -> None:
    assert in_two(str(tmp_path), "ends") == {0: 3, 1: 3}
