"""Two processes give what one gives: token losses count all targets, gathered sentences see all others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch


def run(processes: int, door: str, rows: int, folder: Path) -> Any:
    folder.mkdir()
    launcher = ["torch.distributed.run", f"--nproc-per-node={processes}", "--standalone", "--module"]
    script = [*(launcher if processes > 1 else []), "tests.trainers.processes", door, str(rows), str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", *script],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(folder / "end.pt", weights_only=True)


@pytest.mark.parametrize("door", ["mixin", "callback"])
def test_two_processes_equal_one(door: str, tmp_path: Path) -> None:
    one, two = run(1, door, 4, tmp_path / "one"), run(2, door, 2, tmp_path / "two")
    assert one["losses"] == pytest.approx(two["losses"], rel=1e-5)
    for name, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], value, rtol=1e-5, atol=1e-6)


def test_gathered_sentences(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from tests.trainers.test_sentences import embeddings, slow

    found, anchors, positives = run(2, "score", 4, tmp_path / "two")
    given = embeddings(8)
    mix = ([1, 0, 3, 2, 5, 4, 7, 6], torch.tensor([0.3] * 4 + [1.0] * 4, dtype=torch.float64))
    expected = slow(given[0], given[1], [], mix, "both", "mixup", 20.0, True)
    torch.testing.assert_close(found.sum(), expected, rtol=1e-5, atol=1e-6)
    for got, wanted in zip((anchors, positives), torch.autograd.grad(expected, given)):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
