"""Hooks that blend hidden states while they are armed, and do nothing otherwise.

A hook is registered once for each site of a model and stays: `torch.compile` ignores hooks that arrive after the first
compiled call. What changes from batch to batch lies in the small `Site` object, as tensors, so that a compiled model
is traced once for "off" and once for "on" and never again over new draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Mixing = Callable[..., Tensor]
"""How states [B, ...] are mixed, given partner and weight (and in a block or table the axis of the rows)."""


class Site:
    """One place in a model where rows can be blended.

    `on` says whether a forward pass blends here now. Partner and weight outlive it: older releases of transformers
    run hooks once more when gradient checkpointing recomputes a layer in the backward pass, after the step's context
    has closed, and the recomputation has to see what the forward pass saw.
    """

    first: ClassVar[bool] = False  # comes before whatever other sites do at the same module

    def __init__(self) -> None:
        self.on = False
        self.calls = 0
        self.partner: Tensor | None = None
        self.weight: Tensor | None = None
        self.mixing: Mixing = blend_states

    def __reduce__(self) -> tuple[type[Site], tuple[()]]:
        return type(self), ()  # in a copy of the model, or one read back, it does nothing

    def arm(self, partner: Tensor, weight: Tensor, mixing: Mixing | None = None) -> Site:
        """Make the next forward pass mix here."""
        self.on, self.calls, self.partner, self.weight = True, 0, partner, weight
        self.mixing = mixing or blend_states
        return self

    def forget(self) -> None:
        self.on, self.partner, self.weight = False, None, None

    @property
    def missed(self) -> bool:
        """Whether no pass has come through since it was armed."""
        return self.calls == 0

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Blend what a module returns (a forward hook)."""
        return self._blend_nested(output, module) if self._blends_now() else None

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Blend the hidden states that a module is given (a forward pre-hook)."""
        if not self._blends_now():
            return None
        return change_given(args, kwargs, lambda states: self._blend_nested(states, module))

    def _blends_now(self) -> bool:
        if self.on:
            return True
        if torch.compiler.is_compiling() or self.partner is None:
            return False
        return torch._C._current_graph_task_id() != -1  # inside a backward pass: a recomputation

    def _blend_nested(self, states: Any, module: nn.Module) -> Any:
        self.count(module)
        if isinstance(states, Tensor):
            return self._mix(states)
        if isinstance(states, Mapping) and isinstance(states.get("pooler_output"), Tensor):
            states["pooler_output"] = self._mix(states["pooler_output"])  # type: ignore[index]
            return states
        if not isinstance(states, tuple):
            raise RuntimeError(f"{type(module).__name__} returns {type(states).__name__}, no hidden states to mix")
        rows = len(self.partner) if self.partner is not None else 0
        return tuple(
            self._mix(s) if isinstance(s, Tensor) and s.is_floating_point() and s.dim() > 1 and len(s) == rows else s
            for s in states
        )

    def _mix(self, states: Tensor) -> Tensor:
        return self.mixing(states, self.partner, self.weight)

    def count(self, module: nn.Module) -> None:
        """Count a pass through this site.

        Raises:
            RuntimeError: at the second one within a forward pass.
        """
        self.calls += self.on
        if self.calls > 1:
            raise RuntimeError(
                f"{type(module).__name__} runs several times in one forward pass, and mixing at each of them would be "
                "wrong. Use method='embedding', or 'mixup' on float inputs."
            )


def change_given(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what a module is given, with its hidden states changed: the first argument, or the first float by name."""
    if args:
        return (change(args[0]), *args[1:]), kwargs
    name = next(key for key, value in kwargs.items() if isinstance(value, Tensor) and value.is_floating_point())
    return args, {**kwargs, name: change(kwargs[name])}


def blend_states(states: Tensor, partner: Tensor | None, weight: Tensor | None, axis: int = 0) -> Tensor:
    """Blend hidden states out of place, inside the autograd graph.

    Args:
        states: floats with the rows along `axis`, [B, ...] as a rule. Where a row was unfolded into k (the choices of a
            question, the frames of a video), B * k with those of a row side by side.
        partner: long [B].
        weight: float32 share of the own row in [0, 1], [B], or [B, T] one for each token.

    Products and sum are computed in float32 at least and rounded once.

    >>> blend_states(torch.tensor([[1.0], [3.0]]), torch.tensor([1, 0]), torch.tensor([0.5, 1.0]))
    tensor([[2.],
            [3.]])
    """
    if partner is None or weight is None or not len(partner) or states.shape[axis] % len(partner):
        rows = 0 if partner is None else len(partner)
        raise RuntimeError(
            f"hidden states have {states.shape[axis]} rows where the batch has {rows}: this layer cannot be mixed"
        )
    fold = states.shape[axis] // len(partner)
    if fold > 1:
        partner = (partner[:, None] * fold + torch.arange(fold, device=partner.device)).flatten()
        weight = weight.flatten(0, 1) if weight.dim() == 3 else weight.repeat_interleave(fold, 0)
    share = _beside(states, weight, axis)
    other = states.index_select(axis, partner)
    return (share * states + (1 - share) * other).to(states.dtype)


def blend_places(
    states: Tensor, partner: Tensor | None, weight: Tensor | None, axis: int = 0, *, places: Tensor
) -> Tensor:
    """Blend the hidden state of each token with that of another place of its partner row; see `blend_states`.

    Args:
        states: floats [B, T, ...], or [T, B, ...] with axis = 1.
        places: long [B, T], -1 for a token that stays as it is.

    Raises:
        RuntimeError: if the states have not the places of the tokens.
    """
    rows = states if axis == 0 else states.transpose(0, 1)
    if partner is None or weight is None or rows.shape[:2] != places.shape or axis > 1:
        raise RuntimeError(
            f"hidden states {list(states.shape)} have not the places of {list(places.shape)} tokens: name other layers"
        )
    other = rows[partner[:, None], places.clamp(min=0)]
    share = torch.where(places >= 0, weight[:, None], 1.0)
    share = share.reshape(*share.shape, *(1,) * (rows.dim() - 2))
    blended = (share * rows + (1 - share) * other).to(states.dtype)
    return blended if axis == 0 else blended.transpose(0, 1)


def _beside(states: Tensor, weight: Tensor, axis: int) -> Tensor:
    """Return weights [B] or [B, T] in a shape that multiplies the states."""
    shape = [1] * states.dim()
    shape[axis] = len(weight)
    if weight.dim() == 1:
        return weight.reshape(shape)
    places = axis - 1 if axis == 1 and states.shape[0] == weight.shape[1] else axis + 1
    if states.shape[places] != weight.shape[1]:
        raise RuntimeError(
            f"hidden states {list(states.shape)} have not the {weight.shape[1]} places of the attention mask: mix rows "
            "of equal length, or another method"
        )
    shape[places] = weight.shape[1]
    return (weight if places > axis else weight.T).reshape(shape)


class ModelSites:
    """The sites of one model, installed on demand."""

    def __init__(self) -> None:
        self._sites: WeakKeyDictionary[nn.Module, dict[tuple[str, type], Site]] = WeakKeyDictionary()
        self._handles: list[Any] = []
        self.armed: list[Site] = []
        self.at_disarm: list[Callable[[], None]] = []  # puts back what a mixed forward pass changes in the model
        self.checked: set[Any] = set()  # what the self-test has passed, see `check`
        self.found: dict[str, Any] = {}  # parts of the model that were looked for, by name of the room that did

    def __reduce__(self) -> tuple[type[ModelSites], tuple[()]]:
        return ModelSites, ()  # a copy of the model, or one read back, finds its own

    def after(self, module: nn.Module, kind: type[Site] = Site) -> Any:
        """Return the site of a kind at the output of a module."""
        return self._site(module, "after", kind)

    def before(self, module: nn.Module, kind: type[Site] = Site) -> Any:
        """Return the site of a kind at the input of a module."""
        return self._site(module, "before", kind)

    def _site(self, module: nn.Module, side: str, kind: type[Site]) -> Site:
        sites = self._sites.setdefault(module, {})
        if (side, kind) not in sites:
            site = sites[side, kind] = kind()
            if side == "after":
                self._handles.append(module.register_forward_hook(site.after, prepend=kind.first))
            else:
                self._handles.append(module.register_forward_pre_hook(site.before, with_kwargs=True))
        return sites[side, kind]

    def arm(self, *sites: Site) -> None:
        """Take on sites that were just armed: `disarm` ends them together."""
        self.armed += sites

    def disarm(self) -> None:
        """Make forward passes plain again; a recomputation in backward still sees the parameters."""
        for site in self.armed:
            site.on = False
        while self.at_disarm:
            self.at_disarm.pop()()

    def forget(self) -> None:
        """Let go of the last batch altogether, before the next one is armed."""
        self.disarm()
        for site in self.armed:
            site.forget()
        self.armed = []

    def remove(self) -> None:
        """Take all hooks off the model."""
        self.forget()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._sites.clear()


_KEPT_AS = "_mixup_sites"


def sites_of(model: nn.Module) -> ModelSites:
    """Return the sites of a model, the same object for each call.

    They lie in the model itself: they know parts of it, and a table of the module (even one with weak keys) would keep
    it in memory for ever.
    """
    found = vars(model).get(_KEPT_AS)
    if found is None:
        found = vars(model)[_KEPT_AS] = ModelSites()
    return found
