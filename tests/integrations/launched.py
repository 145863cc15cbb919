"""Run cases in two processes, which are started once for all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

Case = tuple[list[Any], dict[str, Any]]


def in_two(folder: Path, cases: list[Case], **environment: str) -> Callable[..., Any]:
    """Run the cases; return a function that tells what the first process left of a case."""
    (folder / "cases.json").write_text(json.dumps(cases))
    launcher = ["torch.distributed.run", "--nproc-per-node=2", "--standalone", "--module"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "tests.scripts.cases", str(folder)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]

    def end(*arguments: Any, **extra: Any) -> Any:
        return torch.load(folder / f"{cases.index(([*arguments], extra))}.pt", weights_only=True)

    return end


def forked(train: Callable[..., Any], *given: Any) -> dict[int, Any]:
    """Run a function in two forks, under the agent that `torchrun` and `accelerate launch` have."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="forked",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="fork",
    )
    return elastic_launch(config, train)(*given)


def check_equal(shared: dict[str, Any], alone: dict[str, Any]) -> None:
    """Check that two processes have come to what one comes to: weights, losses, lam and accuracy of each step."""
    assert shared["weights"].keys() == alone["weights"].keys()
    for key, value in alone["weights"].items():
        torch.testing.assert_close(shared["weights"][key], value, rtol=1e-5, atol=1e-6)
    assert len(shared["logs"]) == len(alone["logs"]) > 0
    for mine, theirs in zip(shared["logs"], alone["logs"]):
        for name in ("loss", "mixup_lam", "mixup_rate", "mixup_accuracy"):
            assert (name in mine) == (name in theirs)
            assert mine.get(name, 0) == pytest.approx(theirs.get(name, 0), rel=1e-4, abs=1e-6), name


def check_resumed(end: dict[str, Any]) -> None:
    """Check that a resumed run, and the model that is saved at its end, have the weights of one that went through."""
    straight, resumed = end["ends"]
    assert end["steps"] == [[1, 2, 3, 4]] * 2  # the log of the resumed run begins with that of the checkpoint
    assert straight.keys() == resumed.keys() == end["saved"].keys()
    for key, value in straight.items():
        assert torch.equal(resumed[key], value), key
        assert torch.equal(end["saved"][key], value), key
    assert {"model.safetensors", "mixup_config.json"} <= set(end["files"])
