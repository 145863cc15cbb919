"""Two processes end where one ends: the launcher, DDP and the CPU backend are the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch


def train(processes: int, door: str, name: str, method: str, rows: int, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    launcher = ["torch.distributed.run", f"--nproc-per-node={processes}", "--standalone", "--module"]
    script = [*(launcher if processes > 1 else []), "tests.scripts.train", door, name, method, str(rows), str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", *script],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(folder / "end.pt", weights_only=True)


@pytest.mark.parametrize(
    ("door", "name", "method"),
    [("trainer", "vit", "mixup"), ("trainer", "bert", "manifold"), ("collator", "bert", "embedding")],
)
def test_two_processes_equal_one(door: str, name: str, method: str, tmp_path: Path) -> None:
    one = train(1, door, name, method, 4, tmp_path / "one")
    two = train(2, door, name, method, 2, tmp_path / "two")
    for key, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][key], value, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(two["logs"], one["logs"]):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        if door == "trainer":
            assert mine["mixup_accuracy"] == pytest.approx(theirs["mixup_accuracy"], abs=1e-6)
            assert mine["mixup_rate"] == 1
