"""When a Trainer's model holds which running statistics of batch normalisation.

In training they are the moving average, as ever. While the Trainer evaluates, predicts or saves (also after training
was interrupted), they are those of clean samples, and when training ends these stay. So training goes on as if nobody
had evaluated, and a checkpoint holds what was evaluated. The moving average lies beside it, for whoever resumes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from hf_mixup.engine.all_gather import in_any
from hf_mixup.engine.batch_norm import Estimate, Refreshed, clean_inputs, estimate
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.integrations.running import resumed_from
from hf_mixup.models.batch_norm import layers_in_training, write

AVERAGE_NAME = "batch_norm.pt"


class TrainerBatchNorm:
    """The statistics of the model that a Trainer trains.

    The estimate depends on weights and data alone: it is made once for the same weights, and a resumed run, or the best
    checkpoint loaded at the end, comes to the same.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._layers: list[_BatchNorm] | None = None  # as training has left them; evaluation mode does not tell
        self._found: Estimate | None = None
        self._found_at: tuple[int, int] | None = None
        self._held: Refreshed | None = None
        self._read_once = False
        self._training = False  # until its end; the Trainer's own flag is down by then in some releases
        self._seconds = 0.0

    def begin(self) -> None:
        """Begin a run, with the moving average of the checkpoint that it goes on from, if it has one."""
        self._layers, self._found, self._read_once, self._training = None, None, False, True
        folder = resumed_from()
        file = None if folder is None else os.path.join(folder, AVERAGE_NAME)
        if file is not None and os.path.isfile(file):
            saved = torch.load(file, map_location="cpu", weights_only=True)
            layers: dict[str, Any] = dict(unwrap(self._trainer.model).named_modules())
            write({layers[name]: value for name, value in saved.items()})
            self._trainer._mixing[0].has_mixed = True

    @property
    def wanted(self) -> bool:
        """Whether the model is to hold the statistics of clean samples where it is evaluated or saved.

        All processes have to ask: each tosses its own coin of `prob`.
        """
        mixup, model = self._trainer._mixing[0], self._trainer.model
        if not mixup.config.refresh_batch_norm or mixup.off or not self._training:
            return False
        if self._layers is None or model.training:
            self._layers = layers_in_training(model)
        if not self._layers or self._read_once:
            return False
        mixup.has_mixed = in_any(mixup.has_mixed, self._trainer.args.device)
        return mixup.has_mixed

    def pop(self) -> dict[str, float]:
        """Return what estimates have cost since the last call, as `mixup_batch_norm_seconds`; nothing if none."""
        seconds, self._seconds = self._seconds, 0.0
        return {"mixup_batch_norm_seconds": round(seconds, 4)} if seconds else {}

    def estimate(self) -> Estimate | None:
        """Return the statistics of clean samples under the model's weights; None where none are wanted."""
        if not self.wanted:
            return None
        trainer, model = self._trainer, self._trainer.model
        now = trainer.state.global_step, sum(each._version for each in model.parameters())
        if self._found is None or self._found_at != now:
            loader, seed = trainer.callback_handler.train_dataloader, trainer._mixing[0].clock.seed
            self._found, self._found_at = estimate(model, self._layers or [], loader, seed, self._run), now
            self._read_once = self._found is None
            self._seconds += 0.0 if self._found is None else self._found.seconds
        return self._found

    def _run(self, batch: Any) -> None:
        trainer = self._trainer  # whose `compute_loss` may be for training alone
        inputs = clean_inputs(unwrap(trainer.model), trainer._prepare_inputs(batch))
        with trainer.compute_loss_context_manager():
            trainer.model(**inputs)

    @contextmanager
    def clean(self) -> Iterator[None]:
        """Let the model hold the statistics of clean samples until the end of the `with` statement."""
        found = self.estimate() if self._held is None else None
        if found is None:
            yield
            return
        try:
            with Refreshed(found) as self._held:
                yield
        finally:
            self._held = None

    def save_average(self, folder: str) -> None:
        """Write the statistics of training beside a model that was saved with those of clean samples."""
        if self._held is not None:
            names = {layer: name for name, layer in unwrap(self._trainer.model).named_modules()}
            average = {names[layer]: value for layer, value in self._held.before.items()}
            torch.save(average, os.path.join(folder, AVERAGE_NAME))

    def leave(self) -> bool:
        """Leave the model with the statistics of clean samples, when training ends; return whether it has any."""
        self._training = True  # also for a callback that changes the weights after others have left
        found = self.estimate()
        self._training = False
        if found is not None:
            Refreshed(found)
        return found is not None


def batch_norm_of(trainer: Any) -> TrainerBatchNorm | None:
    """Return the statistics of the model that a Trainer trains, None where it does not mix."""
    return getattr(trainer, "_batch_norm", None)
