"""The key of each row's draws, and what is drawn from it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import blake2b

import torch
from torch.utils.data import get_worker_info

from hf_mixup.engine.all_gather import process_index
from hf_mixup.utils.random_state import COUNTED


@dataclass(eq=False)
class Keys:
    """A generator for each row: the same for the same seed, epoch, process, worker, and number of rows since.

    A `datasets` transform is told neither which row it gets nor which epoch it is. Hence the rows are counted, and a
    DataLoader's worker starts a count of its own: its key holds the seed that the DataLoader gave it, which is another
    one for each worker and in each epoch, and the same again after the same `torch.manual_seed`. torch's generator is
    read only, never advanced.

    Args:
        seed: seed of the run.
        epoch: where training stands, if anybody says so.

    >>> first, again = Keys(seed=1), Keys(seed=1)
    >>> bool(torch.rand(1, generator=first.next()) == torch.rand(1, generator=again.next()))
    True
    >>> bool(torch.rand(1, generator=first.next()) == torch.rand(1, generator=Keys(seed=1).next()))
    False
    """

    seed: int = 0
    epoch: int = 0
    _stream: tuple[object, ...] | None = field(default=None, init=False)
    _drawn: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        COUNTED.add(self)

    def next(self) -> torch.Generator:
        """Return the generator of the next row."""
        # Workers know the process of a distributed run only from the environment that they inherit.
        process, worker = os.environ.get("RANK", str(process_index())), get_worker_info()
        stream = (self.seed, self.epoch, process, None if worker is None else worker.seed)
        if stream != self._stream:  # the first row, or the first one in this worker
            self._stream, self._drawn = stream, 0
        key = (*stream, self._drawn)
        self._drawn += 1
        digest = blake2b(repr(key).encode(), digest_size=8).digest()  # near keys give unrelated seeds
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def set_epoch(self, epoch: int) -> None:
        """Start the count of an epoch afresh, whatever was drawn before."""
        self.epoch, self._stream = epoch, None


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Draw a number from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def integer(stop: int, generator: torch.Generator) -> int:
    """Draw a whole number from [0, stop)."""
    return int(torch.randint(stop, (), generator=generator))
