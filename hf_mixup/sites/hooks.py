"""Hooks that blend hidden states while they are armed, and do nothing otherwise.

A hook is registered once for each site of a model and stays: `torch.compile` ignores hooks that arrive after the first
compiled call. What changes from batch to batch lies in the small `Site` object, as tensors, so that a compiled model
is traced once for "off" and once for "on" and never again over new draws.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


class Site:
    """One place in a model where rows can be blended.

    `on` says whether a forward pass blends here now. Partner and weight outlive it: older releases of transformers
    run hooks once more when gradient checkpointing recomputes a layer in the backward pass, after the step's context
    has closed, and the recomputation has to see what the forward pass saw.
    """

    def __init__(self) -> None:
        self.on = False
        self.calls = 0
        self.partner: Tensor | None = None
        self.weight: Tensor | None = None

    def arm(self, partner: Tensor, weight: Tensor) -> None:
        self.on, self.calls, self.partner, self.weight = True, 0, partner, weight

    def forget(self) -> None:
        self.on, self.partner, self.weight = False, None, None

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Blend what a module returns (a forward hook)."""
        return self._blend_nested(output, module) if self._blends_now() else None

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Blend the hidden states that a module is given (a forward pre-hook)."""
        if not self._blends_now():
            return None
        if args:
            return (self._blend_nested(args[0], module), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self._blend_nested(kwargs["hidden_states"], module)}

    def _blends_now(self) -> bool:
        if self.on:
            return True
        if torch.compiler.is_compiling() or self.partner is None:
            return False
        return torch._C._current_graph_task_id() != -1  # inside a backward pass: a recomputation

    def _blend_nested(self, states: Any, module: nn.Module) -> Any:
        self.calls += self.on
        if self.calls > 1:
            raise RuntimeError(
                f"{type(module).__name__} runs several times in one forward pass, and mixing at each of them would be "
                "wrong. Use method='embedding', or 'mixup' on float inputs."
            )
        if isinstance(states, Tensor):
            return blend_states(states, self.partner, self.weight)
        if not isinstance(states, tuple):
            raise RuntimeError(f"{type(module).__name__} returns {type(states).__name__}, no hidden states to mix")
        rows = len(self.partner) if self.partner is not None else 0
        return tuple(
            blend_states(s, self.partner, self.weight)
            if isinstance(s, Tensor) and s.is_floating_point() and s.dim() > 1 and len(s) == rows
            else s
            for s in states
        )


def blend_states(states: Tensor, partner: Tensor | None, weight: Tensor | None) -> Tensor:
    """Blend hidden states [B, ...] out of place, inside the autograd graph.

    Args:
        partner: long [B].
        weight: float32 share of the own row in [0, 1], [B] or one for each leading dimension, e.g. [B, T].

    Products and sum are computed in float32 at least and rounded once.

    >>> blend_states(torch.tensor([[1.0], [3.0]]), torch.tensor([1, 0]), torch.tensor([0.5, 1.0]))
    tensor([[2.],
            [3.]])
    """
    if partner is None or weight is None or len(states) != len(partner):
        rows = 0 if partner is None else len(partner)
        raise RuntimeError(
            f"hidden states have {len(states)} rows where the batch has {rows}: this layer cannot be mixed"
        )
    share = weight.reshape(weight.shape + (1,) * (states.dim() - weight.dim()))
    other = states.index_select(0, partner)
    return (share * states + (1 - share) * other).to(states.dtype)


class ModelSites:
    """The sites of one model, installed on demand."""

    def __init__(self) -> None:
        self._sites: WeakKeyDictionary[nn.Module, dict[str, Site]] = WeakKeyDictionary()
        self._handles: list[Any] = []
        self.armed: list[Site] = []
        self.checked: set[tuple[str, int | None]] = set()  # what the self-test has passed, see `check`
        self.stack: nn.ModuleList | None = None  # found once, see `layers.main_stack`

    def after(self, module: nn.Module) -> Site:
        """Return the site at the output of a module."""
        return self._site(module, "after")

    def before(self, module: nn.Module) -> Site:
        """Return the site at the input of a module."""
        return self._site(module, "before")

    def _site(self, module: nn.Module, side: str) -> Site:
        sites = self._sites.setdefault(module, {})
        if side not in sites:
            site = sites[side] = Site()
            if side == "after":
                self._handles.append(module.register_forward_hook(site.after))
            else:
                self._handles.append(module.register_forward_pre_hook(site.before, with_kwargs=True))
        return sites[side]

    def arm(self, sites: Iterable[Site], partner: Tensor, weight: Tensor) -> None:
        """Make the next forward pass blend at these sites."""
        for site in self.armed:
            site.forget()
        self.armed = list(sites)
        for site in self.armed:
            site.arm(partner, weight)

    def disarm(self) -> None:
        """Make forward passes plain again; a recomputation in backward still sees the parameters."""
        for site in self.armed:
            site.on = False

    def remove(self) -> None:
        """Take all hooks off the model."""
        for site in self.armed:
            site.forget()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._sites.clear()
        self.armed = []


_MODELS: WeakKeyDictionary[nn.Module, ModelSites] = WeakKeyDictionary()


def sites_of(model: nn.Module) -> ModelSites:
    """Return the sites of a model, the same object for each call."""
    return _MODELS.setdefault(model, ModelSites())
