"""A mixed batch whose loss is somebody else's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hf_mixup.engine.batch import MixedBatch
from hf_mixup.engine.context import Context


class OwnLossBatch(MixedBatch):
    """A mixed batch for a trainer that computes loss and logs from what the model returns.

    The trainer is given `standing_for(model)` in place of the model and keeps its own view of the batch, so that what
    it counts (tokens, say) stays right.
    """

    @classmethod
    @abstractmethod
    def from_batch(cls, context: Context, model: nn.Module, batch: Mapping[str, Any]) -> OwnLossBatch:
        """Draw how a batch, as the trainer hands it to the model, is mixed."""

    @classmethod
    def prepare(cls, model: nn.Module) -> None:
        """Install the hooks this kind needs, before the model is compiled."""

    def seen(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the batch as the trainer is to see it."""
        return inputs

    def read(self, outputs: Any) -> Any:
        """Return the model's outputs as the trainer is to see them."""
        self._refuse_unmixed()
        return outputs

    def standing_for(self, model: nn.Module) -> Any:
        """Return what runs the model on the mixed inputs, whatever it is called with beside them."""
        return lambda **given: self.read(model(**{**given, **self.inputs}))

    def accuracy(self) -> Tensor | None:
        """Return None: the trainer logs what it counts as accuracy."""
        return None
