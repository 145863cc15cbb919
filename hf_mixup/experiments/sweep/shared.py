"""The trials of a study as work that several workers share: each is taken by one, and a dead one's by another."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_mixup.experiments.compare.one_run import StopRun
from hf_mixup.utils.hold import SILENT, holder

REASON = "reason"
QUEUED = "fixed_params"  # where Optuna keeps the settings of a trial that was queued
_WORKER = "worker"


class TrialFailed(Exception):
    """Raised by the work of a trial that failed, with the reason; it counts, and is not tried again."""


class _Surplus(Exception):
    """Two workers have asked for the last trial, and this one came second."""


Work = Callable[[Any, int], float]
"""Called with a trial and the number of trials before it; returns the value that decides."""


@dataclass(frozen=True)
class Shared:
    """A study whose workers share its trials.

    A trial that failed without a reason was interrupted: it does not count, and another one takes its place.

    Args:
        budget: trials that are to be done; None to do those that were queued, and no others.
        worker: file that this process holds as long as it is at work, see `opened`.
    """

    study: Any
    budget: int | None
    worker: Path | None

    def done(self) -> list[Any]:
        """Return the trials that ended."""
        return [trial for trial in self._counted() if trial.state.is_finished()]

    def _counted(self) -> list[Any]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if not was_interrupted(trial)]

    def work(self, work: Work) -> bool:
        """Take a trial and do its work; return whether there was one to take.

        Raises:
            Exception: what `work` raises, but for `TrialFailed` and `StopRun`; the trial waits for the next worker.
        """
        import optuna

        self._give_back()
        counted = self._counted()
        waiting = any(trial.state == optuna.trial.TrialState.WAITING for trial in counted)
        if not waiting and len(counted) >= (self.budget or 0):
            return False
        taken: list[Any] = []
        late: list[Any] = []

        def objective(trial: Any) -> float:
            before = sum(each.number < trial.number for each in self._counted())
            queued = QUEUED in self._at(trial.number).system_attrs
            surplus = not queued if self.budget is None else before >= self.budget
            if surplus:
                raise _Surplus
            taken.append(trial)
            if self.worker is not None:
                trial.set_user_attr(_WORKER, self.worker.name)
            try:
                return work(trial, before)
            except StopRun as stop:
                trial.set_user_attr(REASON, str(stop))
                raise optuna.TrialPruned(str(stop)) from stop
            except TrialFailed as error:
                trial.set_user_attr(REASON, str(error))
                raise
            finally:
                if self._at(trial.number).state.is_finished():
                    late.append(trial)

        try:
            self.study.optimize(objective, n_trials=1, catch=(_Surplus, TrialFailed))
        except BaseException as error:
            if late and isinstance(error, (ValueError, RuntimeError, AssertionError)):
                return True  # this worker was silent for so long that another one has done its trial
            for trial in taken:
                self._again(trial.number)
            raise
        return bool(taken)

    def _at(self, number: int) -> Any:
        return self.study.get_trials(deepcopy=False)[number]

    def _give_back(self) -> None:
        """Let the trials of dead workers be tried again; a database knows them by itself, if it is asked."""
        import optuna

        if self.worker is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                optuna.storages.fail_stale_trials(self.study)
            return
        for trial in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            name = trial.user_attrs.get(_WORKER)
            if name is None:  # it was asked for just now, or its worker died at once
                dead = time.time() - trial.datetime_start.timestamp() > SILENT
            else:
                dead = name != self.worker.name and holder(self.worker.with_name(name)) is None
            if dead:
                self._again(trial.number)
                if name is not None:
                    self.worker.with_name(name).unlink(missing_ok=True)

    def _again(self, number: int) -> None:
        """End a trial as interrupted, and queue its settings, unless somebody else has done so."""
        import optuna

        trial = self._at(number)
        if trial.state == optuna.trial.TrialState.RUNNING:
            try:
                self.study.tell(number, state=optuna.trial.TrialState.FAIL)
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                return
        if trial.params:
            self.study.enqueue_trial(trial.params)


def was_interrupted(trial: Any) -> bool:
    """Whether a trial came to no end of its own."""
    return bool(trial.state.name == "FAIL" and REASON not in trial.user_attrs)
