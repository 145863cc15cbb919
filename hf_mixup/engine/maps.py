"""The mixed batch of a model that predicts a number for each pixel: depth, an alpha matte, a heatmap."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.batch import MixedTargetBatch, refuse_loss_settings
from hf_mixup.engine.context import Context, Requested
from hf_mixup.methods import Draw
from hf_mixup.methods._segmentation import mixed_maps, refuse_for_targets
from hf_mixup.models.adapters import base_model
from hf_mixup.models.batches import first_pair
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.labels import LABELS, segments
from hf_mixup.models.probe import eval_without_side_effects

LEARNS = "the numbers of pixels"
INVALID: dict[float, Callable[[Tensor], Tensor]] = {
    0.0: lambda labels: labels == 0,
    -1.0: lambda labels: labels < 0,
    float("nan"): torch.isnan,
    float("inf"): torch.isinf,
}
"""Numbers by which datasets say that a pixel has none, and which pixels are meant with each."""


class MapBatch(MixedTargetBatch):
    """A mixed batch of images with a number for each pixel, [B, H, W] or [B, C, H, W]; used as `MixedBatch` is.

    The numbers are blended as the images are, or cut and pasted with them, and the model computes its own loss on them.
    Which numbers its loss ignores (depth maps have pixels without any) is found by trying: where a sample with a share
    in a pixel has no valid number, the mixed pixel has none. Of sparse maps blending leaves few, cutting all.
    """

    def __init__(
        self, context: Context, model: nn.Module, inputs: dict[str, Any], labels: Tensor, draw: Draw, inplace: bool
    ) -> None:
        super().__init__(context, model, inputs, labels, draw, inplace)
        self._targets: Tensor | None = None

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether the labels are floats for each pixel of an image."""
        labels, pixels = batch.get(LABELS), batch.get("pixel_values")
        return (
            isinstance(labels, Tensor)
            and labels.is_floating_point()
            and labels.dim() in (3, 4)
            and isinstance(pixels, Tensor)
            and pixels.dim() == 4
            and not segments(model)
        )

    @classmethod
    def build(cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> MapBatch:
        """Refuse what does not go with such labels, try the loss once, and draw; see `MixedBatch.build`.

        Raises:
            ValueError: for a model without a loss, or a setting or a method that does not go with these labels.
        """
        refuse_loss_settings(context, model, LEARNS)
        refuse_for_targets(context.method, model, context.guide is not None, LEARNS)
        find_ignored_once(model, batch)
        labels, inputs = batch[LABELS], {key: value for key, value in batch.items() if key != LABELS}
        pixels = torch.zeros((), dtype=torch.long).expand(len(labels), *labels.shape[-2:])  # as large as they are
        draw = context.draw(model, inputs, pixels, requested, boxes=True)
        return cls(context, model, inputs, labels, draw, requested.inplace)

    @property
    def targets(self) -> Tensor:
        """The mixed numbers, in the shape of the labels."""
        if self._targets is None:
            ignored = ignored_by(self._model)
            self._targets = mixed_maps(self._method, self.draw, self.labels, ignored) if self.rate else self.labels
        return self._targets

    def __enter__(self) -> MapBatch:
        super().__enter__()
        self.inputs = {**self.inputs, LABELS: self.targets}
        return self


def find_ignored_once(model: nn.Module, batch: Mapping[str, Any]) -> None:
    """Find out, at the first batch, which numbers a model's own loss ignores.

    The first of two samples is given such a number for each pixel: if the loss stays whatever its image is, it is
    ignored.

    Raises:
        ValueError: if the model has no loss, or does not take these labels.
    """
    cache, name = hooks_of(model).cache, type(base_model(model)).__name__
    if "ignored" in cache:
        return
    rows = first_pair(batch)
    labels = torch.full_like(rows[LABELS], 0.5)
    images = rows["pixel_values"]

    def loss(pixels: Tensor, number: float) -> float:
        labels[0] = number
        return float(model(**{**rows, "pixel_values": pixels, LABELS: labels})["loss"])

    with eval_without_side_effects(model):
        others = torch.stack([torch.rand_like(images[0]), images[1]])
        try:
            losses = {each: (loss(images, each), loss(others, each)) for each in INVALID}
        except NotImplementedError as error:
            raise ValueError(
                f"{name} has no loss to train on in transformers ({error}), so that there is none to mix: give a "
                "subclass of it a forward pass that returns a loss for `labels`"
            ) from error
        except (TypeError, KeyError) as error:
            raise ValueError(f"{name} returns no loss for {LABELS} {list(batch[LABELS].shape)}: {error}") from error
    cache["ignored"] = [each for each, (one, other) in losses.items() if one == other and math.isfinite(one)]


def ignored_by(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function that tells which numbers the model's loss ignores, bool in the shape of the labels."""
    found = hooks_of(model).cache["ignored"]

    def ignored(labels: Tensor) -> Tensor:
        which = torch.zeros_like(labels, dtype=torch.bool)
        for number in found:
            which = which | INVALID[number](labels)
        return which

    return ignored
