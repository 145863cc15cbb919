"""A stream of training samples: shuffled, shared out over processes and workers, prepared on the fly, endless."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from datasets import Features, Value, interleave_datasets
from datasets import IterableDataset as Rows
from datasets.distributed import split_dataset_by_node
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import Trainer, TrainingArguments

from hf_mixup.engine.all_gather import process_index, world_size
from hf_mixup.experiments.tasks.arguments import PAIRS, TaskArguments
from hf_mixup.experiments.tasks.shards import ROW, SHARD, Shard, StreamError, plain, read_shards
from hf_mixup.experiments.tasks.streaming import shown

if TYPE_CHECKING:
    _AnyTrainer = Trainer
else:
    _AnyTrainer = object

_CHUNK = 64  # rows prepared at a time: enough to share the cost of a table, few enough to be held by each worker
_UNFIT = (ValueError, TypeError, KeyError, OSError, pa.ArrowException)  # what preparing raises for a row
_FIRST_ROW = re.compile(r"^(.*, )?row 0[:,]? ", re.DOTALL)
# What is logged at the end of training: samples of this process, and the share of the time without any.
LOADER, STEP, WAITING = "loader_samples_per_second", "step_samples_per_second", "waiting_share"
Prepare = Callable[[list[dict[str, Any]]], Sequence[Any]]
"""Rows as they are stored -> samples that a model takes."""


@dataclass(frozen=True)
class Stream:
    """The training samples of a task that streams.

    Args:
        sources: the shards of each source; the samples of several are interleaved.
        features: of the rows as they are stored.
        prepare: makes samples, see `Prepare`.
        head: samples of the first rows, to look at before training.

    Raises:
        ValueError: for more processes than shards.
    """

    task: TaskArguments
    sources: list[list[Shard]]
    features: Features
    prepare: Prepare
    head: Any

    def __post_init__(self) -> None:
        shards = min(map(len, self.sources))
        if world_size() > shards:
            raise ValueError(
                f"{world_size()} processes for {shards} {'shard' if shards == 1 else 'shards'}: each process reads "
                "shards of its own; start fewer processes, or write more shards"
            )

    def loader(self, args: TrainingArguments, collate: Callable[..., Any]) -> DataLoader:
        """Return batches without end: after each pass over the shards comes another, in another order."""
        return DataLoader(Batches(self, args, collate), batch_size=None, collate_fn=_as_it_is)

    def rows(self, seed: int) -> Rows:
        """Return the rows of this process, as they are stored, in the order of a seed; `set_epoch` gives another."""
        several = len(self.sources) > 1
        parts = [
            Rows.from_generator(
                read_shards,
                features=_stored(self.features) if several else None,  # or the first rows would be read to guess them
                gen_kwargs={"shards": shards, "skip_bad": self.task.on_bad_shard == "skip"},
            )
            for shards in self.sources
        ]
        rows = self._interleaved(parts, seed) if several else parts[0]
        if self.task.shuffle_buffer > 1:
            rows = rows.shuffle(seed=seed, buffer_size=self.task.shuffle_buffer)
        return split_dataset_by_node(rows, process_index(), world_size())

    def _interleaved(self, parts: list[Rows], seed: int) -> Rows:
        weights = self.task.source_weights
        chances = [each / sum(weights) for each in weights] if weights else None
        return interleave_datasets(parts, probabilities=chances, seed=seed, stopping_strategy="all_exhausted")


def shards_of(train: Any) -> dict[str, list[tuple[str, int, float]]]:
    """Return what tells a stream from others, for other training samples nothing: its shards, with sizes and times."""
    if not isinstance(train, Stream):
        return {}
    return {"shards": [_stamp(shard) for shards in train.sources for shard in shards]}


class Samples(IterableDataset):
    """One pass over the rows of a process, or of one of its workers, as samples.

    What is drawn at random while a sample is made (flips, erasing, ...) depends on the seed, the pass and the place in
    it alone: a run that goes on in mid-stream draws the same.

    Args:
        work: seconds of work and samples made are added to it, one row a worker [W, 2].
        unused: how many samples at the begin of the pass nobody will use, of each worker []; they may come as None.
    """

    def __init__(self, rows: Rows, prepare: Prepare, key: tuple[int, ...], work: Tensor, unused: Tensor) -> None:
        self.rows, self.prepare, self.key, self.work, self.unused = rows, prepare, key, work, unused

    def __iter__(self) -> Iterator[Any]:
        worker, unused = _worker(), int(self.unused)
        rows = iter(self.rows)
        for number in count():
            begun = time.perf_counter()
            chunk = list(islice(rows, _CHUNK))
            if not chunk:
                return
            if (number + 1) * _CHUNK <= unused:  # to prepare a row takes much longer than to read it
                yield from [None] * len(chunk)
                continue
            with drawing(*self.key, self.rows.epoch, worker, number):
                samples = self._prepared(chunk)
            self.work[worker] += torch.tensor([time.perf_counter() - begun, len(samples)], dtype=torch.float64)
            yield from samples

    def _prepared(self, chunk: list[dict[str, Any]]) -> list[Any]:
        try:
            return self._samples(chunk)
        except _UNFIT as error:
            for row in chunk:  # which of them is it?
                try:
                    self._samples([row])
                except _UNFIT as own:
                    reason = _FIRST_ROW.sub("", " ".join(str(own).split()))
                    raise StreamError(f"{shown(row[SHARD])}, row {row[ROW]}: {reason}") from own
            raise StreamError(str(error)) from error

    def _samples(self, rows: list[dict[str, Any]]) -> list[Any]:
        made = self.prepare(rows)
        return [made[index] for index in range(len(made))]


class Batches(IterableDataset):
    """The batches of a process, pass after pass: no process waits for one that has come to the end of its rows.

    It can be iterated several times at once, each time from the begin.

    Attributes:
        unused: so many batches of an iteration that begins are thrown away by whoever iterates: they may come as None.
    """

    unused = 0

    def __init__(self, stream: Stream, args: TrainingArguments, collate: Callable[..., Any]) -> None:
        self.stream, self.collate = stream, collate
        self.seed = args.seed if args.data_seed is None else args.data_seed
        # Pairs of all processes are compared with each other, as many from each.
        alike = stream.task.task == PAIRS and world_size() > 1
        self.settings: dict[str, Any] = {
            "batch_size": args.train_batch_size,
            "drop_last": args.dataloader_drop_last or alike,
            "num_workers": args.dataloader_num_workers,
            "persistent_workers": args.dataloader_num_workers > 0,  # from one pass to the next
            "pin_memory": args.dataloader_pin_memory,
            "prefetch_factor": args.dataloader_prefetch_factor,
            "multiprocessing_context": getattr(args, "dataloader_multiprocessing_context", None),
        }
        workers = max(1, args.dataloader_num_workers)
        self._work = torch.zeros(workers, 2, dtype=torch.float64).share_memory_()  # written by the workers

    def __iter__(self) -> Iterator[Any]:
        rows, key, left = self.stream.rows(self.seed), (self.seed, process_index()), self.unused
        unused = torch.zeros((), dtype=torch.int64).share_memory_()  # read by the workers
        loader = DataLoader(
            Samples(rows, self.stream.prepare, key, self._work, unused),
            collate_fn=Keyed(self.collate, rows, key),
            generator=torch.Generator().manual_seed(self.seed),  # of its own: a pass takes nothing from the training's
            **self.settings,
        )
        for number in count():
            rows.set_epoch(number)  # which workers that live on are told, too
            # Workers take turns: each one makes as many batches, or the last ones of a pass besides.
            unused.fill_(left // len(self._work) * self.settings["batch_size"])
            made = 0
            for batch in loader:
                yield batch
                made += 1
            if not made:
                raise StreamError("the stream has ended before its first batch: its shards hold too few samples")
            left = max(0, left - made)

    @property
    def speed(self) -> float:
        """Samples that all workers of this process read and prepare in a second."""
        seconds, made = self._work.T
        return float((made / seconds.clamp(min=1e-9)).sum())


class Keyed:
    """A collator that draws at random (captions) by the place of its batch in a pass, whoever calls it when.

    Of samples that nobody will use, which are None, it makes None.
    """

    def __init__(self, collate: Callable[..., Any], rows: Rows, key: tuple[int, ...]) -> None:
        self.collate, self.rows, self.key, self.called = collate, rows, key, 0

    def __call__(self, samples: list[Any]) -> Any:
        self.called += 1  # in each worker its own
        if samples[0] is None:
            return None
        with drawing(*self.key, self.rows.epoch, _worker(), -self.called):
            return self.collate(samples)


class StreamTrainer(_AnyTrainer):
    """For a subclass of `transformers.Trainer`, whose training dataset is a `Stream`; put it first in the bases."""

    batches: Batches | None = None
    waited = 0.0
    """Seconds that training has waited for samples."""

    def get_train_dataloader(self) -> DataLoader:
        """Return the batches of the stream, already this process's own."""
        stream: Any = self.train_dataset
        loader = stream.loader(self.args, self._get_collator_with_removed_columns(self.data_collator, "training"))
        self.batches, self.waited = loader.dataset, 0.0
        return loader

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Return the batches of a step, and note how long they took; a resumed run throws away those of its past."""
        begun = time.perf_counter()
        past = 0 if self.args.ignore_data_skip else self.state.global_step
        batches: Any = self.batches
        batches.unused = past * self.args.gradient_accumulation_steps  # read where an iteration begins: at first
        try:
            return super().get_batch_samples(*args, **kwargs)
        finally:
            batches.unused = 0  # for others who read the stream beside training
            self.waited += time.perf_counter() - begun

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log; at the end of training with how many samples a second the loader made and the steps took."""
        if "train_runtime" in logs and self.batches is not None:
            seconds = logs["train_runtime"]  # with evaluation and saving
            steps = self.state.global_step - getattr(self, "_initial_global_step", 0)  # of a resumed run its own
            samples = steps * self.args.train_batch_size * self.args.gradient_accumulation_steps
            logs[LOADER], logs[STEP] = self.batches.speed, samples / max(seconds - self.waited, 1e-9)
            logs[WAITING] = self.waited / max(seconds, 1e-9)
        super().log(logs, *args, **kwargs)


def told_speed(metrics: Mapping[str, Any]) -> str:
    """Return how fast samples came and were used, in words, from what was logged; "" where nothing was streamed.

    >>> told_speed({"loader_samples_per_second": 2000.0, "step_samples_per_second": 500.0, "waiting_share": 0.1})
    'stream: the loader makes 2,000 samples a second, training takes 500; 10% of the time was spent waiting for samples'
    """
    if LOADER not in metrics:
        return ""
    return (
        f"stream: the loader makes {metrics[LOADER]:,.0f} samples a second, training takes {metrics[STEP]:,.0f}; "
        f"{metrics[WAITING]:.0%} of the time was spent waiting for samples"
    )


@contextmanager
def drawing(*key: int) -> Iterator[None]:
    """Draw from a generator of one's own in place of torch's global one, which stays as it is.

    >>> with drawing(0, 1):
    ...     first = torch.rand(1)
    >>> with drawing(0, 1):
    ...     print(bool(first == torch.rand(1)))
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed_of(*key))
        yield


def _seed_of(*key: int) -> int:
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def _worker() -> int:
    info = get_worker_info()
    return 0 if info is None else info.id


def _as_it_is(batch: Any) -> Any:
    return batch


def _stored(features: Features) -> Features:
    """Return the features of rows whose images and audio are not decoded, with the place that each is from."""
    return Features({**plain(features), SHARD: Value("string"), ROW: Value("int64")})


def _stamp(shard: Shard) -> tuple[str, int, float]:
    path = Path(shard.path)
    stat = path.stat() if path.is_file() else None
    return (shard.path, stat.st_size, stat.st_mtime) if stat else (shown(shard.path), len(shard.files), 0.0)
