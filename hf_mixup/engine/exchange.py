"""Trying, once, whether a method mixes all content of a sample in a model: by the exchange of two samples.

With lam = 0 a sample must have its partner's outputs and its partner's loss, with lam = 1 its own. Where part of a
sample stays behind (a text beside blended pixels, the ids that a head reads), the labels would be mixed and the content
would not: that is refused. So is content that is exchanged twice (where it enters, and where it is looked up), which
shows only where both samples are the other one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from hf_mixup.engine.all_gather import first_with, run_together, shared_from
from hf_mixup.engine.refusals import NotExactError
from hf_mixup.models.batches import count_samples
from hf_mixup.models.exchange import TOLERANCE, relative_error
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.labels import at_labels
from hf_mixup.models.losses import loss_items, mixed_loss_sum
from hf_mixup.models.outputs import logits_of
from hf_mixup.models.probe import contrasting_samples, eval_without_side_effects, full_pair
from hf_mixup.models.segmentation import at_pixels, auxiliary_logits, capture_auxiliary_logits
from hf_mixup.models.streams import forget_entries
from hf_mixup.models.trace import pick_of_two

if TYPE_CHECKING:
    from hf_mixup.methods.base import Draw, Method, Request, Term

DECIDE = ("keys", "swap_keys", "modules", "attention_mask_mode", "by")  # settings that say what a method mixes
AUXILIARY = "auxiliary_logits"
PLACE = TOLERANCE / 10  # how far a sample's place in its batch may move its outputs, as a share like `TOLERANCE`
LOOKS = 8  # batches in which an entry that was alike in all samples is looked at again


@dataclass
class Seen:
    """What is known of batches with one set of inputs.

    Args:
        alike: inputs in which the two samples that were tried did not differ, so that nothing was shown of them.
        looks: in how many more batches these are looked at.
        methods: those that were tried.
        exact: methods and depths that have passed.
    """

    alike: set[str]
    looks: int = LOOKS
    methods: set[str] = field(default_factory=set)
    exact: set[Any] = field(default_factory=set)


def check_exchange_once(request: Request, method: Method, trial_of: Callable[..., Trial] | None = None) -> None:
    """Exchange two samples of a batch, at the first batch with these inputs: by every method that may be drawn.

    All depths that may be drawn are tried together, so that several processes do the same whatever each has drawn.
    Costs a forward pass over two samples in evaluation mode, and one more for each method or depth; random state and
    every module's mode stay as they were. Of a method's default depths those that are not exact are left out from then
    on, with a warning.

    Args:
        trial_of: makes a `Trial` of a request and the inputs that a method keeps; None for `Trial` itself.

    Raises:
        NotExactError: if the outputs or the loss are not those of the exchanged samples, naming what stayed behind.
        RuntimeError: if the model cannot be run on two samples of the batch.
    """
    trial_of = trial_of or Trial
    if run_together(request.model):
        return _check_together(request, method, trial_of)
    if _can_be_tried(request):
        known = _seen_by(request.model).get(trial_of(request).kind)
        _check_exchange(request, method, trial_of, known is None or _tells_more(known, request.batch))


def _check_together(request: Request, method: Method, trial_of: Callable[..., Trial]) -> None:
    """Try what one of the processes has to try in all of them, on its samples: all run the model equally often."""
    device = next(request.model.parameters()).device
    known = _seen_by(request.model).get(trial_of(request).kind)
    new = known is None or _tells_more(known, request.batch)
    wanted = _can_be_tried(request) and (known is None or new or repr(method) not in known.methods)
    source = first_with(wanted, device)
    if source is None:
        return
    held = send_to_device((dict(request.batch), request.labels), "cpu"), trial_of, new
    (batch, labels), trial_of, new = shared_from(source, held)
    batch, labels = send_to_device((batch, labels), device)
    request = replace(request, batch=batch, labels=labels, partner=None, lam=None)
    _check_exchange(request, method, trial_of, new)
    known = _seen_by(request.model).get(trial_of(request).kind)
    if known is not None:
        known.methods.add(repr(method))


def _can_be_tried(request: Request) -> bool:
    """Whether a batch has two samples: one alone is mixed with nothing, and compared embeddings go through no model."""
    return request.rows > 1 and any(isinstance(value, Tensor) for value in request.batch.values())


def _seen_by(model: nn.Module) -> dict[Any, Seen]:
    return hooks_of(model).cache.setdefault("exchanged", {})


def _check_exchange(request: Request, method: Method, trial_of: Callable[..., Trial], new: bool) -> None:
    """Try two samples of a batch.

    Args:
        new: whether it shows something that was not seen before, beside a method that was not tried.
    """
    model, seen, trial = request.model, _seen_by(request.model), trial_of(request)
    kind = trial.kind
    known, looks = seen.get(kind), LOOKS
    if known is None:
        if _is_flattened(model):
            return _warn_untried(model, seen)
        _run_first(trial, method)
    elif new:
        forget_entries(model)  # what was chosen where the samples were alike
        looks, known = known.looks, None  # as some entries are alike in all that can be exchanged, such as grids
    if known is None:
        known = Seen(trial.alike, looks)
        if len(known.alike) < len(trial.content):  # else the samples are all alike, and show nothing
            seen[kind] = known
    for each in method.choices() if kind in seen else ():
        if each.exchanges:
            _check(trial_of(request, each.keeps) if each.keeps else trial, each, known.exact)


def _is_flattened(model: nn.Module) -> bool:
    """Whether the first FSDP of torch holds the weights, without which no part of the model can be run by itself."""
    return any(type(each).__name__ == "FlatParameter" for each in model.parameters())


def _warn_untried(model: nn.Module, seen: dict[Any, Seen]) -> None:
    if seen:
        return
    seen["flattened"] = Seen(set())
    warnings.warn(
        f"{type(model).__name__} is wrapped by the first version of FSDP, so that mixing cannot be tried on it before "
        "the first step: use fsdp_version: 2, or try the method on one device first (hf-mixup check)",
        UserWarning,
        stacklevel=2,
    )


def _run_first(trial: Trial, method: Method) -> None:
    """Run the model plainly before anything looks into it: what it cannot take is to be said in plain words.

    Raises:
        RuntimeError: if it cannot be run.
        ValueError, TypeError: what a method says of the batch itself, which is nearer to the point.
    """
    try:
        _ = trial.plain
    except RuntimeError:
        for each in method.choices() if trial.of_all is None else ():
            if not each.enters(trial.model, trial.request.batch):
                with suppress(RuntimeError):
                    each.apply(trial.model, trial.request.batch, each.draw(trial.request), False)
        raise


def _tells_more(known: Seen, inputs: Mapping[str, Any]) -> bool:
    """Whether samples differ now in an input that was alike when they were tried."""
    if not known.alike or not known.looks:
        return False
    known.looks -= 1
    return any(bool((inputs[key] != inputs[key][:1]).any()) for key in known.alike)


def _check(trial: Trial, method: Method, exact: set[Any]) -> None:
    kind = (method.name, *(str(getattr(method, name, None)) for name in DECIDE))
    new = [depth for depth in trial.depths(method) if (kind, depth) not in exact]
    if not new:
        return
    misses = {depth: _miss(trial, method, depth) for depth in new}
    leaks = [depth for depth, miss in misses.items() if miss is not None]
    if leaks and (len(leaks) == len(new) or not method.chooses_depths):
        _refuse(trial, method, leaks[0], misses[leaks[0]])
    if leaks:
        found = hooks_of(trial.model).cache
        found["leaks"] = {*found.get("leaks", ()), *leaks}
        _warn_of(trial.model, method, leaks, [depth for depth in new if depth not in leaks])
    exact.update((kind, depth) for depth in new if depth not in leaks)


def _miss(trial: Trial, method: Method, depth: int | None) -> str | None:
    try:
        return trial.miss(method, depth)
    except (ValueError, TypeError):  # the method refuses the samples: it is to do so of the batch, in its numbers
        request = trial.request
        method.apply(request.model, request.batch, method.draw(request).to(trial.device), False)
        hooks_of(request.model).forget()
        raise


def _warn_of(model: nn.Module, method: Method, leaks: list[Any], exact: list[Any]) -> None:
    warnings.warn(
        f"method {method.name!r} mixes in {type(model).__name__} at depths {sorted(exact)} only: at its other default "
        f"depths, {sorted(leaks)}, part of the model goes past the place where rows are mixed",
        UserWarning,
        stacklevel=2,
    )


def _refuse(trial: Trial, method: Method, depth: int | None, miss: str | None) -> None:
    where = "" if depth is None else f" at depth {depth}"
    raise NotExactError(
        f"{type(trial.model).__name__} does not mix rightly with method {method.name!r}{where}: {miss}",
        method.name,
        ", or other layers" if depth is not None and not method.chooses_depths else "",
    )


class Trial:
    """Two samples of a batch, what a model makes of them, and what it makes of them exchanged.

    Args:
        request: the batch to take them from.
        keeps: inputs in which they are not to differ.
    """

    def __init__(self, request: Request, keeps: tuple[str, ...] = ()) -> None:
        self.request, self.model, self._keeps = request, request.model, keeps

    @property
    def kind(self) -> frozenset[Any]:
        """What tells batches apart that are tried by themselves: the inputs and their dimensions."""
        return frozenset((key, each.dim()) for key, each in self.request.batch.items() if isinstance(each, Tensor))

    @cached_property
    def rows(self) -> dict[str, Any]:
        """The two samples, with other content in each."""
        rows = full_pair(self.request.batch, self.model)
        return {**rows, **{key: rows[key][[0, 0]] for key in self._keeps if key in rows}}

    @cached_property
    def labels(self) -> Tensor | None:
        """Their labels; None where the batch has not one for each sample."""
        labels = self.request.labels
        if len(labels) != count_samples(self.request.batch) or self.request.boxes:
            return None
        return labels[contrasting_samples(self.request.batch).to(labels.device)]

    @cached_property
    def plain(self) -> Any:
        """The model's outputs for the two samples as they are.

        Raises:
            RuntimeError: if it cannot be run on them alone.
        """
        try:
            with eval_without_side_effects(self.model):
                return self._run(self.rows)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError) as error:
            raise RuntimeError(self._why_not(error)) from error

    @cached_property
    def moved(self) -> Any:
        """The model's outputs for the two samples in each other's place."""
        return self._run(pick_of_two(self.rows, [1, 0]))

    def _run(self, inputs: Mapping[str, Any]) -> Any:
        """Return the model's outputs, and beside them the logits of an auxiliary head, which its loss reads alone."""
        capture_auxiliary_logits(self.model)
        outputs, auxiliary = self.model(**inputs), auxiliary_logits(self.model)
        return outputs if auxiliary is None else {**outputs, AUXILIARY: auxiliary}

    def _why_not(self, error: Exception) -> str:
        """Return what to say of a batch of which two samples cannot be run."""
        inputs, name, key = self.request.batch, type(self.model).__name__, self.of_all
        if key is not None:
            return (
                f"{key} {list(inputs[key].shape)} of the batch for {name} holds the content of all {self.request.rows} "
                "samples in one tensor (patches, or several images a sample), so that no sample can be exchanged for "
                "another: such models are not mixed. Train it without mixing (prob=0)"
            )
        return (
            f"{name} cannot be run on two samples of the batch ({', '.join(inputs)}), so that mixing cannot be tried "
            f"on it: {error}. Train it without mixing (prob=0), or set self_check=False at your own risk"
        )

    @property
    def of_all(self) -> str | None:
        """The name of an input that holds the parts of all samples in one row, None where there is none."""
        return next(
            (
                key
                for key, value in self.request.batch.items()
                if isinstance(value, Tensor)
                and value.is_floating_point()
                and value.dim() > 1
                and len(value) > self.request.rows
            ),
            None,
        )

    @property
    def alike(self) -> set[str]:
        """The inputs in which the two samples do not differ."""
        return {key for key in self.content if torch.equal(self.rows[key][0], self.rows[key][1])}

    @property
    def content(self) -> list[str]:
        """The inputs that hold something of each sample; of masks the mixed ones are the method's affair."""
        return [
            key
            for key, value in self.rows.items()
            if isinstance(value, Tensor) and value.dim() and len(value) == 2 and "mask" not in key
        ]

    def depths(self, method: Method) -> list[int | None]:
        """Return the depths at which a method may enter the model; [None] for one that has none."""
        inputs = self.request.batch
        return method.depths(self.model, inputs) if method.enters(self.model, inputs) else [None]

    def miss(self, method: Method, depth: int | None) -> str | None:
        """Return what is wrong with the first sample where it is the second one in full, None if it is right."""
        inside = method.enters(self.model, self.request.batch)
        with eval_without_side_effects(self.model):
            draw, inputs, stayed = self._entered(method, depth) if inside else self._given(method)
            if inputs is None:
                return "it leaves all inputs as they are and mixes the labels"
            outputs = self._run(inputs)
            hooks_of(self.model).forget()
            error = self._error(outputs, (1, 1))
            wrong = self._wrong_loss(method, draw, outputs) if error < TOLERANCE else None
            if inside and error < TOLERANCE:
                _, inputs, _ = self._entered(method, depth, lam=(0.0, 0.0))
                outputs = self._run(inputs)
                error = self._error(outputs, (1, 0))
                hooks_of(self.model).forget()
                wrong = wrong or self._misplaced(outputs)
            if error < TOLERANCE:
                return wrong
        by = f"with lam = 0 its outputs miss the partner's by {error:.0%} of the difference between the samples"
        kept = f", for it leaves {', '.join(stayed)} as they are and mixes the labels" if stayed else ""
        return by + (kept or ", for part of the model goes past the place where samples are mixed")

    def _entered(
        self, method: Method, depth: int | None, lam: tuple[float, float] = (0.0, 1.0)
    ) -> tuple[Draw, dict[str, Any], list[str]]:
        """Return the draw, and the inputs for a model whose hooks exchange one of the two samples, or both."""
        draw = method.draw_given(torch.tensor([1, 0]), torch.tensor(lam), depth).to(self.device)
        return draw, method.apply(self.model, self.rows, draw, False), []

    def _given(self, method: Method) -> tuple[Draw, dict[str, Any] | None, list[str]]:
        """Return the parameters, the inputs with all that a method changes exchanged whole, and those that it leaves.

        A method may not reach lam = 0 (a span of tokens, a mosaic). What it changes at all has to be the whole content.
        """
        draw = self._drawn(method)
        mixed = method.apply(self.model, self.rows, draw, False)
        hooks_of(self.model).forget()
        places = method.changed_places(draw)
        first = 0 if places is None else int(places[0])
        changed = [key for key, value in self.rows.items() if _differs(value, mixed.get(key), first)]
        stayed = [key for key in self.content if key not in changed and key not in self.alike]
        if not changed:
            return draw, None, stayed
        return draw, {**self.rows, **{key: self.rows[key][[1, 1]] for key in changed}}, stayed

    def _drawn(self, method: Method) -> Draw:
        labels = self.request.labels[:2] if self.labels is None else self.labels
        asked = replace(
            self.request,
            batch=self.rows,
            labels=labels,
            prob=1.0,
            rng=torch.Generator().manual_seed(0),
            partner=torch.tensor([1, 0]),
            lam=torch.tensor([0.0, 1.0]),
        )
        with torch.enable_grad():  # some look at the gradient before they cut
            return method.draw(asked).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the batch lies."""
        return next(value for value in self.request.batch.values() if isinstance(value, Tensor)).device

    def _misplaced(self, exchanged: Any) -> str | None:
        """Return what is wrong with two samples that a method has exchanged, if it moves what belongs to their places.

        Some models count (images, say) through the whole batch, so that a sample scores a little differently in another
        place. What was computed there has to be the same as for the other sample in this place.
        """
        if not _scores(self.plain):
            return None
        by = self._error(self.moved, (1, 0))
        return misplaced(by) if min(by, self._error(exchanged, (0, 1), self.moved)) > PLACE else None

    def _error(self, outputs: Any, which: tuple[int, int], plain: Any = None) -> float:
        """Return how far the outputs are from those of these samples.

        Args:
            plain: the outputs to take those from, by default of the two samples as they are.
        """
        wanted = _scores(self.plain if plain is None else plain)
        if not wanted:  # a model that forecasts: the loss is what it says of a sample
            return self._loss_error(outputs, which)
        errors = []
        for name, expected in wanted.items():
            found = _scores(outputs).get(name)
            if found is None or found.shape != expected.shape:
                return float("inf")
            found, expected = (self._visible(each.double()) for each in (found, expected))
            errors.append(relative_error(self.model, found, expected[list(which)], expected))
        return max(errors)

    def _visible(self, scores: Tensor) -> Tensor:
        """Return scores with 0 in the places of padding, if there is one for each token."""
        mask = self.rows.get("attention_mask")
        if scores.dim() == 3 and isinstance(mask, Tensor) and mask.shape == scores.shape[:2]:
            return scores * mask.bool()[..., None]
        return scores

    def _loss_error(self, outputs: Any, which: tuple[int, int]) -> float:
        plain = {
            each: self.model(**pick_of_two(self.rows, each))["loss"].double()
            for each in dict.fromkeys(((0, 0), (1, 1), which))
        }
        one, two, wanted = plain[0, 0], plain[1, 1], plain[which]
        return relative_error(self.model, outputs["loss"].double(), wanted, torch.stack([one, two]))

    def _wrong_loss(self, method: Method, draw: Draw, outputs: Any) -> str | None:
        """Return what is wrong with the loss of labels that are the second sample's in full, None if nothing is."""
        labels, kind = self.labels, self.request.kind
        exchanged = torch.equal(draw.lam.cpu(), torch.tensor([0.0, 1.0])) and not draw.open
        if labels is None or method.own_loss or not exchanged or not _scores(self.plain) or not labels.numel():
            return None
        if kind == "transcription":
            return None  # the model scores these, by the lengths of what is mixed
        logits, plain = (self._placed(logits_of(each)) for each in (outputs, self.plain))
        if logits.shape[:-1] != labels.shape and kind == "single_label_classification":
            return None  # the loss itself will say that these do not fit
        found = sum(term.share * _sum(term, kind) for term in method.terms(logits, labels, draw))
        each = [
            mixed_loss_sum(plain[row], labels[row], labels[row], plain.new_ones(2, dtype=torch.float32), kind)
            for row in ([0, 0], [1, 1])
        ]
        of = loss_items(labels[[1, 1]], kind).clamp(min=1)
        miss = relative_error(
            self.model, torch.as_tensor(found).double() / of, each[1].double() / of, torch.stack(each) / of
        )
        if miss < TOLERANCE:
            return None
        return (
            f"with lam = 0 its loss misses the partner's by {miss:.0%} of the difference between the samples, for its "
            "labels do not become the partner's"
        )

    def _placed(self, logits: Tensor) -> Tensor:
        labels = self.labels
        if labels is None or labels.is_floating_point():
            return logits
        return at_pixels(self.model, logits, labels) if labels.dim() == 3 else at_labels(self.model, logits, labels)


def misplaced(by: float) -> str:
    """Say that a model's outputs depend on the place of a sample in its batch, by a share of what two samples differ.

    >>> misplaced(0.004)[:75]
    "a sample's place in the batch changes what the model makes of it (by 0.4% o"
    """
    return (
        f"a sample's place in the batch changes what the model makes of it (by {by:.1%} of the difference between the "
        "samples), and the hidden states of its partner are of another place"
    )


def _sum(term: Term, kind: Any) -> Tensor:
    return mixed_loss_sum(term.logits, term.labels, term.others, term.lam, kind, further=term.further)


def _scores(outputs: Any) -> dict[str, Tensor]:
    """Return what a model says of each sample, by name; nothing for one that only forecasts."""
    try:
        found = {"logits": logits_of(outputs)}
    except ValueError:
        if isinstance(outputs, Mapping) and isinstance(outputs.get("loss"), Tensor):
            return {}
        raise
    places = ("pred_boxes", "pred_masks", "masks_queries_logits", AUXILIARY) if isinstance(outputs, Mapping) else ()
    return {**found, **{name: outputs[name] for name in places if isinstance(outputs.get(name), Tensor)}}


def _differs(before: Any, after: Any, first: int) -> bool:
    """Whether a method changed the first sample's part of an input; where it lies in what was made of it."""
    if not isinstance(before, Tensor) or not isinstance(after, Tensor) or before is after or not before.dim():
        return False
    if len(before) != 2 or len(after) <= first:
        return False
    return after[first].shape != before[0].shape or not torch.equal(after[first].to(before.dtype), before[0])
