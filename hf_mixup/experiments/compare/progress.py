"""One bar over all runs on this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from tqdm import tqdm
from transformers import TrainingArguments

from hf_mixup.experiments.compare.countdown import Countdown, duration
from hf_mixup.experiments.compare.one_run import Failed, Show
from hf_mixup.experiments.compare.plan import Run
from hf_mixup.experiments.compare.store import Finished

_BAR = "{l_bar}{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}]{postfix}"
_WARM, _TIMED = 2, 10  # slow first steps, and timed steps behind them, from which the time of all runs is estimated


class Progress:
    """One bar over all runs, and after the first steps an estimate of what they will take.

    In a log file or a pipe, where a bar would be one endless line, a line for each run that has ended.
    """

    def __init__(self, total: int, todo: Sequence[Run], args: TrainingArguments) -> None:
        self.todo, self.args = list(todo), args
        self.countdown = Countdown(total, len(todo), self._write)
        self.bar: Any = tqdm(
            total=total, initial=total - len(todo), bar_format=_BAR, smoothing=0, disable=self.countdown.log
        )
        self.finished, self.shares = float(total - len(todo)), dict.fromkeys(todo, 0.0)
        self.marks: dict[Run, list[tuple[int, float]]] = {}
        self.estimated, self.at_once = False, 1

    def side_by_side(self, count: int) -> None:
        """Say how many runs are trained at a time."""
        self.at_once = count
        self._write(f"{count} CUDA devices: {count} runs at a time")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.close()

    def of(self, run: Run) -> Show:
        """Return what shows the steps of a run."""
        return lambda step, steps: self.step(run, step, steps)

    def step(self, run: Run, step: int, steps: int) -> None:
        """Show how far a run is."""
        self.shares[run] = step / steps
        self.bar.set_postfix_str(f"{run.title}: step {step}/{steps}", refresh=False)
        self._redraw()
        if not self.estimated:
            self._estimate(run, step, steps)

    def done(self, run: Run, outcome: Finished | Failed) -> None:
        """Count a run that has ended, see `Countdown.done`."""
        self.shares[run] = 1.0
        self._redraw()
        self.bar.refresh()
        self.countdown.done(run, outcome)

    def _write(self, text: str) -> None:
        self.bar.write(text, file=sys.stderr)

    def _redraw(self) -> None:
        if not self.countdown.log:
            self.bar.update(self.finished + sum(self.shares.values()) - self.bar.n)  # draws it a few times a second

    def _estimate(self, run: Run, step: int, steps: int) -> None:
        mark = step, time.perf_counter()
        marks = self.marks.setdefault(run, [])
        if step <= _WARM:
            marks.clear()
        marks.append(mark)
        first = marks[0][0]
        if step > _WARM and step - first >= min(_TIMED, max(1, steps - first)):
            # The median: one step that had to wait for the disk says nothing of the others.
            pace = median((after - before) / (to - since) for (since, before), (to, after) in pairwise(marks))
            # As many steps as epochs over its rows make, unless all runs have the same number.
            rows = [1 if self.args.max_steps > 0 else len(each.setting.prepared.train) for each in (run, *self.todo)]
            seconds = pace * steps * sum(rows[1:]) / rows[0] / self.at_once
            self._write(
                f"about {duration(seconds)} of training for {len(self.todo)} runs, if all are as fast as "
                f"{run.variant.label} in its first {step} steps ({pace:.3g} s each)"
            )
            self.estimated = True
