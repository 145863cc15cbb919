"""What is drawn for one mixed batch, what a draw may look at, and the terms of a loss that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hf_mixup.models.labels import Further, ProblemType

Batch = Mapping[str, Any]
AnyDraw = TypeVar("AnyDraw", bound="Draw")


@dataclass(frozen=True)
class Draw:
    """Everything random about one mixed batch, drawn once and then only applied.

    A method that draws more than partner and lam has a subclass with fields of its own, none of which is optional.

    Args:
        method: name of the method that blends (a switch names the chosen one).
        partner: sample i is blended with sample partner[i], long [B].
        lam: weight of the sample itself in the targets, float32 [B], in [0, 1].
        rows: numbers of the samples that are changed, long, where lam < 1 does not tell; else None.
        choice: which of the methods of a switch has drawn, by its position.
        open: whether partners or lam are known only when the model has run, see `SettlesLater`.

    >>> draw = Draw("mixup", partner=torch.tensor([1, 0]), lam=torch.tensor([0.7, 0.7]))
    >>> draw.lam
    tensor([0.7000, 0.7000])
    """

    method: str
    partner: Tensor
    lam: Tensor
    rows: Tensor | None = None
    choice: int = 0
    open: bool = False

    def to(self: AnyDraw, device: torch.device) -> AnyDraw:
        """Return the same draw on a device."""
        if self.partner.device == device:
            return self
        drawn = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in drawn.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def more(self, kind: type[AnyDraw], **drawn: Any) -> AnyDraw:
        """Return this draw as a subclass of `Draw`, with the fields that it adds (and others, to be replaced)."""
        return kind(**{**{field.name: getattr(self, field.name) for field in fields(Draw)}, **drawn})


@dataclass(frozen=True, kw_only=True)
class BoxDraw(Draw):
    """A draw of boxes.

    Args:
        boxes: pixels taken from the partner as (top, left, bottom, right), long [4] or [B, 4]; along n axes [2n] or
            [B, 2n].

    >>> draw = Draw("mine", partner=torch.tensor([1, 0]), lam=torch.tensor([0.75, 0.75]))
    >>> draw.more(BoxDraw, boxes=torch.tensor([0, 0, 4, 4])).boxes
    tensor([0, 0, 4, 4])
    """

    boxes: Tensor


@dataclass(frozen=True, kw_only=True)
class MaskDraw(Draw):
    """A draw of masks.

    Args:
        mask: where an image stays the sample's own, bool [B, H, W] (or [1, H, W] for all samples); of a table which
            columns do, bool [B, K]; or the own share of each of n x n blocks, float32 [B, n, n].

    >>> draw = Draw("mine", partner=torch.tensor([1, 0]), lam=torch.tensor([0.5, 0.5]))
    >>> draw.more(MaskDraw, mask=torch.tensor([[[True, False]]])).mask.shape
    torch.Size([1, 1, 2])
    """

    mask: Tensor


@dataclass(frozen=True, kw_only=True)
class TokenDraw(Draw):
    """A draw of tokens.

    Args:
        positions: for each token the position of the partner's token that goes with it, -1 for none, long [B, T].
    """

    positions: Tensor


@dataclass(frozen=True, kw_only=True)
class NoiseDraw(Draw):
    """A draw of noise.

    Args:
        seed: of noise that is drawn where the batch lies.
    """

    seed: int


@dataclass(frozen=True)
class Request:
    """What a draw may look at, and what the caller has already decided.

    Args:
        batch: the model inputs, without labels.
        labels: their labels, [B] or [B, C].
        prob: chance in [0, 1] to mix, after the schedule.
        rng: the generator of this batch's key; draws use nothing else.
        partner, lam: dictated by the caller, long [B] and float32 [B], on the CPU; None to draw them.
        boxes: whether the samples have boxes, masks or maps of numbers, which `labels` do not hold.
        kind: the problem type of the labels.
        prob_per: how the coin of `prob` is tossed, where a method that holds the one asked says so.
        guide: another model that is asked where to look in the images; None to ask the model in training.
        loss_sum: (logits, labels) -> the summed loss of samples as they are, 0-d, as training has it; None for a caller
            without one.
        seed: of the run, for what is drawn once in it.
        together: whether all processes have to run the model equally often: a method that looks at it then does so also
            where nothing is drawn to be mixed.

    >>> pixels, rng = torch.rand(4, 3, 8, 8), torch.Generator().manual_seed(0)
    >>> Request(nn.Identity(), {"pixel_values": pixels}, torch.tensor([0, 1, 2, 1]), prob=1.0, rng=rng).rows
    4
    """

    model: nn.Module
    batch: Batch
    labels: Tensor
    prob: float
    rng: torch.Generator
    partner: Tensor | None = None
    lam: Tensor | None = None
    guide: nn.Module | None = None
    kind: ProblemType = "single_label_classification"
    boxes: bool = False
    prob_per: str | None = None
    loss_sum: Callable[[Tensor, Tensor], Tensor] | None = None
    seed: int = 0
    together: bool = False

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def looking(self, key: str) -> tuple[nn.Module, Batch]:
        """Return the model that is asked where to look, and its inputs: the guide is shown the images alone."""
        if self.guide is None:
            return self.model, self.batch
        own = next(self.guide.parameters())
        if own.device != self.batch[key].device:
            self.guide.to(self.batch[key].device)
        return self.guide, {key: self.batch[key].to(own.dtype)}


@dataclass(frozen=True)
class Term:
    """One part of a mixed batch's loss: logits against two labels each, or more.

    Args:
        logits: as the model gave them, or a method's own blend of them.
        labels: those of the rows.
        others: those that they are mixed with, of the same shape.
        lam: weight of `labels`, float32 [B], or one for each label.
        share: what the part counts in the sum.
        further: more labels with the weight of each, float32 [B], taken from that of `others`.
    """

    logits: Tensor
    labels: Tensor
    others: Tensor
    lam: Tensor
    share: float = 1.0
    further: Further = ()
