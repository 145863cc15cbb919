"""The steps of torch's optimizers; a fused one leaves no trace in the version of a weight that it changes."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar
from weakref import finalize, ref

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook


class Listener(Protocol):
    """Whoever wants to know of each step."""

    def stepped(self, optimizer: Optimizer) -> None:
        """Take notice of a step that an optimizer has just made."""


AnyListener = TypeVar("AnyListener", bound=Listener)


def listen(listener: AnyListener) -> finalize[Any, AnyListener]:
    """Tell a listener of each step of any optimizer of torch, as long as it lives.

    >>> class Counter:
    ...     steps = 0
    ...
    ...     def stepped(self, optimizer):
    ...         self.steps += 1
    >>> counter = Counter()
    >>> heard = listen(counter)
    >>> torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]).step()
    >>> counter.steps
    1
    """
    found = ref(listener)

    @torch.compiler.disable
    def tell(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        owner = found()
        if owner is not None:
            owner.stepped(optimizer)

    return finalize(listener, register_optimizer_step_post_hook(tell).remove)
