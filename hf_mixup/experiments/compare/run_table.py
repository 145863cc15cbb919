"""All runs on a cluster in one table: methods down, seeds across."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hf_mixup.experiments.compare.one_run import Failed
from hf_mixup.experiments.compare.plan import Run
from hf_mixup.experiments.compare.progress import time_left
from hf_mixup.experiments.compare.store import Finished

_WAITS, _DONE, _FAILED = "·", "✓", "✗"


class RunTable:
    """Shows how far each run is; in a log file or a pipe, a line for each change.

    Args:
        todo: those of the runs that are not stored yet.
    """

    def __init__(self, runs: Sequence[Run], todo: Sequence[Run]) -> None:
        self.cells: dict[Run, str] = dict.fromkeys(runs, _DONE) | dict.fromkeys(todo, _WAITS)
        self.at: dict[Run, tuple[str, int]] = {}
        self.begun, self.ended, self.todo = time.perf_counter(), 0, len(todo)
        console = Console(stderr=True, soft_wrap=True)
        self.shown = sys.stderr.isatty()
        self.live = Live(console=console, get_renderable=self._table, refresh_per_second=2) if self.shown else None

    def __enter__(self) -> RunTable:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live is not None:
            self.live.stop()

    def step(self, run: Run, node: str, step: int, steps: int) -> None:
        """Show how far a run is."""
        if self.cells[run] in (_DONE, _FAILED):  # said before it ended, and heard after
            return
        before = self.at.get(run)
        if before is None or before[0] != node or before[1] > step:  # a lost run begins again
            self._line(f"{run.title} begins {'again ' if before else ''}on {node}")
        self.at[run] = (node, step)
        self.cells[run] = f"{100 * step // steps}%"

    def done(self, run: Run, outcome: Finished | Failed) -> None:
        """Count a run that has ended; say so if it failed."""
        self.ended += 1
        self.cells[run] = _DONE
        if isinstance(outcome, Failed):
            self.cells[run] = _FAILED
            self._line(f"{run.title} failed: {outcome.reason}", always=True)
        number = len(self.cells) - self.todo + self.ended
        self._line(f"run {number} of {len(self.cells)} has ended: {run.title}; about {self._left()} left")

    def _left(self) -> str:
        return time_left(self.begun, self.ended, self.todo)

    def _line(self, text: str, always: bool = False) -> None:
        if self.live is not None and always:
            self.live.console.print(Text(text))
        elif self.live is None:
            print(text, file=sys.stderr, flush=True)

    def _table(self) -> Table:
        counts = [sum(cell == mark for cell in self.cells.values()) for mark in (_DONE, _FAILED, _WAITS)]
        at_work = len(self.cells) - sum(counts)
        title = f"{counts[0]} of {len(self.cells)} runs are finished, {at_work} at work, {counts[1]} failed"
        title += f", about {self._left()} left" * bool(self.ended)
        seeds = sorted({run.seed for run in self.cells})
        table = Table("seed", *map(str, seeds), title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
        rows: dict[tuple[str, str], dict[int, str]] = {}
        for run, cell in self.cells.items():
            rows.setdefault((run.variant.label, run.setting.name), {})[run.seed] = cell
        for (label, setting), cells in rows.items():
            table.add_row(Text(", ".join(filter(None, (label, setting)))), *(cells.get(seed, "") for seed in seeds))
        return table
