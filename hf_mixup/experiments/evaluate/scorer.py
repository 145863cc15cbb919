"""Logits of a model on a dataset, as it is or under attack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hf_mixup.models.outputs import logits_of
from hf_mixup.utils.constants import IGNORE_INDEX

Batch = dict[str, Any]
BatchChange = Callable[[Any, Batch, int], Batch]
"""(model, batch with labels, number of the batch) -> the batch that is scored instead."""


@dataclass
class Scorer:
    """Scores rows, batch by batch, by a model in evaluation mode; `show` is called with the share that is scored."""

    model: Any
    collator: Callable[[Sequence[Any]], Batch]
    batch_size: int
    device: torch.device
    workers: int = 0
    show: Callable[[float], None] = field(default=lambda share: None)

    def __call__(self, rows: Any, change: BatchChange | None = None, model: Any = None) -> dict[str, np.ndarray]:
        """Return `logits` [N, C] in float32 and `labels` [N] of all rows, or of all tokens that have a label."""
        logits, labels = [], []
        for number, batch in enumerate(self._batches(rows)):
            if change is not None:
                batch = change(self.model, batch, number)
            expected = batch.pop("labels")
            found = self._forward(model or self.model, batch)
            labelled = expected != IGNORE_INDEX
            logits.append(found[labelled].cpu())
            labels.append(expected[labelled].cpu())
        return {"logits": torch.cat(logits).numpy(), "labels": torch.cat(labels).numpy()}

    def seconds(self, rows: Any, model: Any = None) -> float:
        """Return how long the forward passes over the rows take, without loading them."""
        total = 0.0
        for number, batch in enumerate(self._batches(rows)):
            batch.pop("labels")
            if not number:
                self._forward(model or self.model, batch)  # a first pass warms up caches
            self._wait()
            start = time.perf_counter()
            self._forward(model or self.model, batch)
            self._wait()
            total += time.perf_counter() - start
        return total

    @torch.no_grad()
    def _forward(self, model: Any, inputs: Batch) -> Tensor:
        return logits_of(model(**inputs)).float()

    def _batches(self, rows: Any) -> Iterator[Batch]:
        loader: Any = DataLoader(rows, self.batch_size, collate_fn=self.collator, num_workers=self.workers)
        for number, batch in enumerate(loader):
            yield {name: value.to(self.device) for name, value in batch.items()}
            self.show((number + 1) / len(loader))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
