"""Blending the hidden states between a model's blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.exchange import TOLERANCE, exchange_error
from hf_mixup.models.hooks import MixHook, MixHooks, Mixing, hooks_of
from hf_mixup.models.outputs import scores_of
from hf_mixup.models.probe import eval_without_side_effects, full_pair
from hf_mixup.models.sharded import whole_shape
from hf_mixup.models.trace import Call, batch_axis, map_tensors, tensors_in, watch_pair
from hf_mixup.utils.suggest import did_you_mean

MAX_TRIED = 3  # stacks of blocks that are tried where a model has several


@dataclass(frozen=True)
class BlockCall:
    """One call of a block in a forward pass.

    Args:
        module: the block.
        number: which of its calls in the pass; some models run one block over and over.
        once: whether it is the block's only call.
        given: the axis of the samples in the hidden states it is given, None if they were not found.
        axes: the axis of the samples in each tensor that it returns; None for tensors without, and for attention maps.
    """

    module: nn.Module
    number: int
    once: bool
    given: int | None
    axes: tuple[int | None, ...]


@dataclass(frozen=True)
class Stack:
    """The blocks that every sample passes, in the order of their calls.

    Args:
        blocks: the blocks of the model, or of its encoder.
        decoder: the first block of a decoder that runs beside the encoder; its input is blended, too.
        droppers: parts of the model with LayerDrop, which skips layers at random.
    """

    blocks: tuple[BlockCall, ...]
    decoder: BlockCall | None = None
    droppers: tuple[Any, ...] = ()


class BlockHook(MixHook):
    """The input or the output of a block, blended at one of its calls.

    A compiled model must not be traced anew for each depth that is drawn: there may be more depths than torch.compile
    keeps traces. So it blends at all depths that may be drawn, with a weight that is 1 except at the drawn one; the
    weight is a tensor, which no trace depends on. An uncompiled model blends at the drawn depth alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.here, self.number, self.once = True, 0, True
        self.plan: dict[int, tuple[Tensor, tuple[int | None, ...]]] = {}  # number of a call -> weight and axes

    def start(self, partner: Tensor, lam: Tensor, mixing: Mixing | None = None) -> BlockHook:
        """Start planning the next forward pass."""
        self.activate(partner, lam, mixing)
        self.here, self.plan = False, {}
        return self

    def plan_call(self, block: BlockCall, axes: tuple[int | None, ...], weight: Tensor, drawn: bool) -> None:
        """Make the next forward pass blend at this call, along these axes; if it was not drawn, only a compiled one."""
        self.once = block.once
        self.plan[0 if block.once else block.number] = weight, axes
        if drawn:
            self.here, self.number = True, block.number

    @property
    def missed(self) -> bool:
        return self.here and super().missed

    def _blends_now(self) -> bool:
        return (torch.compiler.is_compiling() or self.here) and super()._blends_now()

    def _blend_nested(self, states: Any, module: nn.Module) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if not torch.compiler.is_compiling() and number != self.number and not self.once:
            return states
        weight, planned = self.plan.get(0 if self.once else number, (None, ()))
        axes = iter(planned)

        def blend(each: Tensor) -> Tensor:
            axis = next(axes, None)
            return each if axis is None else self.mixing(each, self.partner, weight, axis)

        return map_tensors(states, blend)


def candidates(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the outermost lists of modules by path; lists of lists are flattened."""
    lists: dict[str, list[nn.Module]] = {}
    for name, module in model.named_modules():
        nested = any(name.startswith(outer + ".") for outer in lists)
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and not nested and any(True for _ in module.parameters()):
            lists[name] = _flat(module)
    return lists


def _flat(modules: nn.Module) -> list[nn.Module]:
    """Return the children of a list; a child that is a list itself is never called and is replaced by its children."""
    flat: list[nn.Module] = []
    for module in modules.children():
        flat += _flat(module) if isinstance(module, nn.ModuleList) else [module]
    return flat


def install_blocks(model: nn.Module) -> None:
    """Register the hooks of every module that could be a block, before the model is compiled."""
    for modules in candidates(model).values():
        for module in modules:
            hooks_of(model).after(module, BlockHook)
        if modules:
            hooks_of(model).before(modules[0], BlockHook)


def stack_of(model: nn.Module, inputs: Mapping[str, Any], paths: Sequence[str] | None = None) -> Stack:
    """Return the stack of blocks; found by running two samples of the batch at first use, then cached.

    Args:
        paths: modules to take as the blocks instead, by their names in `model.named_modules()`.

    Raises:
        ValueError: if there is none, or a path leads nowhere.
    """
    cache = hooks_of(model).cache
    key = f"stack {', '.join(sorted(inputs))}; {', '.join(paths or ())}"
    if key not in cache:
        with eval_without_side_effects(model):
            pair = full_pair(inputs, model)
            cache[key] = _named(model, pair, paths) if paths else _find(model, pair)
    return cache[key]


@dataclass(frozen=True)
class _Run:
    """The calls of one list's modules."""

    name: str
    blocks: list[BlockCall]
    first: int
    last: int
    size: int

    def alternates_with(self, other: _Run) -> bool:
        """Whether both lists hold parts of the same blocks."""
        siblings = self.name.rpartition(".")[0] == other.name.rpartition(".")[0]
        return (
            siblings and len(self.blocks) == len(other.blocks) and self.first < other.last and other.first < self.last
        )


def _find(model: nn.Module, pair: dict[str, Any]) -> Stack:
    lists = candidates(model)
    calls = watch_pair(model, pair, [module for modules in lists.values() for module in modules])
    runs = [run for name, modules in lists.items() if (run := _run(name, modules, calls)) is not None]
    runs = [run for run in runs if run.blocks[0].given is not None] or runs  # embedding tables in a list are no blocks
    runs = runs or _inner_runs(model, pair, lists)
    if not runs:
        raise ValueError(
            f"{type(model).__name__} has no stack of repeated blocks: mix at its inputs or embeddings, or name modules"
        )
    decoders = [run for run in runs if "decoder" in run.name]
    encoders = [run for run in runs if "decoder" not in run.name]
    droppers = tuple(each for each in (getattr(model, "config", None), *model.modules()) if _drops_layers(each))
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False) or not decoders or not encoders:
        return _first_exact(model, pair, [Stack(tuple(run.blocks), None, droppers) for run in _by_size(runs)])
    return Stack(tuple(_main(encoders).blocks), _main(decoders).blocks[0], droppers)


def _inner_runs(model: nn.Module, pair: dict[str, Any], lists: dict[str, list[nn.Module]]) -> list[_Run]:
    """Return the runs of the last module in each block, for a model that calls `forward` of its blocks, without hooks.

    The input of that module is not the input of the block, so there is no depth 0.
    """
    ends = {name: [[*module.children()][-1] for module in modules if any(True for _ in module.children())]
            for name, modules in lists.items()}  # fmt: skip
    calls = watch_pair(model, pair, [module for modules in ends.values() for module in modules])
    found = [run for name, modules in ends.items() if (run := _run(name, modules, calls)) is not None]
    return [replace(run, blocks=[replace(block, given=None) for block in run.blocks]) for run in found]


def _run(name: str, modules: list[nn.Module], calls: list[tuple[Call, Call]]) -> _Run | None:
    own = set(modules)
    numbers = [number for number, (both, _) in enumerate(calls) if both.module in own]
    blocks = _blocks([calls[number] for number in numbers])
    if not blocks:
        return None
    size = sum(whole_shape(each).numel() for module in modules for each in module.parameters())
    return _Run(name, blocks, numbers[0], numbers[-1], size)


def _main(runs: list[_Run]) -> _Run:
    """Return the run with most parameters; among lists that hold parts of the same blocks, the one called last."""
    largest = max(runs, key=lambda run: run.size)
    return max((run for run in runs if run is largest or run.alternates_with(largest)), key=lambda run: run.last)


def _by_size(runs: list[_Run]) -> list[_Run]:
    """Return the runs that could be the main one, the most likely first."""
    rest = list(runs)
    ordered: list[_Run] = []
    while rest and len(ordered) < MAX_TRIED:
        ordered.append(_main(rest))
        rest = [run for run in rest if run is not ordered[-1] and not run.alternates_with(ordered[-1])]
    return ordered


def _first_exact(model: nn.Module, pair: dict[str, Any], stacks: list[Stack]) -> Stack:
    """Return the first stack that all content of a sample passes, as an exchange of two samples shows."""
    if len(stacks) == 1:
        return stacks[0]
    plain = scores_of(model(**pair), 2)
    for stack in stacks:

        def apply(partner: Tensor, lam: Tensor, stack: Stack = stack) -> dict[str, Any]:
            activate_layer(model, stack, partner, lam, len(stack.blocks))
            return pair

        if exchange_error(model, pair, plain, apply) < TOLERANCE:
            return stack
    return stacks[0]


def _drops_layers(owner: Any) -> bool:
    share = getattr(owner, "layerdrop", None)
    return isinstance(share, float) and share > 0


def _named(model: nn.Module, pair: dict[str, Any], paths: Sequence[str]) -> Stack:
    modules = dict(model.named_modules())
    for path in paths:
        if path not in modules:
            hint = did_you_mean(path, modules)
            raise ValueError(f"modules names {path!r}, which {type(model).__name__} lacks: {hint}")
    blocks = _blocks(watch_pair(model, pair, [modules[path] for path in paths]))
    if len(blocks) < len(set(paths)):
        raise ValueError(f"modules={list(paths)}: not each of them is called and returns hidden states by sample")
    return Stack(tuple(blocks))


def _blocks(calls: list[tuple[Call, Call]]) -> list[BlockCall]:
    found = [(both, one, _axes(both.output, one.output)) for both, one in calls]
    found = [each for each in found if any(axis is not None for axis in each[2])]
    modules = [both.module for both, _, _ in found]
    return [
        BlockCall(both.module, both.number, modules.count(both.module) == 1, _axis_given(both, one), axes)
        for both, one, axes in found
    ]


def _axes(of_two: Any, of_one: Any) -> tuple[int | None, ...]:
    both, one = list(tensors_in(of_two)), list(tensors_in(of_one))
    if len(both) != len(one):
        return ()
    axes: list[int | None] = []
    shapes: list[torch.Size] = []  # of the tensors that are blended
    for two, single in zip(both, one):
        axis = batch_axis(two, single) if two.is_floating_point() and two.dim() > 1 else None
        if axis is not None and shapes and two.dim() > 3 and two.shape != shapes[0]:
            axis = None  # an attention map or bias, which belongs to the sample's own mask
        if axis is not None:
            shapes.append(two.shape)
        axes.append(axis)
    return tuple(axes)


def _axis_given(both: Call, one: Call) -> int | None:
    two, single = next(tensors_in(both.given), None), next(tensors_in(one.given), None)
    if two is None or single is None or not two.is_floating_point():
        return None
    return batch_axis(two, single)


def resolve_depths(model: nn.Module, stack: Stack, layers: Sequence[float]) -> list[int]:
    """Return the depths that users name as counts of this model's blocks, sorted, each once.

    Depth 0 is the input of the first block, depth k the output of the k-th, -1 the output of the last. If any value
    lies strictly between 0 and 1, all are shares of the depth, rounded to the nearest block: [0.5, 1.0] is the middle
    and the end.

    Raises:
        ValueError: for a depth the model does not have.
    """
    blocks = len(stack.blocks)
    if any(0 < layer < 1 for layer in layers):
        return sorted({round(layer * blocks) for layer in layers})
    depths = {int(layer) if layer >= 0 else blocks + 1 + int(layer) for layer in layers}
    for depth in depths:
        if not 0 <= depth <= blocks:
            raise ValueError(f"layers={list(layers)}: {type(model).__name__} has {blocks} blocks, depths 0 to {blocks}")
    return sorted(depths)


def activate_layer(
    model: nn.Module,
    stack: Stack,
    partner: Tensor,
    lam: Tensor,
    depth: int,
    mixing: Mixing | None = None,
    depths: Sequence[int | None] = (),
) -> None:
    """Activate the hook at the drawn depth, and at the input of a decoder that runs beside the encoder.

    Args:
        depth: the drawn depth, in blocks.
        mixing: how states are mixed, `blend_states` by default.
        depths: all depths that may be drawn, for a compiled model, see `BlockHook`.

    Raises:
        ValueError: if the states that enter the first block were not found.
    """
    hooks = hooks_of(model)
    calls: list[tuple[BlockHook, BlockCall, tuple[int | None, ...], bool]] = []
    if depth == 0:
        calls.append((*_before(model, stack.blocks[0]), True))
    elif 0 in depths and stack.blocks[0].given is not None:
        calls.append((*_before(model, stack.blocks[0]), False))
    for each in sorted({each for each in (*depths, depth) if each}):
        block = stack.blocks[each - 1]
        calls.append((hooks.after(block.module, BlockHook), block, block.axes, each == depth))
    if stack.decoder is not None:
        calls.append((*_before(model, stack.decoder), True))
    for hook in dict.fromkeys(hook for hook, *_ in calls):
        hooks.track(hook.start(partner, lam, mixing))
    for hook, block, axes, drawn in calls:
        # A tensor for each call: a trace also depends on which of its tensors are identical.
        hook.plan_call(block, axes, lam.clone() if drawn else torch.ones_like(lam), drawn)
    _without_layer_drop(hooks, stack)


def _before(model: nn.Module, block: BlockCall) -> tuple[BlockHook, BlockCall, tuple[int | None, ...]]:
    if block.given is None:
        raise ValueError(
            f"{type(model).__name__}: its first block ({type(block.module).__name__}) is given no hidden states: "
            "name other layers"
        )
    return hooks_of(model).before(block.module, BlockHook), block, (block.given,)


def _without_layer_drop(hooks: MixHooks, stack: Stack) -> None:
    """Switch LayerDrop off while a batch is mixed at a layer: a layer that is skipped would blend nothing."""
    for owner in stack.droppers:
        hooks.on_deactivate.append(partial(setattr, owner, "layerdrop", owner.layerdrop))
        owner.layerdrop = 0.0
