"""Mixed batches of series that are forecast: past and future are blended alike, the loss is the model's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hf_mixup.engine.batch import MixedTargetBatch
from hf_mixup.engine.context import Context, Requested
from hf_mixup.methods.capabilities import MixesForecasts
from hf_mixup.models.labels import LABEL_KEYS

FUTURE = "future_values"


class ForecastBatch(MixedTargetBatch):
    """A mixed batch of a model that forecasts `future_values`.

    The future is an input of such a model, mixed as the others are, and the model's loss on the mixed series (a
    likelihood, or a squared error) is the mixed loss.
    """

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether the batch has a future to forecast, and no labels."""
        return is_forecast(batch)

    @classmethod
    def build(cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> ForecastBatch:
        """Refuse what does not go with the model's own loss, and draw; see `MixedBatch.build`."""
        refuse_forecast(context, model)
        inputs, future = dict(batch), batch[FUTURE]
        draw = context.draw(model, inputs, future.flatten(1), requested)
        return cls(context, model, inputs, future, draw, requested.inplace)

    @property
    def targets(self) -> Tensor:
        """The mixed future, in the shape of `future_values`."""
        return self.inputs[FUTURE]


def is_forecast(batch: Mapping[str, Any]) -> bool:
    """Whether a batch has a future to forecast, and no labels.

    >>> is_forecast({"past_values": None, "future_values": Tensor(2, 3)})
    True
    """
    return isinstance(batch.get(FUTURE), Tensor) and all(batch.get(key) is None for key in LABEL_KEYS)


def refuse_forecast(context: Context, model: nn.Module) -> None:
    """Refuse methods and settings that do not go with a model's own loss on past and future blended alike.

    Raises:
        ValueError: naming the way out.
    """
    config, name = context.config, type(model).__name__
    if not all(isinstance(method, MixesForecasts) for method in context.method.choices()):
        raise ValueError(
            f"method {config.method!r} does not mix forecasts, and the batch for {name} has {FUTURE} instead of "
            "labels: past and future have to be mixed alike, as 'mixup', 'cmixup' and 'tabular' do"
        )
    own_loss = config.loss == "auto" and config.class_weights is None and not config.label_smoothing
    if not own_loss or context.teacher is not None:
        raise ValueError(
            f"{name} forecasts, and its own loss is taken: leave out loss, class_weights, label_smoothing and a teacher"
        )
