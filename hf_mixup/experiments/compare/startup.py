"""Refusals of a command before it trains or loads anything."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from transformers import TrainingArguments

from hf_mixup.engine.config import MixupConfig
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.prepare import Prepared, check_mixing, check_readable
from hf_mixup.utils.files import check_writable
from hf_mixup.utils.silence import silence_libraries


def require(purpose: str, package: str, extra: str) -> None:
    """Refuse to go on without an optional package.

    >>> require("a report needs", "nowhere", "reports")
    Traceback (most recent call last):
    ...
    ImportError: a report needs nowhere, which is not installed: pip install "hf-mixup[reports]"
    """
    if find_spec(package) is None:
        raise ImportError(f'{purpose} {package}, which is not installed: pip install "hf-mixup[{extra}]"')


def refuse_launcher(args: TrainingArguments, command: str, verb: str = "trains") -> None:
    """Refuse several processes."""
    if args.world_size > 1:
        raise ValueError(f"{command} {verb} in one process: start it without a launcher")


def check_output(output: Path, markers: Iterable[str], content: str) -> None:
    """Refuse an output folder that cannot be written, or that has files but none of the markers."""
    check_writable(output)
    if output.is_dir() and any(output.iterdir()) and not any((output / name).exists() for name in markers):
        raise ValueError(f"output_dir: {output} is not empty and holds no {content}: name another with --output_dir")


def deciding_metric(select_by: str | None, prepared: Prepared, task: TaskArguments) -> str:
    """Return the validation metric that decides between runs; refuse one that the task does not have."""
    metric = select_by or prepared.select_by
    if metric not in prepared.metrics:
        raise ValueError(f"select_by={metric!r} does not score {task.task}: {', '.join(prepared.metrics)} do")
    return metric


def check_methods(prepared: Prepared, methods: Iterable[MixupConfig]) -> None:
    """Refuse a method that does not fit data or model before the first run, not after hours."""
    with silence_libraries():
        check_readable(prepared)
        model = prepared.build_model()
        for mixup in methods:
            check_mixing(prepared, model, mixup)
