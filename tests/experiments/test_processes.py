"""Runs side by side in several processes."""

from __future__ import annotations

import queue
from typing import Any

import pytest

from hf_mixup.experiments.compare.processes import _listen
from hf_mixup.utils.files import NoSpaceError


def test_a_process_that_dies_takes_one_run_with_it() -> None:
    class Worker:
        def __init__(self, pid: int, exitcode: int | None) -> None:
            self.pid, self.exitcode = pid, exitcode

    def ended(workers: list[Worker], *said: tuple[str, int, int, Any]) -> list[tuple[int, str | None]]:
        messages: queue.Queue[Any] = queue.Queue()
        for each in said:
            messages.put(each)
        shown: list[tuple[int, int, int]] = []
        return list(_listen(workers, messages, {0, 1, 2}, lambda *step: shown.append(step)))

    died = "its process ended with exit status -9"
    started = (("step", 1, 0, (0, 1)), ("step", 2, 1, (0, 1)), ("done", 2, 1, None))
    last = ("step", 2, 2, (0, 1)), ("done", 2, 2, "ValueError: no")
    assert ended([Worker(1, -9), Worker(2, 1)], *started, *last) == [(1, None), (2, "ValueError: no"), (0, died)]
    assert ended([Worker(1, -9), Worker(2, -9)], *started) == [(1, None), (0, died), (2, died.replace("-9", "1"))]
    with pytest.raises(NoSpaceError, match="no space"):
        ended([], ("full", 1, 0, "no space"))
