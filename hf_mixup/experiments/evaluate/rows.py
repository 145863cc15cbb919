"""Rows -> logits, of a model as it is or under attack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from hf_mixup.experiments.evaluate.arguments import EvaluateArguments
from hf_mixup.experiments.tasks.augmentation import pixel_scale
from hf_mixup.functional.attacks import fgsm, pgd
from hf_mixup.models.outputs import logits_of
from hf_mixup.utils.constants import IGNORE_INDEX

Batch = dict[str, Any]
Change = Callable[[Any, Batch, int], Batch]
"""(model, batch with labels, number of the batch) -> the batch that is scored instead."""


@dataclass
class Scorer:
    """Scores rows, batch by batch.

    Args:
        model: in evaluation mode, on `device`.
        show: called with the share of the rows that is done.
    """

    model: Any
    collator: Callable[[Sequence[Any]], Batch]
    batch_size: int
    device: torch.device
    workers: int = 0
    show: Callable[[float], None] = field(default=lambda share: None)

    def __call__(self, rows: Any, change: Change | None = None, model: Any = None) -> dict[str, np.ndarray]:
        """Return `logits` [N, C] in float32 and `labels` [N] of all rows, or of all tokens that have a label."""
        logits, labels = [], []
        for number, batch in enumerate(self._batches(rows)):
            if change is not None:
                batch = change(self.model, batch, number)
            expected = batch.pop("labels")
            found = self._forward(model or self.model, batch)
            kept = expected != IGNORE_INDEX
            logits.append(found[kept].cpu())
            labels.append(expected[kept].cpu())
        return {"logits": torch.cat(logits).numpy(), "labels": torch.cat(labels).numpy()}

    def seconds(self, rows: Any, model: Any = None) -> float:
        """Return how long the forward passes over the rows take, without loading them."""
        total = 0.0
        for number, batch in enumerate(self._batches(rows)):
            batch.pop("labels")
            if not number:
                self._forward(model or self.model, batch)  # the first pass pays for what later ones find ready
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


def attack(name: str, eps: float, evaluation: EvaluateArguments, processor: Any, seed: int) -> Change:
    """Return the change that moves the pixels of a batch to where the loss of its labels is larger.

    `fgsm` takes one step of the gradient's sign, `pgd` several from a random start, one start a batch. Pixels stay
    within `eps` of what they were, and within the range of images, both as the processor scales them.

    Source: see `hf_mixup.functional.attacks`.
    """
    mean, std = pixel_scale(processor)

    def changed(model: Any, batch: Batch, number: int) -> Batch:
        pixels, labels = batch["pixel_values"], batch["labels"]
        others = {key: value for key, value in batch.items() if key not in ("pixel_values", "labels")}

        def loss_of(x: Tensor) -> Tensor:
            return F.cross_entropy(logits_of(model(pixel_values=x, **others)).float(), labels, reduction="sum")

        ends: dict[str, Any] = {"low": -mean / std, "high": (1 - mean) / std}
        if name == "fgsm":
            return {**batch, "pixel_values": fgsm(pixels, loss_of, eps / std, **ends)}
        generator = torch.Generator().manual_seed(seed + number)
        steps = evaluation.adversarial_steps
        return {**batch, "pixel_values": pgd(pixels, loss_of, eps / std, steps, generator=generator, **ends)}

    return changed
