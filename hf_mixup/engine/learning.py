"""What methods learn in one run, by networks of their own that step when the model does."""

from __future__ import annotations

from typing import Any
from weakref import finalize, ref

import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from hf_mixup.engine.all_gather import world_size
from hf_mixup.engine.optimizer_steps import listen
from hf_mixup.methods import Method
from hf_mixup.methods.base import Request
from hf_mixup.methods.capabilities import Learns
from hf_mixup.methods.registry import each_part


class Learning:
    """The networks of a method and of those that it holds.

    A network gets its gradient in the backward pass of the model. It steps once, by the sum over all processes, each
    time an optimizer has changed the model since the last batch was drawn, however many batches were accumulated:
    whether a Trainer tells (`step`) or a loop of one's own steps an optimizer of torch.

    Args:
        method: whose parts may learn.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._parts = [each for each in each_part(method) if isinstance(each, Learns) and each.learns]
        self._model: ref[nn.Module] | None = None  # of a batch that was drawn since the last step

    def __reduce__(self) -> tuple[type[Learning], tuple[Method]]:
        return Learning, (self._method,)

    def __bool__(self) -> bool:
        """Whether anything learns."""
        return bool(self._parts)

    def begin(self, saved: list[dict[str, Any] | None] | None = None) -> None:
        """Begin a run, anew or from what `state` returned."""
        self._model = None
        for each, state in zip(self._parts, saved or [None] * len(self._parts), strict=True):
            each.begin(state)

    def attend(self, request: Request) -> None:
        """Take notice of a batch that is about to be drawn, whether or not the method changes it; in each process."""
        if not self._parts:
            return
        if self._watched is None:
            self._watched = listen(self)
        for each in self._parts:
            each.learner_for(request)
        self._model = ref(request.model)

    _watched: finalize[Any, Learning] | None = None

    def step(self) -> None:
        """Let the networks step, unless they have since the last batch was drawn."""
        if self._model is None:
            return
        self._model = None
        for learner in (each.learner for each in self._parts):
            if learner is not None and (learner.reached or world_size() > 1):
                learner.step(_summed(learner.gradient()))

    def stepped(self, optimizer: Optimizer) -> None:
        """Let the networks step if this optimizer has changed the model."""
        model = None if self._model is None else self._model()
        if model is not None:
            own = {*map(id, model.parameters())}
            if any(id(each) in own for group in optimizer.param_groups for each in group["params"]):
                self.step()

    def state(self) -> list[dict[str, Any] | None]:
        """Return what a resumed run needs, for each network that learns; None for one that has not begun."""
        return [each.saved if each.learner is None else each.learner.state_dict() for each in self._parts]


def _summed(gradient: Tensor) -> Tensor:
    if world_size() > 1:
        dist.all_reduce(gradient)
    return gradient
