"""Blending the hidden states between a model's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from hf_mixup.sites.hooks import Site, sites_of

if TYPE_CHECKING:
    from hf_mixup.methods.base import Params


def main_stack(model: nn.Module) -> nn.ModuleList:
    """Return the model's stack of blocks: the outermost list of like modules that holds most parameters.

    Raises:
        ValueError: if there is none, or several of like weight (an encoder and a decoder, two towers).

    >>> blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    >>> main_stack(nn.ModuleDict({"encoder": blocks})) is blocks
    True
    """
    stacks: list[tuple[int, str, nn.ModuleList]] = []
    for name, module in model.named_modules():
        nested = any(name.startswith(outer + ".") for _, outer, _ in stacks)
        if isinstance(module, nn.ModuleList) and not nested and _alike(module):
            stacks.append((sum(p.numel() for p in module.parameters()), name, module))
    stacks.sort(key=lambda stack: -stack[0])
    if not stacks:
        raise ValueError(
            f"{type(model).__name__} has no stack of repeated blocks: mix at its inputs or embeddings instead"
        )
    if len(stacks) > 1 and stacks[1][0] * 4 > stacks[0][0]:
        raise ValueError(
            f"{type(model).__name__} has several stacks of blocks ({stacks[0][1]}, {stacks[1][1]}), and it is not "
            "clear which to mix in: mix at its inputs or embeddings instead"
        )
    return stacks[0][2]


def _alike(modules: nn.ModuleList) -> bool:
    return len(modules) > 0 and len({type(m) for m in modules}) == 1 and any(True for _ in modules.parameters())


def resolve_depths(model: nn.Module, layers: Sequence[float]) -> list[int]:
    """Turn depths as users write them into counts of this model's blocks, sorted, each once.

    Depth 0 is what enters the first block, depth k what leaves the k-th, -1 what leaves the last. If any value lies
    strictly between 0 and 1, all are shares of the depth, rounded to the nearest block: [0.5, 1.0] is the middle and
    the end.

    Raises:
        ValueError: for a depth the model does not have.
    """
    blocks = len(_stack(model))
    if any(0 < layer < 1 for layer in layers):
        return sorted({round(layer * blocks) for layer in layers})
    depths = {int(layer) if layer >= 0 else blocks + 1 + int(layer) for layer in layers}
    for depth in depths:
        if not 0 <= depth <= blocks:
            raise ValueError(f"layers={list(layers)}: {type(model).__name__} has {blocks} blocks, depths 0 to {blocks}")
    return sorted(depths)


def _stack(model: nn.Module) -> nn.ModuleList:
    sites = sites_of(model)
    if sites.stack is None:
        sites.stack = main_stack(model)
    return sites.stack


def layer_site(model: nn.Module, depth: int) -> Site:
    """Return the site at a depth, installing it on first use."""
    stack = _stack(model)
    return sites_of(model).before(stack[0]) if depth == 0 else sites_of(model).after(stack[depth - 1])


def arm_layer(model: nn.Module, params: Params) -> None:
    """Arm the site at the drawn depth."""
    if params.layer is None:
        raise ValueError(f"method {params.method!r} drew no layer")
    sites_of(model).arm(layer_site(model, params.layer).arm(params.partner, params.lam))
