"""What a training step takes: time and memory of MixupTrainer against the plain Trainer, in one run."""

from __future__ import annotations

import copy
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import Trainer, TrainingArguments

from hf_mixup import Mixup, MixupTrainer
from hf_mixup.utils.environment import hardware, versions
from hf_mixup.utils.files import write_text

Batch = dict[str, Any]
Row = dict[str, Any]
PLAIN = "none"
WARM_UP = 3
PROFILED = 3  # steps whose memory is looked at: what is drawn may change it
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler has nothing to say


def compare(
    label: str,
    model: nn.Module,
    batch: Batch,
    methods: Mapping[str, Mixup],
    rounds: int,
    bf16: bool = False,
    compiler: str | None = None,
) -> list[Row]:
    """Return a row for the plain Trainer and one for each method: what it adds to the plain step, and the ratio to it.

    All take turns, each with a model of its own that starts from the same weights, and a step is compared with the
    plain one of the same turn, so that a loaded machine slows both.

    Args:
        label: what the rows call the model and its batch.
        batch: inputs and labels, on the CPU.
        methods: by the names that the rows call them.
        rounds: turns that are timed, after some that warm up.
        compiler: backend of `torch.compile`, if the models are to be compiled.
    """
    steps = {PLAIN: step_of(None, model, batch, bf16, compiler)}
    steps |= {name: step_of(mixup, model, batch, bf16, compiler) for name, mixup in methods.items()}
    seconds = times(steps, rounds)
    peaks = {name: max(peak_memory(step) for _ in range(PROFILED)) for name, step in steps.items()}
    rows = []
    for name, values in seconds.items():
        low, ratio, high = np.quantile(np.divide(values, seconds[PLAIN]), [0.25, 0.5, 0.75])
        figures = {
            "step_ms": 1e3 * float(np.median(values)),
            "added_ms": 1e3 * float(np.median(np.subtract(values, seconds[PLAIN]))),
            "ratio": ratio,
            "ratio_low": low,
            "ratio_high": high,
            "peak_mb": peaks[name] / 1e6,
            "memory_ratio": peaks[name] / peaks[PLAIN],
        }
        rows.append({"model": label, "method": name} | {key: float(f"{value:.4g}") for key, value in figures.items()})
    return rows


def step_of(
    mixup: Mixup | None, model: nn.Module, batch: Batch, bf16: bool, compiler: str | None
) -> Callable[[], None]:
    """Return a forward and backward pass as the Trainer makes it, on a copy of the model; no optimizer follows."""
    cuda = torch.cuda.is_available()
    args = TrainingArguments(tempfile.mkdtemp(), report_to=[], use_cpu=not cuda, bf16=bf16, disable_tqdm=True)
    own = copy.deepcopy(model)
    trainer = Trainer(own, args) if mixup is None else MixupTrainer(own, args, mixup=mixup)
    trainer.current_gradient_accumulation_steps = 1  # `train` would set it
    prepared = trainer.accelerator.prepare(own)
    if compiler is not None:
        prepared = torch.compile(prepared, backend=compiler)
    on_device = {k: v.to(args.device) if isinstance(v, Tensor) else v for k, v in batch.items()}

    def step() -> None:
        batches, items = trainer.get_batch_samples(iter([dict(on_device)]), 1, args.device)
        trainer.training_step(prepared, batches[0], items)
        own.zero_grad()

    return step


def times(steps: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each step, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for turn in range(-WARM_UP, rounds):
        for position in range(len(names)):
            name = names[(turn + position) % len(names)]  # nobody is always first
            wait()
            start = time.perf_counter()
            steps[name]()
            wait()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory(step: Callable[[], None]) -> int:
    """Return the most bytes that a step holds at a time beyond what was there before: weights and batch are not in it.

    On a CPU these are the allocator's own records, scratch space inside operations included.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    records = sorted((each for each in events if each["name"] == "[memory]"), key=lambda each: each["ts"])
    return max(accumulate(each["args"]["Bytes"] for each in records))


def show(rows: Iterable[Row], title: str) -> None:
    """Print the rows of a model as a table."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    title = f"{title} ({torch.get_num_threads()} threads, load {load:.1f})"
    table = Table("method", title=title, title_justify="left")
    for heading in ("step, ms", "added, ms", "ratio to plain", "quartiles", "peak memory, MB", "ratio to plain"):
        table.add_column(heading, justify="right")
    for row in rows:
        spread = f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
        figures = (
            f"{row['step_ms']:.1f}",
            f"{row['added_ms']:.2f}",
            f"{row['ratio']:.2f}",
            spread,
            f"{row['peak_mb']:.1f}",
        )
        table.add_row(row["method"], *figures, f"{row['memory_ratio']:.2f}")
    Console(width=110).print(table)


def save(rows: list[Row], path: str) -> None:
    """Write the rows and what they were measured on as JSON."""
    environment = {**versions(), "hardware": hardware(), "threads": str(torch.get_num_threads())}
    write_text(Path(path), json.dumps({"results": rows, "environment": environment}, indent=1) + "\n")
