"""Trying, once, whether a method mixes all content of a sample in a model: by the exchange of two samples.

With lam = 0 a sample must have its partner's outputs and its partner's loss, with lam = 1 its own. Where part of a
sample stays behind (a text beside blended pixels, the ids that a head reads), the labels would be mixed and the content
would not: that is refused. So is content that is exchanged twice (where it enters, and where it is looked up), which
shows only where both samples are the other one.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hf_mixup.engine.refusals import NotExactError
from hf_mixup.engine.trial import Trial
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.streams import forget_entries

if TYPE_CHECKING:
    from hf_mixup.methods.base import Method, Request

DECIDE = ("keys", "swap_keys", "modules", "attention_mask_mode", "by")  # settings that say what a method mixes
LOOKS = 8  # batches in which an entry that was alike in all samples is looked at again


@dataclass
class Seen:
    """What is known of batches with one set of inputs.

    Args:
        alike: inputs in which the two samples that were tried did not differ, so that nothing was shown of them.
        looks: in how many more batches these are looked at.
        exact: methods and depths that have passed.
    """

    alike: set[str]
    looks: int = LOOKS
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
    if _can_be_tried(request):
        trial = trial_of(request)
        known = _seen_by(request.model).get(trial.kind)
        _check_exchange(trial, method, trial_of, known is None or _tells_more(known, request.batch))


def _can_be_tried(request: Request) -> bool:
    """Whether a batch has two samples: one alone is mixed with nothing, and compared embeddings go through no model."""
    return request.rows > 1 and any(isinstance(value, Tensor) for value in request.batch.values())


def _seen_by(model: nn.Module) -> dict[Any, Seen]:
    return hooks_of(model).cache.setdefault("exchanged", {})


def _check_exchange(trial: Trial, method: Method, trial_of: Callable[..., Trial], new: bool) -> None:
    """Try two samples of a batch.

    Args:
        new: whether it shows something that was not seen before, beside a method that was not tried.
    """
    model, seen, kind = trial.model, _seen_by(trial.model), trial.kind
    known, looks = seen.get(kind), LOOKS
    if known is None:
        if _is_flattened(model):
            return _warn_untried(model, seen)
        _run_first(trial, method)
    elif new:
        forget_entries(model)  # what was chosen where the samples were alike
        hooks_of(model).rehearsed.clear()
        looks, known = known.looks, None  # as some entries are alike in all that can be exchanged, such as grids
    if known is None:
        known = Seen(trial.alike, looks)
        if len(known.alike) < len(trial.content):
            seen[kind] = known
        else:  # the samples are all alike, and show nothing
            known.looks = sys.maxsize
        hooks_of(model).open["exchanged", kind] = partial(_may_tell_more, known)
    for each in method.choices() if kind in seen else ():
        if each.exchanges:
            _check(trial_of(trial.request, each.keeps) if each.keeps else trial, each, known.exact)


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


def _may_tell_more(known: Seen, model: nn.Module, batch: Mapping[str, Any]) -> bool:
    return _tells_more(known, batch)


def _tells_more(known: Seen, inputs: Mapping[str, Any]) -> bool:
    """Whether samples differ now in an input that was alike when they were tried."""
    keys = known.alike & inputs.keys()
    if not keys or not known.looks:
        return False
    known.looks -= 1
    return any(bool((inputs[key] != inputs[key][:1]).any()) for key in keys)


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
    why = trial.unsteady()
    if why is not None:
        raise RuntimeError(why)
    where = "" if depth is None else f" at depth {depth}"
    raise NotExactError(
        f"{type(trial.model).__name__} does not mix rightly with method {method.name!r}{where}: {miss}",
        method.name,
        ", or other layers" if depth is not None and not method.chooses_depths else "",
    )
