"""Two processes end where one ends: the launcher, DDP and the CPU backend are the real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch


def train(processes: int, door: str, name: str, method: str, rows: int, folder: Path, **extra: Any) -> dict[str, Any]:
    folder.mkdir()
    return launch(processes, folder, "train", door, name, method, str(rows), str(folder), json.dumps(extra))


def launch(processes: int, folder: Path, script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of tests/scripts in so many processes; return what it left in the folder."""
    launcher = ["torch.distributed.run", f"--nproc-per-node={processes}", "--standalone", "--module"]
    done = subprocess.run(
        [sys.executable, "-m", *(launcher if processes > 1 else []), f"tests.scripts.{script}", *arguments],
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


@pytest.mark.parametrize("method", ["manifold", "embedding"])
def test_a_sharded_model_equals_a_whole_one(method: str, tmp_path: Path) -> None:
    """FSDP2: each process holds a part of every weight."""
    ends = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        ends.append(launch(processes, folder, "shard", method, str(folder)))
    whole, sharded = ends
    assert sharded["sharded"]
    assert sharded["losses"] == pytest.approx(whole["losses"], rel=1e-5)
    for key, value in whole["weights"].items():
        torch.testing.assert_close(sharded["weights"][key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("door", "method", "extra"),
    [
        ("trainer", "cross_modal", {"local_loss": False, "text_mix": "aligned"}),
        ("trainer", "cross_modal", {"chunk_size": 2, "text_mix": "two_eot"}),
        ("trainer", "cross_modal", {"loss": "sigmoid"}),
        ("collator", "m2", {}),
    ],
)
def test_two_processes_share_their_pairs(door: str, method: str, extra: dict[str, Any], tmp_path: Path) -> None:
    """Each process sees the other's rows as negatives, and its gradients reach them."""
    alone = {key: value for key, value in extra.items() if key != "chunk_size"}
    one = train(1, door, "clip", method, 8, tmp_path / "one", **alone)
    two = train(2, door, "clip", method, 4, tmp_path / "two", **extra)
    for key, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][key], value, rtol=1e-5, atol=2e-6)
    for mine, theirs in zip(two["logs"], one["logs"]):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


def test_processes_may_draw_differently(tmp_path: Path) -> None:
    """Each tosses its own coin and switches to its own method: what they exchange must not depend on it."""
    extra = {"prob": 0.5, "switch_methods": ["cross_modal", "m2", "geodesic"]}
    assert train(2, "trainer", "clip", "switch", 4, tmp_path / "two", **extra)["logs"]
