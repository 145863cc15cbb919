"""Which batch this is: the key of its draws, and how far training has come."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import torch

from hf_mixup.engine.all_gather import process_index, shared_from

if TYPE_CHECKING:  # augmentation counts by this clock, and does without torch models
    from hf_mixup.engine.settings import Schedule


@dataclass
class Clock:
    """Where training stands: the source of every draw's key.

    Args:
        seed: seed of the run.
        step: optimizer steps done.
        micro: batches drawn within this step.
        total_steps: optimizer steps of the whole run, None if nobody said.
        total_epochs: the same in epochs, where a Trainer counts them.
        follows_torch: take the key from torch's own generator, for a loop that tells nobody its step. Where that
            generator is saved and restored with each checkpoint, a resumed run draws what it would have.
    """

    seed: int = 0
    step: int = 0
    micro: int = 0
    total_steps: int | None = None
    total_epochs: float | None = None
    follows_torch: bool = False

    def tick(self, alike: bool = False) -> torch.Generator:
        """Return the generator of the next batch: the same for the same seed, process, step and micro-step.

        Args:
            alike: whether all processes are to draw the same, see `all_gather.run_together`.

        >>> first, again = Clock(seed=1).tick(), Clock(seed=1).tick()
        >>> bool(torch.rand(1, generator=first) == torch.rand(1, generator=again))
        True
        """
        process = 0 if alike else process_index()
        key = [self.seed, process, self.step, self.micro]
        if self.follows_torch:
            drawn = int(torch.randint(2**62, ()))  # each process has a generator of its own
            key = [self.seed, process, shared_from(0, drawn) if alike else drawn]
        self.micro += 1
        digest = blake2b(repr(key).encode(), digest_size=8).digest()  # near keys give unrelated seeds
        return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)

    def prob(self, prob: float, schedule: Schedule) -> float:
        """Return the chance to mix now: `prob`, through warm-up and the unmixed end.

        Raises:
            ValueError: if there is a schedule and nobody said how long training is.
        """
        if not (schedule.prob_warmup_ratio or schedule.disable_last_ratio or schedule.disable_last_epochs):
            return prob
        if self.total_steps is None:
            raise ValueError(
                "the schedule (prob_warmup_ratio, disable_last_ratio and _epochs) needs the length of training: "
                "use MixupTrainer, add MixupCallback to your Trainer, or pass total_steps to Mixup and call set_step"
            )
        if schedule.disable_last_ratio >= 1:
            raise ValueError(
                f"disable_last_ratio={schedule.disable_last_ratio} leaves nothing to mix in: it is a share of "
                "training, below 1; prob=0 switches mixing off"
            )
        done = self.step / max(self.total_steps, 1)
        left = 1 - done - 1e-9  # a share that ends on a step's boundary must not be missed for rounding
        if left < schedule.disable_last_ratio or (
            schedule.disable_last_epochs and self._epochs(schedule) * left < schedule.disable_last_epochs
        ):
            return 0.0
        return prob * min(1.0, done / schedule.prob_warmup_ratio) if schedule.prob_warmup_ratio else prob

    def _epochs(self, schedule: Schedule) -> float:
        if self.total_epochs is None:
            raise ValueError(
                f"disable_last_epochs={schedule.disable_last_epochs} needs a Trainer that counts epochs, of a dataset "
                "with a length: use disable_last_ratio instead"
            )
        if schedule.disable_last_epochs >= self.total_epochs:
            raise ValueError(
                f"disable_last_epochs={schedule.disable_last_epochs} leaves nothing to mix in: training has "
                f"{self.total_epochs:g} epochs"
            )
        return self.total_epochs

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"step": self.step, "micro": self.micro}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where a saved run stopped."""
        self.step, self.micro = state["step"], state["micro"]
