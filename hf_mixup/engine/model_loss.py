"""Mixed batches whose loss the model computes itself, from the labels that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.batch import MixedBatch
from hf_mixup.engine.context import Context
from hf_mixup.engine.loss_scale import ITEMS, reduction_of, share_of
from hf_mixup.methods import Draw
from hf_mixup.models.labels import LABELS
from hf_mixup.models.outputs import loss_of, with_loss


class ModelLossBatch(MixedBatch):
    """A mixed batch that is scored by the model's own loss.

    What the model is told beside the inputs, such as `num_items_in_batch`, it is told here, too. Where it takes the
    mean of a micro-batch all the same, that is made the micro-batch's share of the mean over the whole step.

    Attributes:
        labels: the entries that hold the batch's own labels, by their names.
    """

    labels: Any

    def __init__(
        self,
        context: Context,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: dict[str, Any],
        given: dict[str, Any],
        draw: Draw,
        inplace: bool,
    ) -> None:
        device = next(each for each in inputs.values() if isinstance(each, Tensor))
        super().__init__(context, model, inputs, device, draw, inplace)
        self.labels, self._given = labels, given
        self._reduction = reduction_of(model, inputs, labels)
        self._scored: Any = None  # outputs whose loss is the mixed one

    def forward(self, model: nn.Module) -> Any:
        """Run the model (wrapped or not) on the mixed batch; return its outputs with the mixed loss."""
        return self.standing_for(model)(**self.inputs)

    def standing_for(self, model: nn.Module) -> Callable[..., Any]:
        """Return what runs the model on whatever it is called with, and returns outputs with the mixed loss."""
        return lambda **given: self.scored(model(**given), model, given)

    def scored(self, outputs: Any, model: nn.Module | None = None, given: Mapping[str, Any] | None = None) -> Any:
        """Return outputs of the model with the mixed loss.

        Args:
            model, given: what has run on what; by default the model without wrappers, on `inputs`.
        """
        model, given = self._model if model is None else model, self.inputs if given is None else given
        self._refuse_unmixed()
        self._scored = with_loss(outputs, self._mixed_loss(outputs, model, given))
        return self._scored

    def loss(self, outputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the mixed loss, a 0-d tensor.

        Args:
            outputs: what `forward` returned, or what the model made of `inputs`.
            num_items_in_batch: belongs into the batch, if the model takes it.

        Raises:
            ValueError: if the model computed no loss, or is to be told `num_items_in_batch` here.
            RuntimeError: if the model never passed the hook where it should have blended, or has run outside.
        """
        if num_items_in_batch is not None:
            raise ValueError(
                f"{ITEMS}={num_items_in_batch}: {type(self._model).__name__} divides its loss itself: put it into the "
                "batch if the model takes it, and leave it out here"
            )
        done = self._scored is not None and outputs is self._scored
        scored = outputs if done else self.scored(outputs)
        return self._context.watch.follow(self._found(scored))

    def _mixed_loss(self, outputs: Any, model: nn.Module, given: Mapping[str, Any]) -> Tensor:
        raise NotImplementedError

    def _own(self, outputs: Any, labels: Mapping[str, Any], given: Mapping[str, Any]) -> Tensor:
        """Return the model's loss for these labels, as this micro-batch's part of the step's."""
        return share_of(self._found(outputs), self._reduction, labels.get(LABELS), given.get(ITEMS))

    def _found(self, outputs: Any) -> Tensor:
        found = loss_of(outputs)
        if found is None:
            raise ValueError(
                f"{type(self._model).__name__} returned no loss for {', '.join(self.labels)}: run it on `mixed.inputs` "
                "as they are, or, with loss='own', use loss='auto'"
            )
        return found.reshape(()) if found.dim() else found  # a view, scaled in place, would lose its hook

    def accuracy(self) -> None:
        """Return None: what a head's predictions are is not known."""


def values_of(labels: Mapping[str, Any]) -> Tensor:
    """Return what methods may read as labels: `labels` where they are a tensor, else as many zeros as samples."""
    found = labels.get(LABELS)
    return found if isinstance(found, Tensor) else torch.zeros(len(next(iter(labels.values()))))
