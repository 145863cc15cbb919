"""Runs on a Ray cluster: each is a task with its CPUs and GPUs. Ray says where and when, and begins lost ones again."""

from __future__ import annotations

import logging
import math
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transformers import TrainingArguments

from hf_mixup.experiments.compare.arguments import ClusterArguments
from hf_mixup.experiments.compare.one_run import reason_of
from hf_mixup.utils.files import NoSpaceError
from hf_mixup.utils.suggest import require

_ANSWERS = 5.0  # seconds within which a cluster has to answer
_POLL = 0.5  # seconds between two looks at what the runs say
_AGAIN = 3  # times that a run is begun again whose node or process was lost
Tell = Callable[[int, int], None]
"""Called in a task with a step and the number of steps; the first time before the first step."""
Hear = Callable[[int, str, int, int], None]
"""Called with the number of a task, its node, a step and the number of steps."""


@contextmanager
def connected(where: ClusterArguments, args: TrainingArguments) -> Iterator[Cluster | None]:
    """Connect to the cluster that the settings name, if they name one.

    Raises:
        ImportError: without Ray.
        ConnectionError: if there is no cluster, within seconds.
        ValueError: if no node has what a run asks for.
    """
    if where.ray is None:
        yield None
        return
    require("runs on a cluster need", "ray", "ray")
    import ray

    own = not ray.is_initialized()
    if own:
        _connect(where.ray)
    try:
        resources = where.resources(args)
        _check_room(resources, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        yield Cluster(resources)
    finally:
        if own:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray
    from ray._private.services import canonicalize_bootstrap_address  # what "auto" stands for

    way = "start one with `ray start --head`, and name HOST:PORT as that prints it"
    try:
        named = address if "://" in address else canonicalize_bootstrap_address(address)
        host, _, port = str(named).rpartition("://")[2].rpartition(":")
        # Where nobody listens Ray itself would try for minutes.
        socket.create_connection((host, int(port)), timeout=_ANSWERS).close()
        ray.init(address=named, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"ray={address}: no Ray cluster answers there ({error}): {way}") from error
    except ValueError as error:
        raise ValueError(f"ray={address}: expected auto, or an address HOST:PORT") from error
    except RuntimeError as error:  # of another version
        raise ValueError(f"ray={address}: {error}") from error


def _check_room(asked: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> None:
    """Refuse runs that would wait for ever.

    >>> _check_room({"num_cpus": 8, "num_gpus": 1}, [{"CPU": 4, "GPU": 2}, {"CPU": 16}])
    Traceback (most recent call last):
    ...
    ValueError: cpus_per_run=8, gpus_per_run=1: no node of the cluster has as much; its nodes have CPUs and GPUs: 4
    and 2, 16 and 0
    """
    has = [(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes]
    if not any(asked["num_cpus"] <= cpus and asked["num_gpus"] <= gpus for cpus, gpus in has):
        found = ", ".join(f"{cpus:g} and {gpus:g}" for cpus, gpus in has)
        raise ValueError(
            f"cpus_per_run={asked['num_cpus']:g}, gpus_per_run={asked['num_gpus']:g}: no node of the cluster has as "
            f"much; its nodes have CPUs and GPUs: {found}"
        )


@dataclass(frozen=True)
class Cluster:
    """A connection to a Ray cluster, and what each task takes of it."""

    resources: dict[str, float]

    def run(self, work: Callable[..., str | None], jobs: Mapping[int, tuple[Any, ...]], hear: Hear) -> Iterator[Any]:
        """Run `work(tell, *job)` as a task for each job, and yield number and reason of failure (or None) as they end.

        A task whose node or process is lost begins again elsewhere, a few times. Whatever ends this, no task is left.

        Raises:
            NoSpaceError: if a task raised it.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        remote: Any = ray.remote
        board = remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(_Board).remote()
        task = remote(max_retries=_AGAIN, **self.resources)(_work)
        threads = int(self.resources["num_cpus"])
        running = {task.remote(board, number, os.getcwd(), threads, work, *job): number for number, job in jobs.items()}
        try:
            while running:
                ended, _ = ray.wait(list(running), num_returns=len(running), timeout=_POLL)
                for message in _news(board):
                    hear(*message)
                for each in ended:
                    yield running.pop(each), _failure(each)
        finally:
            for each in running:
                ray.cancel(each, force=True)
            ray.kill(board)


class _Board:
    """What the tasks have said since it was read; an actor on the node that reads it."""

    def __init__(self) -> None:
        self.last: dict[int, tuple[str, int, int]] = {}

    def write(self, number: int, node: str, step: int, steps: int) -> None:
        self.last[number] = (node, step, steps)

    def read(self) -> list[tuple[int, str, int, int]]:
        said, self.last = self.last, {}
        return [(number, *message) for number, message in said.items()]


def _news(board: Any) -> list[tuple[int, str, int, int]]:
    """Return what the tasks have said; nothing while the board itself is lost, as it begins again, too."""
    import ray

    try:
        said: list[tuple[int, str, int, int]] = ray.get(board.read.remote(), timeout=_ANSWERS)
    except ray.exceptions.RayError:
        return []
    return said


def _work(board: Any, number: int, folder: str, threads: int, work: Callable[..., str | None], *job: Any) -> str | None:
    """Run one job in a process of the cluster, in the working directory of who asked for it."""
    import ray
    import torch

    os.chdir(folder)  # so that relative paths are the same
    torch.set_num_threads(threads)
    node = f"{platform.node()}/{ray.get_runtime_context().get_node_id()[:6]}"

    told = -math.inf

    def tell(step: int, steps: int) -> None:
        nonlocal told
        if time.monotonic() - told > _POLL:
            told = time.monotonic()
            board.write.remote(number, node, step, steps)

    tell(0, 1)
    return work(tell, *job)


def _failure(task: Any) -> str | None:
    import ray

    try:
        reason: str | None = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, NoSpaceError):
            raise NoSpaceError(str(error.cause)) from error
        return reason_of(error.cause)
    except ray.exceptions.RayError as error:
        return f"lost {1 + _AGAIN} times, the last time with {reason_of(error)}"
    return reason
