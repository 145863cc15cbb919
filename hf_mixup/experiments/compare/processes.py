"""Runs in other processes: one for each CUDA device, which takes the next run when it is done, or on a cluster.

Each process makes the plan again from its inputs, and trains runs of it by their numbers.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hf_mixup.experiments.compare.cluster import Cluster, Hear, Tell
from hf_mixup.experiments.compare.one_run import Failed, train_one
from hf_mixup.experiments.compare.plan import Plan, make_plan
from hf_mixup.experiments.compare.store import load_run
from hf_mixup.utils.files import NoSpaceError
from hf_mixup.utils.silence import silence_libraries

_POLL = 1.0  # seconds between two looks for a process that has died
ShowRun = Callable[[int, int, int], None]  # number of the run, step, steps
Ended = tuple[int, str | None]  # number of the run, and why it failed


def cuda_devices(args: TrainingArguments) -> list[str]:
    """Return the CUDA devices to spread runs over; none where there is only one, or training is elsewhere."""
    import torch

    count = torch.cuda.device_count() if args.device.type == "cuda" else 0
    if count < 2:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in visible.split(",") if name.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


def run_side_by_side(plan: Plan, numbers: Sequence[int], devices: Sequence[str], show: ShowRun) -> Iterator[Ended]:
    """Train these runs of a plan, one a device at a time, and yield each as it ends.

    A process that dies takes one run with it. Whatever ends this, no process is left behind.

    Raises:
        NoSpaceError: if a process found no space to store its run.
    """
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    jobs, messages = context.Queue(), context.Queue()
    for number in [*numbers, *[None] * len(devices)]:
        jobs.put(number)
    inputs = picklable(plan.inputs)
    workers = [context.Process(target=_work, args=(device, inputs, jobs, messages), daemon=True) for device in devices]
    try:
        for worker in workers:
            worker.start()
        yield from _listen(workers, messages, set(numbers), show)
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
            if worker.pid is not None:
                worker.join()


def _listen(workers: Sequence[Any], messages: Any, waiting: set[int], show: ShowRun) -> Iterator[Ended]:
    at_work: dict[int, int] = {}  # process id -> its run
    while waiting:
        try:
            message, process, number, value = messages.get(timeout=_POLL)
        except queue.Empty:
            dead = {worker.pid: worker.exitcode for worker in workers if worker.exitcode is not None}
            lost = {at_work.pop(process): code for process, code in dead.items() if process in at_work}
            if len(dead) == len(workers):
                lost |= dict.fromkeys(waiting - set(lost), 1)
            for number, code in lost.items():
                waiting.discard(number)
                yield number, f"its process ended with exit status {code}"
            continue
        if message == "full":
            raise NoSpaceError(value)
        if message == "step":
            at_work[process] = number
            show(number, *value)
        else:
            at_work.pop(process, None)
            waiting.discard(number)
            yield number, value


def picklable(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return inputs of which TrainingArguments are the last as what a process makes its own of: they hold a device."""
    *others, args = inputs
    values = {field.name: getattr(args, field.name) for field in fields(args) if field.init}
    return *others, type(args), values


def unpickled(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what `picklable` was given, as inputs of this process."""
    *others, args_type, own = values
    return *others, args_type(**own)


def _plan_from(values: tuple[Any, ...]) -> Plan:
    return make_plan(*unpickled(values))


def _work(device: str, inputs: tuple[Any, ...], jobs: Any, messages: Any) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = device  # before anything here asks for a device
    own = os.getpid()
    with silence_libraries():
        plan = _plan_from(inputs)
        for number in iter(jobs.get, None):
            messages.put(("step", own, number, (0, 1)))

            def show(step: int, steps: int, number: int = number) -> None:
                messages.put(("step", own, number, (step, steps)))

            try:
                outcome = train_one(plan.runs[number], plan.inputs[-1], show)
            except NoSpaceError as error:
                messages.put(("full", own, number, str(error)))
                return
            messages.put(("done", own, number, outcome.reason if isinstance(outcome, Failed) else None))


def run_on_cluster(plan: Plan, numbers: Sequence[int], cluster: Cluster, hear: Hear) -> Iterator[Ended]:
    """Train these runs of a plan on a cluster, and yield each as it ends.

    Raises:
        NoSpaceError: if there was no space to store a run.
    """
    from ray import cloudpickle

    inputs = cloudpickle.dumps(picklable(plan.inputs))  # also a task that the script defines
    jobs = {number: (inputs, number, plan.runs[number].folder) for number in numbers}
    yield from cluster.run(_train, jobs, hear)


_plan_of = lru_cache(maxsize=1)(lambda inputs: _plan_from(pickle.loads(inputs)))  # a process may get several runs


def _train(tell: Tell, inputs: bytes, number: int, folder: Path) -> str | None:
    """Train a run in a process of a cluster; return why it failed."""
    with silence_libraries():
        plan = _plan_of(inputs)
        run = plan.runs[number]
        if run.folder != folder:
            raise ValueError(
                f"this node would train {run.folder.name} where {folder.name} was asked for: it sees other data, or "
                "has other versions of packages, or another kind of device"
            )
        if load_run(folder) is not None:  # it was stored before its node was lost
            return None
        outcome = train_one(run, plan.inputs[-1], tell)
    return outcome.reason if isinstance(outcome, Failed) else None
