"""What one process meets first, all processes try, where a forward pass of one needs all of them.

So it is where weights lie in parts, see `run_together`. Much of a model is found by running it, at the first batch that
asks for it: where samples are blended, whether the method is exact, whether the mixed loss is the model's. A process
that did so alone would wait for ever. So all ask each other before each batch whether one has something new to try, and
then each of them mixes that very batch, as a rehearsal: what it finds is known in all of them when their own batches
are mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, TypeVar

from accelerate.utils import send_to_device
from torch import Tensor, nn

from hf_mixup.engine.all_gather import first_with, process_index, run_together, shared_from
from hf_mixup.engine.batch import MixedBatch
from hf_mixup.engine.context import Context
from hf_mixup.engine.schedule import Clock
from hf_mixup.engine.settings import Schedule
from hf_mixup.engine.stats import Watch
from hf_mixup.models.batches import count_samples
from hf_mixup.models.hooks import hooks_of

Kind = TypeVar("Kind", bound=Context)
Build = Callable[[Any, nn.Module, Mapping[str, Any]], MixedBatch]


class Always(Clock):
    """A clock by which each batch is mixed.

    >>> Always().prob(0.1, Schedule())
    1.0
    """

    def prob(self, prob: float, schedule: Schedule) -> float:
        """Return 1."""
        return 1.0


def rehearse(context: Context, model: nn.Module, batch: Mapping[str, Any], build: Build) -> None:
    """Mix the batches of those processes that have something new to try, in all of them; all of them have to ask.

    Does nothing for a model that each process runs by itself.

    Args:
        model: without wrappers.
        build: (context, model, batch) -> the mixed batch.

    Raises:
        ValueError, TypeError, RuntimeError: whatever `build` raises for such a batch, in all processes.
    """
    if not run_together(model):
        return
    hooks, own, tried = hooks_of(model), _kind(context, batch), False
    device = next(model.parameters()).device
    while True:
        wanted = not tried and (own not in hooks.rehearsed or hooks.asks_for(model, batch))
        source = first_with(wanted, device)
        if source is None:
            return
        mine = source == process_index()
        tried = tried or mine
        held = (own, send_to_device(dict(batch), "cpu")) if mine else None
        kind, shared = shared_from(source, held)
        with build(_rehearsing(context), model, send_to_device(shared, device)):
            hooks.rehearsed.add(kind)


def _kind(context: Context, batch: Mapping[str, Any]) -> Any:
    """Return what tells batches apart that are tried by themselves; of one sample alone little can be tried."""
    entries = ((key, *_form(value)) for key, value in batch.items() if value is not None)
    return repr(context.method), count_samples(batch) > 1, frozenset(entries)


def _form(value: Any) -> tuple[Any, ...]:
    return (value.dim(), value.is_floating_point()) if isinstance(value, Tensor) else (type(value).__name__,)


def _rehearsing(context: Kind) -> Kind:
    """Return a copy of what mixes whose batches leave no trace: not of training's draws, nor of what has been mixed."""
    found = copy(context)
    found.rehearses, found.clock, found.watch = True, Always(seed=context.clock.seed), Watch()
    return found
