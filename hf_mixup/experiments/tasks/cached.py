"""Samples that are processed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset as Rows
from torch import Tensor
from torch.utils.data import Dataset

from hf_mixup.experiments.tasks.shared import Cached

_LIMIT = 2 * 1024**3  # bytes


class CachedRows(Dataset):
    """Processed samples: all of them at the first use, where they take at most 2 GB, else each anew.

    A subclass says how a sample is processed (`_processed`), so that an epoch costs little more than its passes.

    Attributes:
        labels: one a sample, integers as a rule; empty for a task without.
    """

    chunk = 256  # rows processed at a time

    def __init__(self, rows: Rows, processor: Any, task: Cached) -> None:
        self.rows, self.processor, self.caches = rows, processor, task.cache_images
        column = task.columns.get("label")
        self.labels: Sequence[int] | Tensor = list(rows[column]) if column else []
        self._cached: Sequence[Any] | Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def _item(self, index: int) -> Any:
        if self._cached is not None:
            return self._cached[index]
        made = self._processed(index, index + 1)[0]
        size = sum(value.nbytes for value in (made.values() if isinstance(made, dict) else [made]))
        self.caches = self.caches and len(self) * size <= _LIMIT
        if self.caches:
            starts = range(0, len(self), self.chunk)
            parts = [self._processed(start, start + self.chunk) for start in starts]
            self._cached = torch.cat(parts) if isinstance(made, Tensor) else [each for part in parts for each in part]
        return made

    def _processed(self, start: int, stop: int) -> Any:
        """Return some processed rows: one tensor, or a list of mappings to tensors."""
        raise NotImplementedError
