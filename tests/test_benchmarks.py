"""The benchmarks of a step: they cover the registry, count memory rightly, and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_mixup.methods import METHODS
from hf_mixup.methods.mixup import InputMixup

FOLDER = Path(__file__).parent / "benchmarks"
FIGURES = {"model", "method", "step_ms", "added_ms", "ratio", "ratio_low", "ratio_high", "peak_mb", "memory_ratio"}


@pytest.fixture
def bench_step(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench_step

    return bench_step


def measured(bench_step: Any) -> list[str]:
    return [name for place in bench_step.MODELS for name in bench_step.methods_on(place, METHODS)]


def test_every_method_is_measured_a_new_one_unasked(bench_step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(bench_step.ELSEWHERE) <= set(METHODS)
    assert set(METHODS) <= set(measured(bench_step))
    monkeypatch.setitem(METHODS, "yours", type("Yours", (InputMixup,), {"name": "yours"}))
    assert measured(bench_step).count("yours") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="the allocator of a GPU rounds sizes")
def test_peak_memory_is_what_is_held_at_a_time(bench_step: Any) -> None:
    from steps import peak_memory

    there = torch.ones(10**6)

    def step() -> None:
        first = there + 1  # 4 MB
        del first
        second = there + 1
        third = second[: 10**5] + second[: 10**5]  # 0.4 MB beside the second 4
        del second
        third.sum()

    assert peak_memory(step) == 4_400_000


def test_a_round_gives_a_row_a_method_beside_the_plain_one(
    bench_step: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cost.json"
    asked = ["--rounds", "1", "--json", str(path), "--methods", "cutmix", "regmixup", "tabular"]
    monkeypatch.setattr(sys, "argv", ["bench_step.py", *asked])
    bench_step.main()
    kept = json.loads(path.read_text())
    assert [row["method"] for row in kept["results"]] == ["none", "cutmix", "regmixup", "none", "tabular"]
    rows = {row["method"]: row for row in kept["results"][:3]}
    assert all(set(row) == FIGURES for row in kept["results"])
    assert rows["none"]["ratio"] == rows["none"]["memory_ratio"] == 1
    assert 1 < rows["cutmix"]["memory_ratio"] < 1.5 < rows["regmixup"]["memory_ratio"] < 2.5  # twice the rows
    assert {"Python", "torch", "hardware", "threads"} <= set(kept["environment"])
    assert "regmixup" in capsys.readouterr().out


def test_what_python_adds_is_measured_at_each_entry_point(
    bench_step: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench_python

    monkeypatch.setattr(bench_python, "WARM_UP", 1)
    monkeypatch.setattr(bench_python, "TURNS", 3)
    monkeypatch.setattr(sys, "argv", ["bench_python.py", "--steps", "12", "--methods", "cutmix"])
    bench_python.main()
    out = capsys.readouterr().out
    assert all(out.count(f"cutmix │ {each}") == 1 for each in bench_python.ENTRY_POINTS)


def test_what_mixing_costs_is_measured_by_size(
    bench_step: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench_scaling

    monkeypatch.setattr(bench_scaling, "SIZES", {"mine": (16, 1, 2, (2, 4))})
    monkeypatch.setattr(sys, "argv", ["bench_scaling.py", "--rounds", "1"])
    bench_scaling.main()
    out = capsys.readouterr().out
    assert out.count("│ mine") == 2
    assert all(each in out for each in bench_scaling.STREAMS)


def test_without_a_gpu_it_says_so(
    bench_step: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench_gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py"])
    bench_gpu.main()
    assert "no CUDA GPU" in capsys.readouterr().out


def test_the_benchmark_of_a_gpu_runs_at_tiny_sizes(tmp_path: Path) -> None:
    """In a process of its own: Accelerate keeps bf16 for all trainers of a process."""
    path = tmp_path / "gpu.json"
    command = [sys.executable, str(FOLDER / "bench_gpu.py"), "--tiny", "--rounds", "1", "--json", str(path)]
    found = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert found.returncode == 0, found.stderr
    assert "blend, lam per row" in found.stdout
    rows = json.loads(path.read_text())["results"]
    assert {row["method"] for row in rows} == {"none", "mixup", "cutmix", "manifold", "embedding", "cross_modal"}
    assert sum(row["method"] == "none" for row in rows) == 6  # three models, compiled and not
