"""Two samples of a batch, and what a model makes of them as they are and exchanged; when to try, see `exchange`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from math import isnan
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hf_mixup.models.batches import count_samples
from hf_mixup.models.exchange import TOLERANCE, relative_error
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.label_entries import labels_needed
from hf_mixup.models.labels import OWN_WAY, at_labels
from hf_mixup.models.losses import loss_items, mixed_loss_sum
from hf_mixup.models.outputs import logits_of
from hf_mixup.models.probe import contrasting_samples, eval_without_side_effects, full_pair
from hf_mixup.models.segmentation import at_pixels, auxiliary_logits, capture_auxiliary_logits
from hf_mixup.models.trace import pick_of_two

if TYPE_CHECKING:
    from hf_mixup.methods.base import Draw, Method, Request, Term

AUXILIARY = "auxiliary_logits"
PLACE = TOLERANCE / 10  # how far a sample's place in its batch may move its outputs, as a share like `TOLERANCE`


class Trial:
    """Two samples of a batch, what a model makes of them, and what it makes of them exchanged.

    Args:
        request: the batch to take them from.
        keeps: inputs in which they are not to differ.
    """

    def __init__(self, request: Request, keeps: tuple[str, ...] = ()) -> None:
        self.request, self.model, self._keeps = request, request.model, keeps

    @cached_property
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
        needed = labels_needed(self.model) - inputs.keys()
        if needed:
            return (
                f"{name}.forward cannot do without {', '.join(sorted(needed))}, which is withheld in mixed training: "
                f"give it the default None. {OWN_WAY}"
            )
        return (
            f"{name} cannot be run on two samples of the batch ({', '.join(inputs)}), so that mixing cannot be tried "
            f"on it: {error}. Train it without mixing (prob=0), or set self_check=False at your own risk"
        )

    def unsteady(self) -> str | None:
        """Return what is wrong with the model's outputs where nothing is mixed, None if that is not why one fails."""
        name = type(self.model).__name__
        with eval_without_side_effects(self.model):
            again = [self._run(self.rows) for _ in range(2)]  # the first with the random numbers of `plain`
            if self._error(again[-1], (0, 1)) >= TOLERANCE:
                return (
                    f"{name} makes something else of the same samples when it is run again in evaluation mode, so that "
                    "mixing cannot be tried on it: noise or dropout that stays on (torch.nn.functional.dropout needs "
                    "training=self.training), or inputs that it changes in place. Mend that, or set self_check=False "
                    "at your own risk"
                )
            if self._error(self._run(pick_of_two(self.rows, [1, 1])), (1, 1)) >= TOLERANCE:
                return (
                    f"what {name} makes of a sample in evaluation mode depends on the others of its batch, so that it "
                    "cannot be mixed sample by sample: train it without mixing (prob=0)"
                )
        return None

    def _no_number(self) -> str:
        """Return what to say of outputs that are not finite, which look like a method's fault and are not."""
        inputs = self.request.batch
        floats = {key: each for key, each in inputs.items() if isinstance(each, Tensor) and each.is_floating_point()}
        broken = next((key for key, each in floats.items() if not bool(torch.isfinite(each).all())), None)
        held = f"{broken} holds nan or inf: leave such samples out, or replace those values"
        own = f"the inputs ({', '.join(inputs)}) hold none: look at its weights and their precision"
        return (
            f"{type(self.model).__name__} makes nan or inf of two samples of the batch as they are, so that mixing "
            f"cannot be tried on it; {own if broken is None else held}"
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
        if isnan(error):
            raise RuntimeError(self._no_number())
        by = f"with lam = 0 its outputs miss the partner's by {error:.0%} of the difference between the samples"
        kept = f", for it leaves {', '.join(stayed)} as they are and mixes the labels" if stayed else ""
        numbers = [key for key in stayed if self.rows[key].dim() == 1 and self.rows[key].is_floating_point()]
        if numbers and hasattr(method, "keys"):
            kept += f" (one number a sample is mixed where `keys` names it: {', '.join(numbers)})"
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
        return next((error for error in errors if isnan(error)), max(errors))

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
