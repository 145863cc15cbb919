"""What all methods share: the parameters of one mixed batch, and how they are drawn from a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from hf_mixup.functional import pair, pair_by_length, sample_lam

if TYPE_CHECKING:
    from hf_mixup.engine.config import MixupConfig
    from hf_mixup.models.labels import Further, ProblemType

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Draw:
    """Everything random about one mixed batch, drawn once and then only applied.

    Args:
        method: registry name of the method that blends (a switch names the chosen one).
        partner: row i is blended with row partner[i], long [B].
        lam: weight of the row's own sample in the targets, float32 [B], in [0, 1].
        boxes: pixels taken from the partner as (top, left, bottom, right), long [4] or [B, 4]; along n axes [2n] or
            [B, 2n].
        layer: depth of a hidden-layer blend, in blocks.
        mask: where an image stays the row's own, bool [B, H, W] (or [1, H, W] for all rows); of a table which columns
            do, bool [B, K]; or the own share of each of n x n blocks, float32 [B, n, n].
        sources: at each place the block that is put there, of the own image and of the partner's, long [B, 2, n * n].
        places: for each token the place of the partner that goes with it, -1 for none, long [B, T].
        rows: rows that are changed, long, of a method for which lam does not tell; None where lam < 1 does.
        seed: of noise that is drawn where the batch lies.
        further: rows that are mixed in beside the partner, long [B, K], of a method that mixes more than two.
        shares: weight of each of them in the targets, float32 [B, K], taken from what lam leaves the partner.
        center: pixel (y, x) that four images meet at, long [2] or [B, 2].
        shift: how much further their content is read than it is put, long [4, 2] or [B, 4, 2], see `mosaic`.
        points: rows moved by the gradient of their loss, see `Adversarial`: floats [K, R, ...] for each input.
        open: whether the partners are chosen only when the logits are known, see `Method.settle`.
        choice: which of the methods of a switch has drawn them, by its position.

    >>> draw = Draw("mixup", partner=torch.tensor([1, 0]), lam=torch.tensor([0.7, 0.7]))
    >>> draw.lam, draw.boxes is None
    (tensor([0.7000, 0.7000]), True)
    """

    method: str
    partner: Tensor
    lam: Tensor
    boxes: Tensor | None = None
    layer: int | None = None
    mask: Tensor | None = None
    sources: Tensor | None = None
    places: Tensor | None = None
    rows: Tensor | None = None
    further: Tensor | None = None
    shares: Tensor | None = None
    center: Tensor | None = None
    shift: Tensor | None = None
    seed: int = 0
    points: dict[str, Tensor] | None = None
    open: bool = False
    choice: int = 0

    def to(self, device: torch.device) -> Draw:
        """Return the same parameters on a device."""
        if self.partner.device == device:
            return self
        drawn = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in drawn.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class Request:
    """What a draw may look at, and what the caller has already decided.

    Args:
        batch: the model inputs, without labels.
        labels: their labels, [B] or [B, C].
        prob: chance in [0, 1] to mix, after the schedule.
        rng: the generator of this batch's key; draws use nothing else.
        partner, lam: dictated by the caller, long [B] and float32 [B], on the CPU; None to draw them.
        boxes: whether the labels are boxes, which `labels` do not hold.
        kind: the problem type of the labels.
        guide: another model that is asked where to look in the images; None to ask the model in training.

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


class Method:
    """A mixing method: `draw` decides, `apply` carries out.

    A subclass says where it blends (`apply`) and adds to the draw what it needs beyond partner and lam. The class
    attributes fill the generated table of methods.

    >>> from hf_mixup.engine.config import MixupConfig
    >>> class Brighten(Method):
    ...     name = "brighten"
    ...     def apply(self, model, batch, draw, inplace):
    ...         return {**batch, "pixel_values": batch["pixel_values"] + 1 - draw.lam[:, None, None, None]}
    >>> draw = Draw("brighten", partner=torch.tensor([1, 0]), lam=torch.tensor([1.0, 0.8]))
    >>> mixed = Brighten(MixupConfig()).apply(nn.Identity(), {"pixel_values": torch.zeros(2, 3, 4, 4)}, draw, False)
    >>> mixed["pixel_values"].mean((1, 2, 3))
    tensor([0.0000, 0.2000])
    """

    name: ClassVar[str]
    title: ClassVar[str]
    blends: ClassVar[str]
    paper: ClassVar[str]
    citation: ClassVar[str] = ""
    enters_model: ClassVar[bool] = False  # blends inside the forward pass, through hooks
    for_pairs: ClassVar[bool] = False  # for dual encoders, and only for them
    for_pixels: ClassVar[bool] = False  # has a rule for labels of pixels, [B, H, W]
    for_boxes: ClassVar[bool] = False  # has a rule for the boxes of object detection
    for_forecasts: ClassVar[bool] = False  # mixes past and future alike, linearly
    exchanges: ClassVar[bool] = True  # with lam = 0 a row is its partner, as `sites.exchange` tries it
    keeps: ClassVar[tuple[str, ...]] = ()  # inputs that stay with their places by the method's definition
    own_loss: ClassVar[bool] = False  # more than the model's logits against the labels of row and partner by lam

    alone: ClassVar[bool] = False  # changes a row by itself, without a partner

    def __init__(self, config: MixupConfig) -> None:
        self.config = config

    def draw(self, request: Request) -> Draw:
        """Draw who is blended with whom and how much, except for what the caller dictates."""
        partner = request.partner if request.partner is not None else self._draw_partner(request)
        lam = request.lam if request.lam is not None else self._draw_lam(request, partner)
        return Draw(self.name, partner, lam)

    def prepare(self, model: nn.Module) -> None:
        """Install whatever hooks the method needs, before the model is compiled."""

    def knows(self, tokenizer: Any) -> None:
        """Learn about the tokenizer (or the processor that has it), for a method that has to read captions."""

    def choices(self) -> list[Method]:
        """Return the methods that may be drawn: itself alone, unless it delegates."""
        return [self]

    def depths(self, model: nn.Module, batch: Batch) -> list[int | None]:
        """Return the depths that may be drawn, of a method that enters the model between its blocks; else [None]."""
        return [None]

    @property
    def takes_guide(self) -> bool:
        """Whether it asks a model where to look, which may be another than the one in training."""
        return False

    @property
    def chooses_depths(self) -> bool:
        """Whether the depths are the method's own choice, of which some may be left out."""
        return False

    def chosen(self, draw: Draw) -> Method:
        """Return the method that these parameters are for: itself, unless it delegates."""
        return self

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        """Return the model inputs of the mixed batch, and arm the model where the blend happens inside it.

        Raises:
            ValueError: for a batch with nothing to blend, or parameters without what the method draws.
        """
        raise NotImplementedError

    def rows_changed(self, draw: Draw) -> int:
        """Return how many rows are mixed; none is with itself as its partner. For parameters on the CPU."""
        if draw.rows is not None:
            return len(draw.rows)
        mixed = draw.lam < 1
        if not self.alone:
            mixed &= draw.partner != torch.arange(len(draw.partner))
        return int(mixed.sum())

    def changed_places(self, draw: Draw) -> Tensor | None:
        """Return where the mixed inputs hold the rows that `draw.rows` names; None where all are in their places."""
        return None

    def settle(self, logits: Tensor, labels: Tensor, draw: Draw) -> Draw:
        """Return the parameters with their partners, of a method that chooses them by the logits."""
        raise NotImplementedError

    def terms(self, logits: Tensor, labels: Tensor, draw: Draw) -> list[Term]:
        """Return the parts of the loss: one, the logits against the mixed targets, unless the method has others."""
        others, lam = self.other_labels(labels, draw), self.label_lam(labels, draw)
        return [Term(logits, labels, others, lam, further=self.further_labels(labels, draw))]

    def other_labels(self, labels: Tensor, draw: Draw) -> Tensor:
        """Return the labels that each row's own are mixed with: its partner's."""
        return labels[draw.partner]

    def mixed_boxes(
        self, labels: Sequence[Mapping[str, Tensor]], draw: Draw, height: int, width: int
    ) -> list[dict[str, Tensor]]:
        """Return the boxes of the mixed images, with their `weights`, of a method that has a rule for boxes.

        Args:
            labels: `class_labels` [N] and `boxes` [N, 4] of each row.
            draw: on the CPU.
            height, width: of the images, in pixels.
        """
        raise NotImplementedError

    def label_lam(self, labels: Tensor, draw: Draw) -> Tensor:
        """Return the weight of each row's own labels: lam [B], unless a method has one for each label."""
        return draw.lam

    def further_labels(self, labels: Tensor, draw: Draw) -> Further:
        """Return the labels of rows that are mixed in beside the partner, and their weights."""
        if draw.further is None or draw.shares is None:
            return ()
        return tuple((labels[rows], share) for rows, share in zip(draw.further.unbind(1), draw.shares.unbind(1)))

    def _draw_partner(self, request: Request) -> Tensor:
        cfg = self.config
        if cfg.pairing == "length":
            return pair_by_length(_lengths(request.batch), request.rng)
        # lam can be shared by a pair only where the pairing has disjoint pairs.
        return self._pair(request, "match" if cfg.lam_per == "pair" and cfg.pairing == "random" else cfg.pairing)

    def _pair(self, request: Request, mode: str) -> Tensor:
        """Draw partners in one of the modes of `pair`, among the rows that `pair_class` allows."""
        cfg, labels = self.config, request.labels
        if cfg.pair_class == "any":
            return pair(request.rows, generator=request.rng, mode=mode)
        if labels.is_floating_point() or labels.dim() != 1:
            raise ValueError(
                f"pair_class={cfg.pair_class!r} needs one integer label a row, found {labels.dtype} labels"
            )
        # The one wait for the device: partners are counted out on the host, and there are labels to count.
        return pair(request.rows, generator=request.rng, mode=mode, labels=labels.cpu(), among=cfg.pair_class)

    def _draw_lam(self, request: Request, partner: Tensor) -> Tensor:
        """Draw lam [B]; rows that the coin of `prob` leaves alone get lam = 1."""
        lam = self._sample_lam(request.rows, request.rng)[self.shared_with(partner)]
        if request.prob >= 1:
            return lam
        tosses = torch.rand(1 if self.config.prob_per == "batch" else request.rows, generator=request.rng)
        return torch.where(tosses < request.prob, lam, 1.0)

    def _sample_lam(self, rows: int, rng: torch.Generator) -> Tensor:
        """Draw a lam for each row [B], whatever it shares and the coin of `prob` says."""
        cfg = self.config
        if cfg.lam is not None:
            return torch.full((rows,), cfg.lam)
        alpha = cfg.alpha if cfg.beta is None else (cfg.alpha, cfg.beta)
        return sample_lam(alpha, size=rows, generator=rng, host_dominant=cfg.host_dominant)

    def shared_with(self, partner: Tensor) -> Tensor:
        """Name for each row the row whose draw it uses, long [B]: the batch's first, its pair's first, or its own."""
        own = torch.arange(len(partner))
        if self.config.lam_per == "batch":
            return torch.zeros_like(own)
        if self.config.lam_per == "pair":  # an odd batch has one cycle of three, which shares a draw too
            return torch.minimum(torch.minimum(own, partner), partner[partner])
        return own


def _lengths(batch: Batch) -> Tensor:
    """Return how many tokens (or samples of audio) the mask shows of each row, long [B] on the CPU."""
    mask = batch.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        held = ", ".join(batch) or "nothing"
        raise ValueError(f"pairing='length' needs an attention_mask [B, T] to count by: the batch holds {held}")
    return mask.long().sum(-1).cpu()  # the one wait for the device: rows are sorted on the host
