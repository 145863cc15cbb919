"""Heads that score each pixel: their logits at the size of the labels, and the auxiliary head beside them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.models.hooks import Site, sites_of
from hf_mixup.models.labels import Labels
from hf_mixup.models.outputs import logits_of


def scored_parts(model: nn.Module, outputs: Any, labels: Labels) -> list[tuple[Tensor, float]]:
    """Return the logits that the labels score, a label's place for each, and what each of them counts in the loss.

    One, the model's, but for a segmentation model with an auxiliary head, whose logits come second (`hear_auxiliary`
    before the pass). Logits of pixels are resized to the labels' size, bilinearly, as transformers does it.

    Raises:
        ValueError: if labels are one a pixel and the logits no maps.
    """
    logits = logits_of(outputs)
    if not labels.pixels:
        alone = logits.dim() == labels.values.dim() + 2 and logits.shape[1] == 1  # a place of its own for one label
        return [(logits[:, 0] if alone else logits, 1.0)]
    parts = [(at_pixels(model, logits, labels.values), 1.0)]
    head = _auxiliary_head(model)
    if head is None:
        return parts
    heard = sites_of(model).after(head, Auxiliary).logits
    if heard is None:
        raise RuntimeError(
            f"{type(model).__name__} did not pass its auxiliary head: run it on `mixed.inputs` inside the context"
        )
    return [*parts, (at_pixels(model, heard, labels.values), float(model.config.auxiliary_loss_weight))]  # type: ignore[union-attr, arg-type]


def at_pixels(model: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """Return logits [B, C, h, w] at the places of labels [B, H, W], as [B, H, W, C]."""
    if logits.dim() != 4:
        raise ValueError(
            f"{type(model).__name__} returned logits {list(logits.shape)} for labels of pixels {list(labels.shape)}: "
            "expected [B, C, h, w]"
        )
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    return logits.movedim(1, -1)


class Auxiliary(Site):
    """The end of an auxiliary head, whose logits the model uses for its own loss and does not return."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: Tensor | None = None

    def forget(self) -> None:
        super().forget()
        self.logits = None

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.on:
            self.logits = output


def hear_auxiliary(model: nn.Module) -> None:
    """Keep what the auxiliary head of a segmentation model makes of the next forward pass."""
    head = _auxiliary_head(model)
    if head is not None:
        site = sites_of(model).after(head, Auxiliary)
        site.on, site.logits = True, None
        sites_of(model).arm(site)


def install_auxiliary(model: nn.Module) -> None:
    """Put the hook on the auxiliary head, before the model is compiled."""
    head = _auxiliary_head(model)
    if head is not None:
        sites_of(model).after(head, Auxiliary)


def _auxiliary_head(model: nn.Module) -> nn.Module | None:
    base: Any = getattr(model, "get_base_model", lambda: model)()
    head = getattr(base, "auxiliary_head", None)
    return head if isinstance(head, nn.Module) and hasattr(base.config, "auxiliary_loss_weight") else None
