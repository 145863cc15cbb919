"""Hooks that mix hidden states while they are active, and do nothing otherwise.

A hook is registered once for each mix point of a model and stays: `torch.compile` ignores hooks that arrive after the
first compiled call. What changes from batch to batch lies in a small `MixHook` object, as tensors. So a compiled model
is traced once for "off" and once for "on", and never again for new draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Mixing = Callable[..., Tensor]
"""How states [B, ...] are mixed, given partner and weight (and in a block or table the axis of the samples)."""


class MixHook:
    """The hook of one mix point: a place in a model where samples can be blended.

    `on` says whether a forward pass blends here now. Partner and weight outlive it: older releases of transformers
    run hooks once more when gradient checkpointing recomputes a layer in the backward pass, after the step's context
    has closed, and the recomputation has to see what the forward pass saw.
    """

    first: ClassVar[bool] = False  # runs before the other hooks of the same module

    def __init__(self) -> None:
        self.on = False
        self.calls = 0
        self.partner: Tensor | None = None
        self.weight: Tensor | None = None
        self.mixing: Mixing = blend_states

    def __reduce__(self) -> tuple[type[MixHook], tuple[()]]:
        return type(self), ()  # a copy of the model, or one read back, has inactive hooks

    def activate(self, partner: Tensor, weight: Tensor, mixing: Mixing | None = None) -> MixHook:
        """Make the next forward pass mix here."""
        self.on, self.calls, self.partner, self.weight = True, 0, partner, weight
        self.mixing = mixing or blend_states
        return self

    def forget(self) -> None:
        self.on, self.partner, self.weight = False, None, None

    @property
    def missed(self) -> bool:
        """Whether no forward pass has come through since the activation."""
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
        count = len(self.partner) if self.partner is not None else 0
        return tuple(
            self._mix(s) if isinstance(s, Tensor) and s.is_floating_point() and s.dim() > 1 and len(s) == count else s
            for s in states
        )

    def _mix(self, states: Tensor) -> Tensor:
        return self.mixing(states, self.partner, self.weight)

    def count(self, module: nn.Module) -> None:
        """Count a pass through this hook.

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
        states: floats with the samples along `axis`, [B, ...] as a rule; B * k where a sample was unfolded into k (the
            choices of a question, the frames of a video), with those of a sample side by side.
        partner: long [B].
        weight: float32 share of the own sample in [0, 1], [B], or [B, T] one for each token.

    Products and sum are computed in float32 at least and rounded once.

    >>> blend_states(torch.tensor([[1.0], [3.0]]), torch.tensor([1, 0]), torch.tensor([0.5, 1.0]))
    tensor([[2.],
            [3.]])
    """
    if partner is None or weight is None or not len(partner) or states.shape[axis] % len(partner):
        count = 0 if partner is None else len(partner)
        raise RuntimeError(
            f"hidden states have {states.shape[axis]} samples where the batch has {count}: this layer cannot be mixed"
        )
    fold = states.shape[axis] // len(partner)
    if fold > 1:
        partner = (partner[:, None] * fold + torch.arange(fold, device=partner.device)).flatten()
        weight = weight.flatten(0, 1) if weight.dim() == 3 else weight.repeat_interleave(fold, 0)
    share = _weight_like(states, weight, axis)
    other = states.index_select(axis, partner)
    return (share * states + (1 - share) * other).to(states.dtype)


def blend_positions(
    states: Tensor, partner: Tensor | None, weight: Tensor | None, axis: int = 0, *, positions: Tensor
) -> Tensor:
    """Blend the hidden state of each token with that of another position of its partner; see `blend_states`.

    Args:
        states: floats [B, T, ...], or [T, B, ...] with axis = 1.
        positions: long [B, T], -1 for a token that stays as it is.

    Raises:
        RuntimeError: if the states do not have the positions of the tokens.
    """
    own = states if axis == 0 else states.transpose(0, 1)
    if partner is None or weight is None or own.shape[:2] != positions.shape or axis > 1:
        raise RuntimeError(
            f"hidden states {list(states.shape)} do not have the positions of {list(positions.shape)} tokens: name "
            "other layers"
        )
    other = own[partner[:, None], positions.clamp(min=0)]
    share = torch.where(positions >= 0, weight[:, None], 1.0)
    share = share.reshape(*share.shape, *(1,) * (own.dim() - 2))
    blended = (share * own + (1 - share) * other).to(states.dtype)
    return blended if axis == 0 else blended.transpose(0, 1)


def _weight_like(states: Tensor, weight: Tensor, axis: int) -> Tensor:
    """Return weights [B] or [B, T] in a shape that multiplies the states."""
    shape = [1] * states.dim()
    shape[axis] = len(weight)
    if weight.dim() == 1:
        return weight.reshape(shape)
    tokens = axis - 1 if axis == 1 and states.shape[0] == weight.shape[1] else axis + 1
    if states.shape[tokens] != weight.shape[1]:
        raise RuntimeError(
            f"hidden states {list(states.shape)} do not have the {weight.shape[1]} positions of the attention mask: "
            "mix samples of equal length, or use another method"
        )
    shape[tokens] = weight.shape[1]
    return (weight if tokens > axis else weight.T).reshape(shape)


class MixHooks:
    """The hooks of one model, registered on demand.

    Attributes:
        active: the hooks that were activated for the last batch.
        on_deactivate: functions that put back what a mixed forward pass changes in the model.
        checked: what the self-check has passed.
        cache: parts of the model that were looked up, keyed by the module of this room that did.
        open: by the names of questions to which no batch had the answer yet, what says if one may have it, given the
            model (which may not be held here) and the batch.
        rehearsed: kinds of batches with which whatever has to be looked up was, see `engine.rehearsal`.
    """

    def __init__(self) -> None:
        self._hooks: WeakKeyDictionary[nn.Module, dict[tuple[str, type], MixHook]] = WeakKeyDictionary()
        self.active: list[MixHook] = []
        self.on_deactivate: list[Callable[[], None]] = []
        self.checked: set[Any] = set()
        self.cache: dict[str, Any] = {}
        self.open: dict[Any, Callable[[nn.Module, Mapping[str, Any]], bool]] = {}
        self.rehearsed: set[Any] = set()

    def __reduce__(self) -> tuple[type[MixHooks], tuple[()]]:
        return MixHooks, ()  # a copy of the model, or one read back, begins with none

    def asks_for(self, model: nn.Module, batch: Mapping[str, Any]) -> bool:
        """Whether a batch may have the answer to an open question about the model of these hooks."""
        return any(asks(model, batch) for asks in self.open.values())

    def after(self, module: nn.Module, kind: type[MixHook] = MixHook) -> Any:
        """Return the hook of a kind at the output of a module."""
        return self._hook(module, "after", kind)

    def before(self, module: nn.Module, kind: type[MixHook] = MixHook) -> Any:
        """Return the hook of a kind at the input of a module."""
        return self._hook(module, "before", kind)

    def _hook(self, module: nn.Module, side: str, kind: type[MixHook]) -> MixHook:
        hooks = self._hooks.setdefault(module, {})
        if (side, kind) not in hooks:
            hook = hooks[side, kind] = kind()
            if side == "after":
                module.register_forward_hook(hook.after, prepend=kind.first)
            else:
                module.register_forward_pre_hook(hook.before, with_kwargs=True)
        return hooks[side, kind]

    def track(self, *hooks: MixHook) -> None:
        """Remember hooks that were activated, so that `deactivate` ends them together."""
        self.active += hooks

    def deactivate(self) -> None:
        """Make forward passes plain again; a recomputation in the backward pass still sees partner and weight."""
        for hook in self.active:
            hook.on = False
        while self.on_deactivate:
            self.on_deactivate.pop()()

    def again(self) -> None:
        """Let the active hooks mix in one more forward pass, as in the last."""
        for hook in self.active:
            hook.calls = 0

    def forget(self) -> None:
        """Drop the last batch altogether, before the next one is mixed."""
        self.deactivate()
        for hook in self.active:
            hook.forget()
        self.active = []


_ATTRIBUTE = "_mixup_hooks"


def hooks_of(model: nn.Module) -> MixHooks:
    """Return the hooks of a model, the same object for each call.

    They lie in the model itself, because they refer to its parts: a table of models in this module, even one with weak
    keys, would keep the model in memory for ever.
    """
    found = vars(model).get(_ATTRIBUTE)
    if found is None:
        found = vars(model)[_ATTRIBUTE] = MixHooks()
    return found
