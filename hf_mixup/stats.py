"""What mixing did since the last log, kept on the device so that no step waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hf_mixup.engine import MixedBatch


class MixStats:
    """Running sums over batches: lam, share of rows mixed, accuracy on the mixed labels."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, mixed: MixedBatch) -> None:
        """Count one batch whose loss has been taken."""
        accuracy = mixed.accuracy()
        lam = mixed.lam
        rated = torch.ones((), device=lam.device) * (accuracy is not None)
        one = torch.stack(
            [
                torch.ones((), device=lam.device),
                lam.mean(),
                (lam < 1).float().mean(),
                rated,
                torch.zeros((), device=lam.device) if accuracy is None else accuracy,
            ]
        )
        self._sums = one if self._sums is None else self._sums + one

    def pop(self, reduce: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """Return the means since the last call as `mixup_lam`, `mixup_rate`, `mixup_accuracy`, and start anew.

        Args:
            reduce: adds the sums over processes.
        """
        if self._sums is None:
            return {}
        batches, lam, rate, rated, accuracy = reduce(self._sums).tolist()
        self._sums = None
        logs = {"mixup_lam": lam / batches, "mixup_rate": rate / batches}
        return {**logs, "mixup_accuracy": accuracy / rated} if rated else logs
