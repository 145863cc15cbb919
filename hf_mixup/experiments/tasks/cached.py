"""Rows that are processed once."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset as Rows
from torch import Tensor
from torch.utils.data import Dataset

from hf_mixup.experiments.tasks.shared import Cached

CACHE_LIMIT = 2 * 1024**3  # bytes


class CachedRows(Dataset):
    """Rows of which tensors are made: all of them at the first use, where they take at most 2 GB, else each anew.

    A subclass says how (`_processed`).

    Args:
        rows: as `load_splits` returns them.
        task: `cache_images=False` caches nothing.
    """

    chunk = 256  # rows processed at a time

    def __init__(self, rows: Rows, processor: Any, task: Cached) -> None:
        self.rows, self.processor, self.caches = rows, processor, task.cache_images
        self._cached: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def _pixels(self, index: int) -> Tensor:
        """Return what is made of one row."""
        if self._cached is not None:
            return self._cached[index]
        pixels = self._processed(index, index + 1)[0]
        self.caches = self.caches and len(self) * pixels.nbytes <= CACHE_LIMIT
        if self.caches:
            starts = range(0, len(self), self.chunk)
            self._cached = torch.cat([self._processed(start, start + self.chunk) for start in starts])
        return pixels

    def _processed(self, start: int, stop: int) -> Tensor:
        """Return what is made of some rows, one tensor."""
        raise NotImplementedError
