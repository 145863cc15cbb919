"""Which model is mixed through hooks already, and by whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hf_mixup.engine.unwrap import unwrap


class Hook:
    """A hook of a model that is mixed from outside. It knows its owner, and a copy of it does nothing.

    So a copy of such a model (`copy.deepcopy`, `torch.save`, a process that is spawned) trains plainly.

    Args:
        owner: what has put the hook there (`integrations.model_hooks.ModelHooks`), whose `mixup` mixes.
        call: what the hook does.
    """

    def __init__(self, owner: Any = None, call: Callable[..., Any] | None = None) -> None:
        self.owner, self._call = owner, call

    @torch.compiler.disable  # drawing is plain Python; a compiled model is traced from its own forward on
    def __call__(self, *given: Any) -> Any:
        return None if self._call is None else self._call(*given)

    def __reduce__(self) -> tuple[type[Hook], tuple[()]]:
        return Hook, ()


def active_hooks(model: nn.Module) -> Any:
    """Return the owner of the hooks that mix a model; None where there are none.

    >>> active_hooks(nn.Linear(1, 1)) is None
    True
    """
    hooks = unwrap(model)._forward_pre_hooks.values()
    return next((hook.owner for hook in hooks if isinstance(hook, Hook) and hook.owner is not None), None)
