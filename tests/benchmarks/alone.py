"""Measuring in a process of its own, so that a peak of memory is that of one way alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any


def alone(work: Callable[..., None], *task: Any) -> Any:
    """Run `work(*task, answer)` in a new process; return what it sends by `answer.send`."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=work, args=(*task, theirs))
    process.start()
    found = mine.recv()
    process.join()
    return found
