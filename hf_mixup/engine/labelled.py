"""One mixed batch: what every kind of them shares, and the batch of a model with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hf_mixup.methods import Draw, Method
from hf_mixup.methods._segmentation import refuse_for_maps
from hf_mixup.methods.base import Given, Term
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.inputs import model_inputs
from hf_mixup.models.labels import Labels, check_labels, dense_targets, expand_like, partner_weight, read_labels
from hf_mixup.models.losses import (
    auxiliary_loss,
    balance_of,
    distilled_loss_sum,
    label_mass,
    mean_of,
    mixed_loss_sum,
    soft_scores,
    weighed_labels,
)
from hf_mixup.models.segmentation import at_pixels, capture_auxiliary_logits, scored_parts
from hf_mixup.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from hf_mixup.engine.mixup import Mixup


class MixedBatch:
    """One mixed batch: enter it, run the model on `inputs`, take the `loss`.

    Attributes:
        inputs: what the model is given; no labels, so that it computes no loss of its own.
        lam: float32 [B], weight of the own row's label.
        partner: long [B].
        mean_lam: mean of lam over the rows; 0-d on the device where only that knows.
        rate: share of the rows that are blended with another; 0 where the coin of `prob` or the schedule left the batch
            alone, or a row is the only one.
        draw: everything that was drawn.
        labels: the batch's own labels, untouched.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("sequence-classification", "bert")
    >>> with Mixup("embedding")(model, batch, lam=0.75) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.lam, mixed.mean_lam, mixed.rate, mixed.targets.shape
    (tensor([0.7500, 0.7500, 0.7500, 0.7500]), 0.75, 1.0, torch.Size([4, 4]))
    """

    def __init__(
        self,
        mixup: Mixup,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: Tensor,
        draw: Draw,
        inplace: bool,
    ) -> None:
        self.inputs, self.labels = inputs, labels
        self._clean = inputs
        self.mean_lam: float | Tensor
        if draw.lam.device.type == "cpu":  # as a rule: nobody has to wait for it
            drawn = draw.lam.tolist()
            changed = mixup.method.chosen(draw).rows_changed(draw)
            self.mean_lam, self.rate = sum(drawn) / len(drawn), changed / len(drawn)
        else:  # what a method found on the device is looked at when it is logged
            changed = len(draw.lam) if draw.rows is None else len(draw.rows)
            self.mean_lam, self.rate = draw.lam.mean(), changed / len(draw.lam)
        self.draw = draw.to(labels.device)
        self.lam, self.partner = self.draw.lam, self.draw.partner
        self._mixup, self._model, self._inplace = mixup, model, inplace
        self._partners = [self.partner]  # by which sites that were armed for this batch are known
        self._logits: Tensor | None = None

    @classmethod
    def takes(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether a batch for this model is of this kind."""
        raise NotImplementedError

    @classmethod
    def make(cls, mixup: Mixup, model: nn.Module, batch: Mapping[str, Any], given: Given) -> MixedBatch:
        """Check a batch, draw how it is mixed, and return it; see `Mixup.__call__`.

        Args:
            model: without wrappers.
        """
        raise NotImplementedError

    def __enter__(self) -> MixedBatch:
        self._mixup.watch.draw(self._model)
        hooks_of(self._model).forget()
        if self.rate:
            try:
                self.inputs = self._method.apply(self._model, self.inputs, self.draw, self._inplace)
            except BaseException:  # Ctrl-C, too: what was armed so far must not mix another batch
                hooks_of(self._model).forget()
                raise
        self._partners += [hook.partner for hook in hooks_of(self._model).active if hook.partner is not None]
        return self

    @property
    def _method(self) -> Method:
        return self._mixup.method.chosen(self.draw)

    @property
    def changed_places(self) -> Tensor | None:
        """Where `inputs` hold the rows `draw.rows`, of a method that runs them behind the clean ones; else None."""
        return self._method.changed_places(self.draw) if self.rate else None

    def forward(self, model: nn.Module) -> Any:
        """Run the model (wrapped or not) on the mixed inputs."""
        return model(**self.inputs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        hooks_of(self._model).deactivate()

    def _refuse_unmixed(self) -> None:
        for hook in hooks_of(self._model).active:
            if hook.missed and any(hook.partner is each for each in self._partners):
                raise RuntimeError(
                    f"{type(self._model).__name__} did not pass the place where method {self.draw.method!r} mixes. "
                    "Run it on `mixed.inputs` inside the context before taking the loss; if it was compiled, call "
                    "`Mixup.prepare(model)`, or mix a first batch, before it is run unmixed"
                )

    @property
    def targets(self) -> Tensor:
        """Dense float32 targets of the mixed rows."""
        raise NotImplementedError

    def loss(self, outputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss of the mixed batch, a 0-d tensor."""
        raise NotImplementedError

    def accuracy(self) -> Tensor | None:
        """Return how much of the targets' mass the model found, 0-d; None before the loss."""
        raise NotImplementedError


class LabelBatch(MixedBatch):
    """A mixed batch whose rows have labels: of rows, tokens or pixels, spans, language models, regression.

    Attributes:
        labels: the labels as the loss reads them, see `hf_mixup.models.labels.Labels`.
        masses: what the rows' own labels, those of the partners and any further ones weigh in the whole accumulated
            batch, floats [2 + K]; None where only this batch's own are known.
        permuted: whether each row is partner once, so that the partners' labels are those of the batch.
        items: what the summed loss of this batch alone is divided by, 0-d; None before the loss.
    """

    def __init__(
        self,
        mixup: Mixup,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: Labels,
        draw: Draw,
        inplace: bool,
    ) -> None:
        self.permuted = _permutes(draw)  # while the parameters are on the CPU
        super().__init__(mixup, model, inputs, labels.values, draw, inplace)
        self._read, self.kind = labels, labels.kind
        self._scored: Term | None = None
        self.masses: Tensor | None = None
        self.items: Tensor | None = None

    def __enter__(self) -> LabelBatch:
        super().__enter__()
        if self._read.pixels:
            capture_auxiliary_logits(self._model)
        return self

    @classmethod
    def takes(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Return True: what is no other kind is one with labels, or is refused for the lack of them."""
        return True

    @classmethod
    def make(cls, mixup: Mixup, model: nn.Module, batch: Mapping[str, Any], given: Given) -> LabelBatch:
        """Read the labels as the model's own loss would, and draw; see `MixedBatch.make`.

        Raises:
            ValueError: for packed sequences, labels outside the classes, or a method without a rule for these labels.
        """
        refuse_packed(batch)
        mixup.check_loss(model, batch)
        labels = read_labels(model, batch)
        if labels.values.device.type == "cpu":  # elsewhere it would stall the device; the collator has checked
            check_labels(labels.values, labels.classes, labels.kind)
        inputs = model_inputs(model, batch, labels)
        if labels.pixels:
            refuse_for_maps(mixup.method, model)
        draw = mixup.draw(model, inputs, labels.values, given, labels.kind)
        return cls(mixup, model, inputs, labels, draw, given.inplace)

    @property
    def classes(self) -> int:
        """Number of classes: the model's, or the number of logits once there are any."""
        if self._logits is not None:
            return self._logits.shape[-1]
        if self._read.classes is None:
            raise ValueError(f"{type(self._model).__name__} does not say num_labels: run it and take the loss first")
        return self._read.classes

    @property
    def targets(self) -> Tensor:
        """Dense float32 targets: [B, C] ([B, T, C], [B, H, W, C] for tokens, pixels); as the labels for regression."""
        smoothing = self._mixup.config.label_smoothing
        further = self._method.further_labels(self.labels, self.draw)
        return dense_targets(self.labels, self.others, self.label_lam, self.classes, self.kind, smoothing, further)

    @property
    def others(self) -> Tensor:
        """The labels that each row's own are mixed with."""
        return self._method.other_labels(self.labels, self.draw)

    @property
    def label_lam(self) -> Tensor:
        """The weight of each own label, [B] or one for each of a row's labels."""
        return self._method.label_lam(self.labels, self.draw)

    def loss(self, outputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss of the mixed batch, a 0-d tensor.

        Args:
            outputs: what the model returned: a `ModelOutput`, a mapping with `logits`, a tuple, or the logits.
            num_items_in_batch: divisor of the summed loss over all micro-batches and processes of an optimizer step;
                this batch's own count if None, which gives the mean. With partners that do not permute the rows and
                class weights, set `masses` for it, too.

        Raises:
            RuntimeError: if the model never passed the hook where it should have blended.
        """
        self._refuse_unmixed()
        config, weights = self._mixup.config, self._mixup.class_weights
        parts = scored_parts(self._model, outputs, self._read)
        self._logits = parts[0][0]
        if weights is not None:
            weights = weights.to(self._logits.device)
        if self.draw.open:
            self.draw = self._method.settle(self._logits, self.labels, self.draw)
            self.partner, self.lam = self.draw.partner, self.draw.lam
        total, taught = self._logits.new_zeros((), dtype=torch.float32), config.distill_weight or 0.0
        balance = self._balance()
        for number, (logits, share) in enumerate(parts):
            terms = self._method.terms(logits, self.labels, self.draw)
            if number == 0:
                self._scored = terms[0]
            if number == 0 and taught:
                total = total + taught * self._distilled_sum(terms, weights, balance)
            for term in terms if taught < 1 else ():
                total = total + (1 - taught) * share * term.share * mixed_loss_sum(
                    term.logits,
                    term.labels,
                    term.others,
                    term.lam,
                    self.kind,
                    smoothing=config.label_smoothing,
                    class_weights=weights,
                    bce=config.loss == "bce",
                    further=term.further,
                    balance=balance,
                )
        self.items = self._weigh(self.labels)
        auxiliary = auxiliary_loss(self._model, outputs)  # a mean, of which this batch has its share
        if num_items_in_batch is None:
            loss = mean_of(total, self.items) + auxiliary
        else:
            loss = mean_of(total + auxiliary * self.items, num_items_in_batch)
        return self._mixup.watch.follow(loss)

    @property
    def weighted(self) -> bool:
        """Whether labels count by the weight of their class."""
        return self._mixup.class_weights is not None

    def own_masses(self) -> Tensor:
        """Return what the rows' own labels, those of the partners and any further ones weigh, floats [2 + K]."""
        further = [labels for labels, _ in self._method.further_labels(self.labels, self.draw)]
        return torch.stack([self._weigh(each).float() for each in (self.labels, self.others, *further)])

    def _weigh(self, labels: Tensor) -> Tensor:
        return self._mixup.count_items(replace(self._read, values=labels, classes=self._counted))

    @property
    def _counted(self) -> int | None:
        """How many classes are scored, where it is known."""
        return self._read.classes if self._logits is None else self.classes

    def _balance(self) -> Sequence[Tensor]:
        """Return the factors of all labels but the rows' own, see `balance_of`; () where all are 1."""
        if self.kind != "single_label_classification" or (self.permuted and self.masses is None):
            return ()
        return balance_of(self.own_masses() if self.masses is None else self.masses)

    def _distilled_sum(self, terms: list[Term], class_weights: Tensor | None, balance: Sequence[Tensor]) -> Tensor:
        """Return the summed distance of the model's scores from the teacher's.

        The teacher sees the mixed batch. Where rows are blended inside the model, it sees both rows as they are, and
        what it says of them is blended as the labels are.
        """
        config, method, teacher = self._mixup.config, self._method, self._mixup.teacher
        if teacher is None or self._logits is None:
            raise RuntimeError("distillation needs a teacher and the model's logits")
        inside, bce = method.enters_model and bool(method.depths(self._model, self._clean)), config.loss == "bce"
        scores = teacher.logits(self._clean if inside else self.inputs, self._logits.device)
        scores = at_pixels(teacher.model, scores, self.labels) if self._read.pixels else scores
        if scores.shape != self._logits.shape:
            raise ValueError(
                f"the teacher's logits are {list(scores.shape)}, the model's {list(self._logits.shape)}: distillation "
                "needs the same classes and places"
            )
        total = scores.new_zeros((), dtype=torch.float32)
        for term, taught in zip(terms, method.terms(scores, self.labels, self.draw)):
            weighed = weighed_labels(term.labels, term.others, term.lam, term.further, balance)
            own, *rest = (label_mass(label, weight, self.kind, class_weights) for label, weight in weighed)
            mass = own + sum(rest)
            target = soft_scores(taught.logits, config.distill_temperature, self.kind, bce)
            if inside:
                share = expand_like(own / mass.clamp(min=1e-12), target)
                target = share * target + (1 - share) * target[self.partner]
            distance = distilled_loss_sum(term.logits, target, mass, config.distill_temperature, self.kind, bce)
            total = total + term.share * distance
        return total

    def accuracy(self) -> Tensor | None:
        """Return the share of the targets' mass on the predicted class, 0-d; None before the loss or elsewhere.

        A prediction of the own label counts lam, one of the partner's label 1 - lam (less what further rows have). Over
        a vocabulary it would cost as much as the loss, and is left out.
        """
        if self._scored is None or self.kind != "single_label_classification" or self._read.vocabulary:
            return None
        term, predicted = self._scored, self._scored.logits.detach().argmax(-1)
        found = mass = torch.zeros((), device=predicted.device)
        for labels, weight in [
            (term.labels, term.lam),
            (term.others, partner_weight(term.lam, term.further)),
            *term.further,
        ]:
            share = expand_like(weight, labels)
            found = found + (share * (predicted == labels)).sum()
            mass = mass + (share * (labels != IGNORE_INDEX)).sum()
        return found / mass.clamp(min=1e-12)


def _permutes(draw: Draw) -> bool:
    """Whether each row is partner once, so that the partners' labels are those of the batch."""
    partners = [draw.partner, *(() if draw.further is None else draw.further.unbind(1))]
    return all(len(set(each.tolist())) == len(each) for each in partners)


PACKED = ("cu_seq_lens_q", "cu_seqlens", "seq_idx", "packed_seq_lengths", "shift_labels")


def refuse_packed(batch: Mapping[str, Any]) -> None:
    """Refuse sequences that are packed into one row, which have no rows to exchange.

    Raises:
        ValueError: naming what gives the packing away.

    >>> refuse_packed({"input_ids": torch.zeros(1, 6), "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])})
    Traceback (most recent call last):
    ...
    ValueError: 'position_ids' tells of sequences packed into one row, which cannot be mixed row by row: ...
    """
    found = [key for key in PACKED if batch.get(key) is not None]
    if _starts_again(batch):
        found.append("position_ids")
    if found:
        raise ValueError(
            f"{found[0]!r} tells of sequences packed into one row, which cannot be mixed row by row: train without "
            "packing (packing=False, padding_free=False)"
        )


def _starts_again(batch: Mapping[str, Any]) -> bool:
    """Whether positions go back within a row, padding aside: without a mask, models take that for packing."""
    places, mask = batch.get("position_ids"), batch.get("attention_mask")
    if not isinstance(places, Tensor) or places.dim() != 2:
        return False
    if isinstance(mask, Tensor) and len(places) > 1:
        return False  # each row has its mask: no model looks for packing there
    back = places.diff() < 0
    if isinstance(mask, Tensor) and mask.shape == places.shape:
        back = back & (mask[:, 1:] > 0) & (mask[:, :-1] > 0)
    return bool(back.any())
