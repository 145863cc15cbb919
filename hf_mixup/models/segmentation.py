"""Heads that score each pixel: their logits at the size of the labels, and those of an auxiliary head."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.models.adapters import base_model
from hf_mixup.models.hooks import MixHook, hooks_of
from hf_mixup.models.labels import Labels, at_labels
from hf_mixup.models.outputs import logits_of


def scored_parts(model: nn.Module, outputs: Any, labels: Labels) -> list[tuple[Tensor, float]]:
    """Return the logits that are scored against the labels, each with its weight in the loss.

    These are the model's own logits; for a segmentation model with an auxiliary head that head's logits come second
    (call `capture_auxiliary_logits` before the forward pass). Logits of pixels are resized to the labels' size,
    bilinearly, as transformers does it.

    Raises:
        ValueError: if there is a label for each pixel, but the logits are no images.
    """
    logits = logits_of(outputs)
    if not labels.pixels:
        alone = logits.dim() == labels.values.dim() + 2 and logits.shape[1] == 1  # an axis for the one label
        return [(logits[:, 0] if alone else at_labels(model, logits, labels.values), 1.0)]
    parts = [(at_pixels(model, logits, labels.values), 1.0)]
    head = _auxiliary_head(model)
    if head is None:
        return parts
    auxiliary = auxiliary_logits(model)
    if auxiliary is None:
        raise RuntimeError(
            f"{type(model).__name__} did not pass its auxiliary head: run it on `mixed.inputs` inside the context"
        )
    weight = float(model.config.auxiliary_loss_weight)  # type: ignore[union-attr, arg-type]
    return [*parts, (at_pixels(model, auxiliary, labels.values), weight)]


def at_pixels(model: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """Return logits [B, C, h, w] at the pixels of labels [B, H, W], as [B, H, W, C]."""
    if logits.dim() != 4:
        raise ValueError(
            f"{type(model).__name__} returned logits {list(logits.shape)} for labels of pixels {list(labels.shape)}: "
            "expected [B, C, h, w]"
        )
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    return logits.movedim(1, -1)


class AuxiliaryHook(MixHook):
    """Captures the logits of an auxiliary head, which the model uses for its own loss and does not return."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: Tensor | None = None

    def forget(self) -> None:
        super().forget()
        self.logits = None

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.on:
            self.logits = output


def capture_auxiliary_logits(model: nn.Module) -> None:
    """Capture the logits of a segmentation model's auxiliary head in the next forward pass."""
    head = _auxiliary_head(model)
    if head is not None:
        hook = hooks_of(model).after(head, AuxiliaryHook)
        hook.on, hook.logits = True, None
        hooks_of(model).track(hook)


def auxiliary_logits(model: nn.Module) -> Tensor | None:
    """Return what `capture_auxiliary_logits` has captured; None for a model without an auxiliary head."""
    head = _auxiliary_head(model)
    return None if head is None else hooks_of(model).after(head, AuxiliaryHook).logits


def install_auxiliary(model: nn.Module) -> None:
    """Register the hook of the auxiliary head, before the model is compiled."""
    head = _auxiliary_head(model)
    if head is not None:
        hooks_of(model).after(head, AuxiliaryHook)


def _auxiliary_head(model: nn.Module) -> nn.Module | None:
    base = base_model(model)
    head = getattr(base, "auxiliary_head", None)
    return head if isinstance(head, nn.Module) and hasattr(base.config, "auxiliary_loss_weight") else None
