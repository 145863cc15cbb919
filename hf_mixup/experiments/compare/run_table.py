"""All runs on a cluster in one table: methods down, seeds across."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hf_mixup.experiments.compare.countdown import Countdown
from hf_mixup.experiments.compare.one_run import Failed
from hf_mixup.experiments.compare.plan import Run
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
        self.countdown = Countdown(len(self.cells), len(todo), self._write)
        console = Console(stderr=True, soft_wrap=True)
        watched = not self.countdown.log
        self.live = Live(console=console, get_renderable=self._table, refresh_per_second=2) if watched else None

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
        new = before is None or before[0] != node or before[1] > step  # a lost run begins again
        if new and self.countdown.log:
            self._write(f"{run.title} begins {'again ' if before else ''}on {node}")
        self.at[run] = (node, step)
        self.cells[run] = f"{100 * step // steps}%"

    def done(self, run: Run, outcome: Finished | Failed) -> None:
        """Count a run that has ended, see `Countdown.done`."""
        self.cells[run] = _FAILED if isinstance(outcome, Failed) else _DONE
        self.countdown.done(run, outcome)

    def _write(self, text: str) -> None:
        if self.live is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self.live.console.print(Text(text))

    def _table(self) -> Table:
        counts = [sum(cell == mark for cell in self.cells.values()) for mark in (_DONE, _FAILED, _WAITS)]
        at_work = len(self.cells) - sum(counts)
        title = f"{counts[0]} of {len(self.cells)} runs are finished, {at_work} at work, {counts[1]} failed"
        title += f", about {self.countdown.left} left" if self.countdown.ended else ""
        seeds = sorted({run.seed for run in self.cells})
        table = Table("seed", *map(str, seeds), title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
        rows: dict[tuple[str, str], dict[int, str]] = {}
        for run, cell in self.cells.items():
            rows.setdefault((run.variant.label, run.setting.name), {})[run.seed] = cell
        for (label, setting), cells in rows.items():
            table.add_row(Text(", ".join(filter(None, (label, setting)))), *(cells.get(seed, "") for seed in seeds))
        return table
