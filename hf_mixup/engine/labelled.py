"""The mixed batch of a model with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.batch import MixedBatch, refuse_packed
from hf_mixup.engine.context import Context, Requested
from hf_mixup.functional.blending import expand_like
from hf_mixup.methods import Draw, Method
from hf_mixup.methods._segmentation import refuse_for_maps
from hf_mixup.methods.base import Term
from hf_mixup.methods.capabilities import SettlesLater
from hf_mixup.models.inputs import model_inputs
from hf_mixup.models.labels import Labels, check_labels, dense_targets
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
from hf_mixup.models.outputs import loss_of
from hf_mixup.models.segmentation import at_pixels, capture_auxiliary_logits, scored_parts
from hf_mixup.utils.constants import IGNORE_INDEX


class LabelBatch(MixedBatch):
    """A mixed batch whose rows have labels: of rows, tokens or pixels, spans, language models, regression.

    Attributes:
        labels: the labels as the loss reads them, see `hf_mixup.models.labels.Labels`.
        masses: what the rows' own labels, those of the partners and any further ones weigh in the whole accumulated
            batch, floats [2 + K]; None where only this batch's own are known.
        permuted: whether each sample is partner once, so that the partners' labels are those of the batch.
    """

    def __init__(
        self,
        context: Context,
        model: nn.Module,
        inputs: dict[str, Any],
        labels: Labels,
        draw: Draw,
        inplace: bool,
    ) -> None:
        self.permuted = _permutes(context.method.chosen(draw), draw)  # while the parameters are on the CPU
        super().__init__(context, model, inputs, labels.values, draw, inplace)
        self._read, self.kind = labels, labels.kind
        self._scored: Term | None = None
        self.masses: Tensor | None = None

    def __enter__(self) -> LabelBatch:
        super().__enter__()
        if self._read.pixels:
            capture_auxiliary_logits(self._model)
        return self

    @classmethod
    def matches(cls, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Return True: any batch that no other type claims is treated as labelled."""
        return True

    @classmethod
    def build(cls, context: Context, model: nn.Module, batch: Mapping[str, Any], requested: Requested) -> LabelBatch:
        """Read the labels as the model's own loss would, and draw; see `MixedBatch.build`.

        Raises:
            ValueError: for packed sequences, labels outside the classes, or a method without a rule for these labels.
        """
        refuse_packed(batch)
        context.check_loss(model, batch)
        labels = context.read_labels(model, batch)
        if labels.values.device.type == "cpu":  # elsewhere it would stall the device; the collator has checked
            check_labels(labels.values, labels.classes, labels.kind)
        inputs = model_inputs(model, batch, labels)
        if labels.pixels:
            refuse_for_maps(context.method, model)
        draw = context.draw(model, inputs, labels.values, requested, labels.kind)
        return cls(context, model, inputs, labels, draw, requested.inplace)

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
        smoothing = self._context.config.losses.label_smoothing
        further = self._method.further_labels(self.labels, self.draw)
        return dense_targets(self.labels, self.others, self.label_lam, self.classes, self.kind, smoothing, further)

    @property
    def further_rows(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """The samples that are mixed in beside the partner, and the weight of each."""
        return self._method.further_rows(self.draw)

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
            RuntimeError: if the model never passed the hook where it should have blended, or ran on other inputs.
        """
        self._refuse_unmixed()
        self._refuse_clean(outputs)
        parts = scored_parts(self._model, outputs, self._read)
        self._logits = parts[0][0]
        if self.draw.open and isinstance(self._method, SettlesLater):
            self.draw = self._method.settle(self._logits, self.labels, self.draw)
            self.partner, self.lam = self.draw.partner, self.draw.lam
        total = self._loss_sum(parts)
        self.items = self._weigh(self.labels)
        auxiliary = auxiliary_loss(self._model, outputs)  # a mean, of which this batch has its share
        if num_items_in_batch is None:
            loss = mean_of(total, self.items)
            loss = loss + auxiliary if isinstance(auxiliary, Tensor) else loss
        else:
            total = total + auxiliary * self.items if isinstance(auxiliary, Tensor) else total
            loss = mean_of(total, num_items_in_batch)
        return self._context.watch.follow(loss)

    def _refuse_clean(self, outputs: Any) -> None:
        """Refuse outputs with a loss of the model's own: it has seen labels, which `inputs` do not have."""
        own = loss_of(outputs) if self.rate and isinstance(outputs, Mapping) else None
        if own is not None and own.requires_grad:
            raise RuntimeError(
                f"{type(self._model).__name__} was run on a batch with labels, which is not the mixed one: run "
                "model(**mixed.inputs), and take mixed.loss(outputs) of what that returns"
            )

    def _loss_sum(self, parts: Sequence[tuple[Tensor, float]]) -> Tensor:
        """Return the summed loss, 0-d: the teacher's share of the first part, and the labels' share of each part.

        Args:
            parts: logits and the weight of each, see `scored_parts`.
        """
        losses = self._context.config.losses
        weights = self._context.class_weights_on(parts[0][0].device)
        taught, balance = losses.distill_weight or 0.0, self._balance()
        sums: list[Tensor] = []
        for logits, share in parts:
            terms = self._method.terms(logits, self.labels, self.draw)
            if logits is self._logits:
                self._scored = terms[0]
                if taught:
                    sums.append(taught * self._distilled_sum(terms, weights, balance))
            for term in terms if taught < 1 else ():
                loss = mixed_loss_sum(
                    term.logits,
                    term.labels,
                    term.others,
                    term.lam,
                    self.kind,
                    smoothing=losses.label_smoothing,
                    class_weights=weights,
                    bce=losses.loss == "bce",
                    further=term.further,
                    balance=balance,
                )
                factor = (1 - taught) * share * term.share
                sums.append(loss if factor == 1 else factor * loss)
        return reduce(torch.add, sums)

    @property
    def weighted(self) -> bool:
        """Whether labels count by the weight of their class."""
        return self._context.class_weights is not None

    def own_masses(self) -> Tensor:
        """Return what the rows' own labels, those of the partners and any further ones weigh, floats [2 + K]."""
        further = [labels for labels, _ in self._method.further_labels(self.labels, self.draw)]
        return torch.stack([self._weigh(each).float() for each in (self.labels, self.others, *further)])

    def _weigh(self, labels: Tensor) -> Tensor:
        classes = self._read.classes if self._logits is None else self.classes
        if labels is self.labels and classes == self._read.classes:
            return self._context.count_items(self._read)
        return self._context.count_items(replace(self._read, values=labels, classes=classes))

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
        losses, method, teacher = self._context.config.losses, self._method, self._context.teacher
        if teacher is None or self._logits is None:
            raise RuntimeError("distillation needs a teacher and the model's logits")
        inside, bce = method.enters(self._model, self._clean), losses.loss == "bce"
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
            target = soft_scores(taught.logits, losses.distill_temperature, self.kind, bce)
            if inside:
                share = expand_like(own / mass.clamp(min=1e-12), target)
                target = share * target + (1 - share) * target[self.partner]
            distance = distilled_loss_sum(term.logits, target, mass, losses.distill_temperature, self.kind, bce)
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
        sides = weighed_labels(term.labels, term.others, term.lam, term.further)
        labels = torch.stack([each for each, _ in sides])
        share = torch.stack(torch.broadcast_tensors(*(expand_like(weight, term.labels) for _, weight in sides)))
        found, mass = (share * (predicted == labels)).sum(), (share * (labels != IGNORE_INDEX)).sum()
        return found / mass.clamp(min=1e-12)


def _permutes(method: Method, draw: Draw) -> bool:
    """Whether each row is partner once, so that the partners' labels are those of the batch."""
    partners = [draw.partner, *(rows for rows, _ in method.further_rows(draw))]
    return all(len(set(each.tolist())) == len(each) for each in partners)
