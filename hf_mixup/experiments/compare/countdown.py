"""Runs that end are counted, and said in one way, whether they are shown by a bar or by a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from hf_mixup.experiments.compare.one_run import Failed
from hf_mixup.experiments.compare.plan import Run
from hf_mixup.experiments.compare.store import Finished


class Countdown:
    """Counts the runs that end.

    Args:
        total: how many runs there are.
        todo: how many of them are not stored yet.
        write: prints a line, beside the bar or the table.

    Attributes:
        log: whether stderr is a log file or a pipe, where a bar or a table would be one endless line.
    """

    def __init__(self, total: int, todo: int, write: Callable[[str], None]) -> None:
        self.total, self.todo, self.write, self.log = total, todo, write, not sys.stderr.isatty()
        self.begun, self.ended = time.perf_counter(), 0

    def done(self, run: Run, outcome: Finished | Failed) -> None:
        """Count a run that has ended: a line in a log, and everywhere one that says why it failed."""
        self.ended += 1
        if isinstance(outcome, Failed):
            self.write(f"{run.title} failed: {outcome.reason}")
        if self.log:
            number = self.total - self.todo + self.ended
            self.write(f"run {number} of {self.total} has ended: {run.title}; about {self.left} left")

    @property
    def left(self) -> str:
        """How long the other runs will take, if all are as fast as those that have ended."""
        return duration((time.perf_counter() - self.begun) / self.ended * (self.todo - self.ended))


def duration(seconds: float) -> str:
    """Return a time in the unit that fits it.

    >>> duration(42), duration(400), duration(9000)
    ('42 s', '7 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
