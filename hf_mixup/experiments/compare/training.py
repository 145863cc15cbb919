"""All runs of a plan: those that are stored are found, the others trained; what fails does not stop the rest."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from transformers import TrainingArguments

from hf_mixup.experiments.compare.cluster import Cluster
from hf_mixup.experiments.compare.one_run import Failed, Outcomes, read_back, train_one
from hf_mixup.experiments.compare.plan import Plan, Run
from hf_mixup.experiments.compare.processes import Ended, cuda_devices, run_on_cluster, run_side_by_side
from hf_mixup.experiments.compare.progress import Progress
from hf_mixup.experiments.compare.run_table import RunTable
from hf_mixup.experiments.compare.store import Finished, load_run
from hf_mixup.utils.files import resumable
from hf_mixup.utils.silence import silence_libraries


def train_all(
    plan: Plan, args: TrainingArguments, known: Outcomes | None = None, cluster: Cluster | None = None
) -> Outcomes:
    """Return the outcome of each run, in the order of the plan; of those that are known already, the known one.

    Each finished run is stored at once. A run that raises is noted, and the next one begins. Only Ctrl-C and a full
    disk end it, saying how much is done.

    Args:
        cluster: where to train them, if not here.
    """
    outcomes: Outcomes = dict(known or {})
    for run in plan.runs:
        if run not in outcomes and (stored := load_run(run.folder)) is not None:
            outcomes[run] = stored
    todo = [run for run in plan.runs if run not in outcomes]

    def state() -> str:
        done = sum(isinstance(outcome, Finished) for outcome in outcomes.values())
        return f"{done} of {len(plan.runs)} runs are finished and kept"

    trained = _here(plan, todo, args) if cluster is None else _there(plan, todo, cluster)
    with resumable(state), silence_libraries(), closing(trained):
        for run, outcome in trained:
            outcomes[run] = outcome
    return {run: outcomes[run] for run in plan.runs}


Trained = Generator[tuple[Run, Finished | Failed], None, None]


def _here(plan: Plan, todo: Sequence[Run], args: TrainingArguments) -> Trained:
    """Train one run after the other, or side by side where there are several CUDA devices."""
    devices = cuda_devices(args)[: len(todo)]
    with Progress(len(plan.runs), todo, args) as progress:
        if len(devices) < 2:
            for run in todo:
                outcome = train_one(run, args, progress.of(run))
                progress.done(run, outcome)
                yield run, outcome
            return

        def show(number: int, step: int, steps: int) -> None:
            progress.step(plan.runs[number], step, steps)

        progress.side_by_side(len(devices))
        yield from _counted(plan, run_side_by_side(plan, _numbers(plan, todo), devices, show), progress)


def _there(plan: Plan, todo: Sequence[Run], cluster: Cluster) -> Trained:
    """Train the runs on a cluster."""
    with RunTable(plan.runs, todo) as table:

        def show(number: int, node: str, step: int, steps: int) -> None:
            table.step(plan.runs[number], node, step, steps)

        yield from _counted(plan, run_on_cluster(plan, _numbers(plan, todo), cluster, show), table)


def _counted(plan: Plan, ended: Iterator[Ended], shown: Progress | RunTable) -> Trained:
    """Yield the runs that end in other processes with their outcomes, and show that they have ended."""
    for number, reason in ended:
        run = plan.runs[number]
        outcome = Failed(reason) if reason else read_back(run)
        shown.done(run, outcome)
        yield run, outcome


def _numbers(plan: Plan, todo: Sequence[Run]) -> list[int]:
    waiting = set(todo)
    return [number for number, run in enumerate(plan.runs) if run in waiting]
