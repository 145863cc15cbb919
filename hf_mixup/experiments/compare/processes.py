"""Runs side by side: one process a CUDA device, each of which takes the next run when it is done with one."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from transformers import TrainingArguments

from hf_mixup.experiments.compare.plan import Made, Plan, make_plan
from hf_mixup.utils.silence import silence_libraries

_POLL = 1.0  # seconds until it is looked whether a process has died
Show = Callable[[int, int, int], None]  # number of the run, step, steps
Ended = tuple[int, str | None]  # number of the run, and why it failed


class FullError(Exception):
    """A process found no space to store its run."""


def cuda_devices(args: TrainingArguments) -> list[str]:
    """Return the CUDA devices that runs may be spread over: none where there is one, or training is elsewhere."""
    import torch

    count = torch.cuda.device_count() if args.device.type == "cuda" else 0
    if count < 2:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in visible.split(",") if name.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


def run_side_by_side(plan: Plan, numbers: Sequence[int], devices: Sequence[str], show: Show) -> Iterator[Ended]:
    """Train these runs of a plan, as many at a time as there are devices; yield each as it ends.

    A process that dies takes one run with it. Whatever ends this, no process is left behind.

    Raises:
        FullError: with what the process said.
    """
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    jobs, messages = context.Queue(), context.Queue()
    for number in [*numbers, *[None] * len(devices)]:
        jobs.put(number)
    made = _picklable(plan.made)
    workers = [context.Process(target=_work, args=(device, made, jobs, messages), daemon=True) for device in devices]
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


def _listen(workers: Sequence[Any], messages: Any, waiting: set[int], show: Show) -> Iterator[Ended]:
    doing: dict[int, int] = {}  # by process id
    while waiting:
        try:
            kind, process, number, value = messages.get(timeout=_POLL)
        except queue.Empty:
            dead = {worker.pid: worker.exitcode for worker in workers if worker.exitcode is not None}
            lost = {doing.pop(process): code for process, code in dead.items() if process in doing}
            if len(dead) == len(workers):
                lost |= dict.fromkeys(waiting - set(lost), 1)
            for number, code in lost.items():
                waiting.discard(number)
                yield number, f"its process ended with exit status {code}"
            continue
        if kind == "full":
            raise FullError(value)
        if kind == "step":
            doing[process] = number
            show(number, *value)
        else:
            doing.pop(process, None)
            waiting.discard(number)
            yield number, value


def _picklable(made: Made) -> tuple[Any, ...]:
    """Return what a plan is made from; a process must make its own TrainingArguments, as they know their device."""
    comparison, task, mixup, args = made
    values = {field.name: getattr(args, field.name) for field in fields(args) if field.init}
    return comparison, task, mixup, type(args), values


def _work(device: str, made: tuple[Any, ...], jobs: Any, messages: Any) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = device  # before anything here asks for a device
    from hf_mixup.experiments.compare.training import Failed, train_one
    from hf_mixup.utils.files import NoSpaceError

    comparison, task, mixup, kind, values = made
    args, own = kind(**values), os.getpid()
    with silence_libraries():
        plan = make_plan(comparison, task, mixup, args)
        for number in iter(jobs.get, None):
            messages.put(("step", own, number, (0, 1)))

            def show(step: int, steps: int, number: int = number) -> None:
                messages.put(("step", own, number, (step, steps)))

            try:
                outcome = train_one(plan.runs[number], args, show)
            except NoSpaceError as error:
                messages.put(("full", own, number, str(error)))
                return
            messages.put(("done", own, number, outcome.reason if isinstance(outcome, Failed) else None))
