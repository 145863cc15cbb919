"""Trying a method on two samples where the model's own loss is taken: that loss tells, no scores are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hf_mixup.engine.trial import PLACE, Trial, misplaced
from hf_mixup.methods.base import Draw, Method, Request
from hf_mixup.models.adapters import base_model
from hf_mixup.models.batches import count_samples, pick_pair
from hf_mixup.models.exchange import TOLERANCE, relative_error
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.label_entries import labels_at
from hf_mixup.models.labels_given import labels_given
from hf_mixup.models.outputs import loss_of, said_of
from hf_mixup.models.probe import contrasting_samples, eval_without_side_effects
from hf_mixup.models.streams import forget_entries
from hf_mixup.models.trace import pick_of_two
from hf_mixup.utils.random_state import RandomState

LOSS = "loss"
NEEDS = "needs labels"  # its key in the cache
Found = TypeVar("Found")


class OwnTrial(Trial):
    """Two samples of a batch, and the loss that a model has for them with the labels of either.

    Args:
        request, keeps: see `Trial`.
        labels: the entries that hold the batch's labels.
    """

    def __init__(self, request: Request, keeps: tuple[str, ...] = (), *, labels: Mapping[str, Any]) -> None:
        super().__init__(request, keeps)
        self._labels, self._random = labels, RandomState(request.model)

    @cached_property
    def kind(self) -> frozenset[Any]:
        return super().kind | {("own loss", key) for key in self._labels}

    @cached_property
    def own(self) -> dict[str, Any]:
        """The labels of the two samples."""
        return labels_at(self._labels, contrasting_samples(self.request.batch))

    def _run(self, inputs: Mapping[str, Any]) -> Any:
        return self.model(**{**inputs, **self.own})

    def depths(self, method: Method) -> list[int | None]:
        """Return the depths at which a method may enter the model, see `Trial.depths`.

        Raises:
            RuntimeError: if the model cannot be looked into.
        """
        return self._looking_inside(method, super().depths, method)

    def _entered(
        self, method: Method, depth: int | None, lam: tuple[float, float] = (0.0, 1.0)
    ) -> tuple[Draw, dict[str, Any], list[str]]:
        return self._looking_inside(method, super()._entered, method, depth, lam)

    def _looking_inside(self, method: Method, look: Callable[..., Found], *given: Any) -> Found:
        """Return what `look` finds: with a label, if the model does not run without one."""
        try:
            with labels_if_needed(self.model, lambda: self.own):
                return look(*given)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            if needs_labels(self.model) or self._runs_without_labels():
                raise
            reason = error
        hooks_of(self.model).cache[NEEDS] = True
        forget_entries(self.model)
        try:
            with labels_if_needed(self.model, lambda: self.own):
                return look(*given)
        except (RuntimeError, ValueError, TypeError, AttributeError):
            raise RuntimeError(
                f"{type(self.model).__name__} does not run without {', '.join(self.own)}, so that method "
                f"{method.name!r} does not find where to mix in it: {reason}. Train it without mixing (prob=0)"
            ) from reason

    def unsteady(self) -> None:
        """Return None: the loss is compared on the same random numbers."""

    def _runs_without_labels(self) -> bool:
        try:
            with eval_without_side_effects(self.model):
                self.model(**self.rows)
        except (RuntimeError, ValueError, TypeError, AttributeError):
            return False
        return True

    def miss(self, method: Method, depth: int | None) -> str | None:
        """Return what is wrong with a sample that is the other one in full, None if its loss and scores are right.

        The first sample is made the second: with either label for both, the loss has to be that of the second sample
        twice. A method that enters the model is then asked for the exchange of both, with the labels exchanged, for
        a decoder may read the labels.
        """
        inside = method.enters(self.model, self.request.batch)
        with eval_without_side_effects(self.model):
            _, inputs, stayed = self._entered(method, depth) if inside else self._given(method)
            if inputs is None:
                return "it leaves all inputs as they are and mixes the labels"
            error = max(self._miss_of(inputs, label) for label in (0, 1))
            hooks_of(self.model).forget()
            by = 0.0
            if inside and error < TOLERANCE:
                error, by = self._miss_of_both(method, depth)
        if error < TOLERANCE:
            return misplaced(by) if by > PLACE else None
        kept = f", for it leaves {', '.join(stayed)} as they are and mixes the labels" if stayed else ""
        return (
            f"with lam = 0 the model's own loss misses the partner's by {error:.0%} of the difference between the "
            f"samples{kept or ', for part of the model goes past the place where samples are mixed'}"
        )

    def _miss_of(self, inputs: Mapping[str, Any], label: int) -> float:
        """Return how far the loss, and what the head says, of two samples that are both the second one is from that."""
        labels = [label, label]
        found = self._said(inputs, labels)
        one, two = (self._said(pick_of_two(self.rows, each), labels) for each in ([0, 0], [1, 1]))
        return max(self._far(found.get(name), two[name], one[name]) for name in two)

    def _miss_of_both(self, method: Method, depth: int | None) -> tuple[float, float]:
        """Return how far the loss of exchanged samples is from that of samples that have changed their places.

        And how far a sample's place moves what the head says of it, 0 where exchanged samples are as in their own; see
        `Trial._misplaced`.
        """
        _, inputs, _ = self._entered(method, depth, lam=(0.0, 0.0))
        found = self._said(inputs, [1, 0])
        hooks_of(self.model).forget()
        rows = pick_of_two(self.rows, [1, 0])
        own, moved, crossed = self._said(self.rows, [0, 1]), self._said(rows, [1, 0]), self._said(rows, [0, 1])[LOSS]

        def far(said: Mapping[str, Tensor], which: list[int]) -> float:
            pairs = [(said[name][which], moved[name]) for name in moved if name != LOSS and name in said]
            return max((self._far(one, other, other.flip(0)) for one, other in pairs), default=0.0)

        return self._far(found[LOSS], moved[LOSS], crossed), min(far(own, [1, 0]), far(found, [0, 1]))

    def _said(self, inputs: Mapping[str, Any], which: list[int]) -> dict[str, Tensor]:
        """Return the loss of two samples with these labels, and what the head says of each sample, by name."""
        hooks_of(self.model).again()
        with self._random.again():
            outputs = self.model(**{**inputs, **labels_at(self.own, torch.tensor(which))})
        loss = loss_of(outputs)
        if loss is None:
            raise ValueError(f"{type(self.model).__name__} returned no loss for {', '.join(self.own)}")
        said = {name: self._visible(each.double()) for name, each in said_of(outputs, 2).items()}
        return {**said, LOSS: loss.double().reshape(())}

    def _far(self, found: Tensor | None, expected: Tensor, other: Tensor) -> float:
        """Return how far an output is from the expected one, as a share of the difference from the other sample's."""
        if found is None or found.shape != expected.shape:
            return float("inf")
        if not bool(torch.isfinite(expected).all()):  # no label counts, or the head masks: nothing is shown
            return 0.0 if not bool(torch.isfinite(found).all()) else float("inf")
        return relative_error(self.model, found, expected, torch.stack([expected, other]))


def needs_labels(model: nn.Module) -> bool:
    """Whether it has been found that a model does not run without labels."""
    return bool(hooks_of(model).cache.get(NEEDS))


def labels_if_needed(model: nn.Module, labels: Callable[[], Mapping[str, Any]]) -> AbstractContextManager[None]:
    """Give a model labels while it is looked into, if it does not run without; see `labels_given`.

    Args:
        labels: makes them, which may have to ask the device whose they are.
    """
    return labels_given(model, labels()) if needs_labels(model) else nullcontext()


class SetTrial(OwnTrial):
    """Two samples with sets of masks or boxes: the loss tells, for it also scores what a model says on its way.

    Some models say that in training only, which their outermost module decides. It alone is put into training mode:
    layers below it would drop and normalise. A model whose parts have to agree on the mode stays in evaluation.
    """

    def _said(self, inputs: Mapping[str, Any], which: list[int]) -> dict[str, Tensor]:
        base_model(self.model).training = self._speaks_in_training
        return super()._said(inputs, which)

    @cached_property
    def _speaks_in_training(self) -> bool:
        outermost = base_model(self.model)
        outermost.training = True
        try:
            with self._random.again():
                self._run(self.rows)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError):
            return False
        finally:
            outermost.training = False
        return True


def labels_besides(model: nn.Module, inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> list[str]:
    """Return the names of integers [B] among the inputs that are labels, too: they change the loss and nothing else.

    Heads for pretraining have some whose names do not say so. Each is tried once, on two samples that differ in it.
    """
    hooks, count = hooks_of(model), count_samples(inputs)
    known: dict[str, bool] = hooks.cache.setdefault("labels besides", {})
    for key, value in inputs.items():
        if key in known or not isinstance(value, Tensor) or value.shape != (count,) or value.is_floating_point():
            continue
        others = _others(key, inputs)
        if len(others):
            known[key] = _changes_the_loss_alone(model, inputs, labels, key, torch.tensor([0, int(others[0])]))
        hooks.open["label besides", key] = partial(_tells_label, known, key)
    return [key for key in inputs if known.get(key)]


def _tells_label(known: Mapping[str, bool], key: str, model: nn.Module, batch: Mapping[str, Any]) -> bool:
    """Whether a batch can show if an input of which it is not known is a label."""
    return key not in known and len(_others(key, batch)) > 0


def _others(key: str, inputs: Mapping[str, Any]) -> Tensor:
    """Return the samples whose integer [B] is another than the first sample's, long; none where no sample has one."""
    value = inputs.get(key)
    if not isinstance(value, Tensor) or value.dim() != 1:
        return torch.zeros(0, dtype=torch.long)
    return (value != value[0]).nonzero().flatten()


def _changes_the_loss_alone(
    model: nn.Module, inputs: Mapping[str, Any], labels: Mapping[str, Any], key: str, which: Tensor
) -> bool:
    rows, random = {**pick_pair(inputs, count_samples(inputs), which), **labels_at(labels, which)}, RandomState(model)
    found = []
    try:
        with eval_without_side_effects(model):
            for each in (rows, {**rows, key: rows[key].flip(0)}):
                with random.again():
                    found.append(model(**each))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False  # the exchange test will say what is the matter
    (one, other), (before, after) = (said_of(each, 2) for each in found), (loss_of(each) for each in found)
    alike = one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    return alike and before is not None and after is not None and not torch.equal(before, after)
