"""What all methods share: their settings, and how they draw from a key."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from hf_mixup.functional import pair, pair_by_length, sample_lam
from hf_mixup.methods.draws import AnyDraw as AnyDraw
from hf_mixup.methods.draws import Batch as Batch
from hf_mixup.methods.draws import BoxDraw as BoxDraw
from hf_mixup.methods.draws import Draw as Draw
from hf_mixup.methods.draws import MaskDraw as MaskDraw
from hf_mixup.methods.draws import NoiseDraw as NoiseDraw
from hf_mixup.methods.draws import Request as Request
from hf_mixup.methods.draws import Term as Term
from hf_mixup.methods.draws import TokenDraw as TokenDraw
from hf_mixup.models.batches import select_samples
from hf_mixup.models.labels import Further
from hf_mixup.models.ragged import layouts
from hf_mixup.utils.constants import Modality
from hf_mixup.utils.values import check_settings
from hf_mixup.utils.values import setting as setting

ALPHA = "lam ~ Beta(alpha, alpha). 0 switches mixing off."
"""What `alpha` means; a method that has more to say of it declares it again."""


@dataclass(kw_only=True)
class Method:
    """A mixing method: a dataclass of its own settings. `draw` decides, `apply` carries out.

    A subclass declares its settings with `setting`, says how it changes a batch (`apply`), and adds to the draw what it
    needs. Most derive from `Blend`, which draws a partner and lam; what some need or can do beyond that stands in
    `capabilities`. The class attributes fill the table of methods.

    Raises:
        ValueError: for a value of another type or outside its range, or a setting that has no bearing beside others.

    >>> @dataclass(kw_only=True)
    ... class Brighten(Blend):
    ...     name = "brighten"
    ...     by: float = setting(1.0, "What is added where lam is 0.", at_least=0)
    ...
    ...     def apply(self, model, batch, draw, inplace):
    ...         return {**batch, "pixel_values": batch["pixel_values"] + self.by * (1 - draw.lam[:, None, None, None])}
    >>> draw = Draw("brighten", partner=torch.tensor([1, 0]), lam=torch.tensor([1.0, 0.8]))
    >>> mixed = Brighten(by=0.5).apply(nn.Identity(), {"pixel_values": torch.zeros(2, 3, 4, 4)}, draw, False)
    >>> mixed["pixel_values"].mean((1, 2, 3))
    tensor([0.0000, 0.1000])
    """

    name: ClassVar[str]
    title: ClassVar[str]
    blends: ClassVar[str]
    paper: ClassVar[str]
    modalities: ClassVar[tuple[Modality, ...]] = ()  # the kinds of samples that it mixes
    begin_with: ClassVar[str] = ""  # settings for a first try, as `--methods` reads them behind the name
    citation: ClassVar[str] = ""
    enters_model: ClassVar[bool] = False  # blends inside the forward pass, whatever the batch; see `enters`
    for_pairs: ClassVar[bool] = False  # for dual encoders, and only for them unless it `fuses`
    fuses: ClassVar[bool] = False  # of those for pairs: also for a model that fuses what belongs together, with labels
    exchanges: ClassVar[bool] = True  # with lam = 0 a sample is its partner, as `engine.exchange` tries it
    keeps: ClassVar[tuple[str, ...]] = ()  # inputs that stay with their positions by the method's definition
    own_loss: ClassVar[bool] = False  # more than the model's logits against the labels of sample and partner by lam
    alone: ClassVar[bool] = False  # changes a sample by itself, without a partner

    prob: float = setting(1.0, "Chance that a batch (or sample) is mixed.", at_least=0, at_most=1)
    prob_per: Literal["batch", "sample"] = setting("batch", "Toss the coin of `prob` once a batch or once a sample.")

    def __post_init__(self) -> None:
        check_settings(self)
        unread = self.unread()
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in unread and each.name != "alpha" and value != each.default:
                raise ValueError(
                    f"{each.name}={value!r}: method {self.name!r} reads it only {unread[each.name]}: leave it out, or "
                    "change that"
                )

    def unread(self) -> dict[str, str]:
        """Return the settings that have no bearing beside the others as they are, and what each would need."""
        return {}

    @property
    def off(self) -> bool:
        """Whether these settings can never mix anything."""
        return self.prob == 0

    def draw(self, request: Request) -> Draw:
        """Draw how a batch is mixed, except for what the caller dictates.

        Raises:
            ValueError: for a batch or labels that the method has no rule for.
        """
        raise NotImplementedError

    def draw_given(self, partner: Tensor, lam: Tensor, depth: int | None = None) -> Draw:
        """Return the draw of a method that enters the model, for this partner and lam, at one of its depths."""
        return Draw(self.name, partner, lam)

    def tosses(self, request: Request) -> Tensor:
        """Toss the coin of `prob`: whether to mix, bool [1] for the batch or [B] for each sample."""
        once = (request.prob_per or self.prob_per) == "batch"
        return torch.rand(1 if once else request.rows, generator=request.rng) < request.prob

    def asked(self, request: Request, held: Method) -> Request:
        """Return the request for a method that this one holds: this one's coin, unless that has a `prob` of its own."""
        per = self.prob_per if held.prob == 1 else None
        return replace(request, prob=request.prob * held.prob, prob_per=per)

    def prepare(self, model: nn.Module) -> None:
        """Install whatever hooks the method needs, before the model is compiled."""

    def choices(self) -> list[Method]:
        """Return the methods that may be drawn: itself alone, unless it delegates."""
        return [self]

    def enters(self, model: nn.Module, batch: Batch) -> bool:
        """Whether samples of this batch are blended inside the forward pass, through hooks."""
        return self.enters_model

    def depths(self, model: nn.Module, batch: Batch) -> list[int | None]:
        """Return the depths that may be drawn, of a method that enters the model between its blocks; else [None]."""
        return [None]

    @property
    def chooses_depths(self) -> bool:
        """Whether the depths are the method's own choice, of which some may be left out."""
        return False

    def chosen(self, draw: Any) -> Method:
        """Return the method that these parameters are for: itself, unless it delegates."""
        return self

    def apply(self, model: nn.Module, batch: Batch, draw: Any, inplace: bool) -> dict[str, Any]:
        """Return the model inputs of the mixed batch, and arm the model where the blend happens inside it.

        Args:
            draw: what this method has drawn: the subclass of `Draw` that its `draw` returns.

        Raises:
            ValueError: for a batch with nothing to blend.
        """
        raise NotImplementedError

    def rows_changed(self, draw: Any) -> int:
        """Return how many rows are mixed; none is with itself as its partner. For parameters on the CPU."""
        if draw.rows is not None:
            return len(draw.rows)
        drawn = enumerate(zip(draw.lam.tolist(), draw.partner.tolist()))  # a few operations on tensors cost more
        return sum(lam < 1 and (self.alone or partner != row) for row, (lam, partner) in drawn)

    def changed_places(self, draw: Any) -> Tensor | None:
        """Return where the mixed inputs hold the rows that `draw.rows` names; None where all are in their places."""
        return None

    def terms(self, logits: Tensor, labels: Tensor, draw: Any) -> list[Term]:
        """Return the parts of the loss: one, the logits against the mixed targets, unless the method has others."""
        others, lam = self.other_labels(labels, draw), self.label_lam(labels, draw)
        return [Term(logits, labels, others, lam, further=self.further_labels(labels, draw))]

    def other_labels(self, labels: Tensor, draw: Any) -> Tensor:
        """Return the labels that each row's own are mixed with: its partner's."""
        return labels.index_select(0, draw.partner)

    def label_lam(self, labels: Tensor, draw: Any) -> Tensor:
        """Return the weight of each row's own labels: lam [B], unless a method has one for each label."""
        return draw.lam

    def further_labels(self, labels: Tensor, draw: Any) -> Further:
        """Return the labels of the samples that are mixed in beside the partner, and their weights."""
        return tuple((labels[rows], share) for rows, share in self.further_rows(draw))

    def further_rows(self, draw: Any) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return the samples that are mixed in beside the partner, long [B], and the weight of each, float32 [B]."""
        return ()


@dataclass(kw_only=True)
class FixedLam(Method):
    """A method that mixes two samples by a lam, fixed or drawn by a rule of its own (`_sample_lam`)."""

    lam: float | None = setting(None, "A fixed lam in [0, 1] instead of a drawn one.", at_least=0, at_most=1)
    lam_per: Literal["batch", "pair", "sample"] = setting(
        "batch", "Draw lam once a batch, once a pair, or once a sample."
    )

    @property
    def off(self) -> bool:
        return super().off or self.lam == 1

    def draw(self, request: Request) -> Draw:
        """Draw who is blended with whom and how much, except for what the caller dictates."""
        partner = self._partners(request)
        lam = request.lam if request.lam is not None else self._draw_lam(request, partner)
        return Draw(self.name, partner, lam)

    def alike(self, model: nn.Module) -> Literal["grids", "tokens"] | None:
        """Return what partners have to share: the grids of their images, or the positions of their tokens, too."""
        return None

    def _partners(self, request: Request) -> Tensor:
        """Return the partner that is given or drawn; one of like layout, where the method asks for it."""
        alike = self.alike(request.model)
        groups = layouts(request.model, request.batch, alike == "tokens") if alike else None
        if groups is None:
            return self._draw_partner(request) if request.partner is None else request.partner
        if request.partner is not None:
            _refuse_unlike(groups, request.partner, self.name)
            return request.partner
        partner = torch.arange(request.rows)
        for group in groups.unique():
            rows = (groups == group).nonzero()[:, 0]
            batch = select_samples(request.batch, rows, request.rows)
            labels = request.labels[rows.to(request.labels.device, non_blocking=True)]
            part = replace(request, batch=batch, labels=labels)
            partner[rows] = rows[self._draw_partner(part)]
        if len(groups.unique()) == request.rows > 1:
            warnings.warn(
                f"no two samples of this batch have images of one size and their tokens in the same places, so that "
                f"method {self.name!r} mixes none of them: use larger batches, or resize all images to one size",
                UserWarning,
                stacklevel=2,
            )
        return partner

    def _draw_partner(self, request: Request) -> Tensor:
        # lam can be shared by a pair only where the pairing has disjoint pairs.
        return pair(request.rows, generator=request.rng, mode="match" if self.lam_per == "pair" else "random")

    def _draw_lam(self, request: Request, partner: Tensor) -> Tensor:
        """Draw lam [B]; samples that the coin of `prob` leaves alone get lam = 1."""
        if self.lam_per == "batch":  # the first of as many as there are samples, by the same key
            lam = self._fixed_or_sampled(1, request.rng).expand(request.rows).contiguous()
        else:
            lam = self._fixed_or_sampled(request.rows, request.rng)[self.shared_with(partner)]
        return lam if request.prob >= 1 else torch.where(self.tosses(request), lam, 1.0)

    def _fixed_or_sampled(self, rows: int, rng: torch.Generator) -> Tensor:
        return self._sample_lam(rows, rng) if self.lam is None else torch.full((rows,), self.lam)

    def _sample_lam(self, rows: int, rng: torch.Generator) -> Tensor:
        """Draw a lam for each sample, [B], as if none were shared and all were mixed."""
        raise NotImplementedError

    def shared_with(self, partner: Tensor) -> Tensor:
        """Name for each sample the one whose draw it uses, long [B]: the first of its batch or pair, or itself."""
        own = torch.arange(len(partner))
        if self.lam_per == "batch":
            return torch.zeros_like(own)
        if self.lam_per == "pair":  # an odd batch has one cycle of three, which shares a draw too
            return torch.minimum(torch.minimum(own, partner), partner[partner])
        return own


@dataclass(kw_only=True)
class DrawnLam(FixedLam):
    """A method whose lam is drawn from Beta(alpha, alpha)."""

    alpha: float = setting(1.0, ALPHA, at_least=0)
    beta: float | None = setting(None, "Second parameter of an asymmetric Beta(alpha, beta).", above=0)
    lam_at_least_half: bool = setting(False, "Fold lam to max(lam, 1 - lam), so that a sample's own content dominates.")

    def unread(self) -> dict[str, str]:
        return {} if self.lam is None else dict.fromkeys(("alpha", "beta", "lam_at_least_half"), "without lam")

    @property
    def off(self) -> bool:
        return super().off or (self.lam is None and self.alpha == 0)

    def _sample_lam(self, rows: int, rng: torch.Generator) -> Tensor:
        alpha = self.alpha if self.beta is None else (self.alpha, self.beta)
        return sample_lam(alpha, size=rows, generator=rng, lam_at_least_half=self.lam_at_least_half)


@dataclass(kw_only=True)
class ChosenPartner(FixedLam):
    """A method whose partners may be drawn in several ways."""

    pairing: Literal["random", "match", "flip", "roll", "length"] = setting(
        "random",
        "Partners: in random order, disjoint pairs, reversed batch, the sample before, or the nearest in length.",
    )
    pair_class: Literal["any", "same", "different"] = setting("any", "Restrict partners to the same or another class.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lam_per == "pair" and self.pairing == "roll":
            raise ValueError("lam_per='pair' needs disjoint pairs: set pairing to 'match' or 'flip', found 'roll'")
        if self.pairing == "length" and self.pair_class != "any":
            raise ValueError(
                f"pairing='length' and pair_class={self.pair_class!r}: partners can follow one of them only"
            )

    def _draw_partner(self, request: Request) -> Tensor:
        if self.pairing == "length":
            return pair_by_length(_lengths(request.batch), request.rng)
        # lam can be shared by a pair only where the pairing has disjoint pairs.
        return self._pair(request, "match" if self.lam_per == "pair" and self.pairing == "random" else self.pairing)

    def _pair(self, request: Request, mode: str) -> Tensor:
        """Draw partners in one of the modes of `pair`, among the samples that `pair_class` allows."""
        labels = request.labels
        if self.pair_class == "any":
            return pair(request.rows, generator=request.rng, mode=mode)
        if labels.is_floating_point() or labels.dim() != 1:
            raise ValueError(
                f"pair_class={self.pair_class!r} needs one integer label a row, found {labels.dtype} labels"
            )
        # The one wait for the device: partners are counted out on the host, and there are labels to count.
        return pair(request.rows, generator=request.rng, mode=mode, labels=labels.cpu(), among=self.pair_class)


@dataclass(kw_only=True)
class Blend(DrawnLam, ChosenPartner):
    """A method that mixes each sample with a partner, by a lam from Beta(alpha, alpha): the base of most methods.

    >>> from hf_mixup.methods import CutMix
    >>> isinstance(CutMix(alpha=0.5, pairing="flip"), Blend)
    True
    """


@dataclass(kw_only=True)
class FloatInputs(Method):
    """A method that changes float inputs of the model.

    >>> from hf_mixup.methods import InputMixup
    >>> isinstance(InputMixup(keys=["pixel_values"]), FloatInputs)
    True
    """

    keys: list[str] | None = setting(None, "Model inputs to mix; by default every floating-point input that fits.")


def _refuse_unlike(groups: Tensor, partner: Tensor, method: str) -> None:
    """Refuse partners that are given, where their images or clips lie at other tokens or have other sizes."""
    unlike = (groups != groups[partner]).nonzero()
    if len(unlike):
        row = int(unlike[0])
        raise ValueError(
            f"sample {row} and its partner {int(partner[row])} have other layouts (sizes of images, or positions of "
            f"their tokens), and method {method!r} blends like ones only: leave partner out, and it is drawn among "
            "those"
        )


def _lengths(batch: Batch) -> Tensor:
    """Return how many tokens (or samples of audio) the mask shows of each row, long [B] on the CPU."""
    mask = batch.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        held = ", ".join(batch) or "nothing"
        raise ValueError(f"pairing='length' needs an attention_mask [B, T] to count by: the batch holds {held}")
    return mask.long().sum(-1).cpu()  # the one wait for the device: rows are sorted on the host
