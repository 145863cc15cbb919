"""What mixing did since the last log, kept on the device so that no step waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hf_mixup.batch import MixedBatch


class MixStats:
    """Running sums over batches: lam, share of rows mixed, accuracy on the mixed labels."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._batches, self._lam, self._rate, self._rated = 0, 0.0, 0.0, 0
        self._accuracy: Tensor | None = None

    @property
    def batches(self) -> int:
        """How many batches have been counted since the last log."""
        return self._batches

    def add(self, mixed: MixedBatch) -> None:
        """Count one batch whose loss has been taken."""
        self.count(mixed.mean_lam, mixed.rate)
        accuracy = mixed.accuracy()
        if accuracy is not None:
            self._rated += 1
            self._accuracy = accuracy if self._accuracy is None else self._accuracy + accuracy

    def count(self, mean_lam: float, rate: float) -> None:
        """Count one batch by its mean lam and the share of its rows that are mixed."""
        self._batches += 1
        self._lam += mean_lam
        self._rate += rate

    def pop(
        self, device: torch.device | str = "cpu", reduce: Callable[[Tensor], Tensor] = lambda sums: sums
    ) -> dict[str, float]:
        """Return the means since the last call as `mixup_lam`, `mixup_rate`, `mixup_accuracy`, and start anew.

        Args:
            device: where `reduce` wants the sums.
            reduce: adds the sums over processes.
        """
        accuracy = 0.0 if self._accuracy is None else self._accuracy.item()
        sums = torch.tensor([self._batches, self._lam, self._rate, self._rated, accuracy], device=device)
        self._reset()
        batches, lam, rate, rated, accuracy = reduce(sums).tolist()
        if not batches:
            return {}
        logs = {"mixup_lam": lam / batches, "mixup_rate": rate / batches}
        return {**logs, "mixup_accuracy": accuracy / rated} if rated else logs
