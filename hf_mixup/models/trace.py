"""Watching a model run over two samples and over one: which modules see the samples, and along which axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, cat, nn

from hf_mixup.models.batches import packed_axis, per_sample


@dataclass(frozen=True)
class Call:
    """One call of a module in a forward pass.

    Args:
        module: the module.
        number: which of its calls in the pass, from 0.
        given: its arguments, positional ones first.
        output: what it returned.
    """

    module: nn.Module
    number: int
    given: tuple[Any, ...]
    output: Any


def watch(model: nn.Module, inputs: Mapping[str, Any], modules: Iterable[nn.Module]) -> list[Call]:
    """Run the model and return the calls of some of its modules, in the order in which they returned."""
    calls: list[Call] = []
    numbers: dict[nn.Module, int] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        number = numbers[module] = numbers.get(module, -1) + 1
        calls.append(Call(module, number, (*args, *kwargs.values()), output))

    handles = [module.register_forward_hook(note, with_kwargs=True) for module in dict.fromkeys(modules)]
    try:
        model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def watch_pair(model: nn.Module, pair: Mapping[str, Any], modules: list[nn.Module]) -> list[tuple[Call, Call]]:
    """Return each call in a pass over two samples together with the same call in a pass over the first alone."""
    alone = {(call.module, call.number): call for call in watch(model, first_sample(pair), modules)}
    both = watch(model, pair, modules)
    return [(call, alone[call.module, call.number]) for call in both if (call.module, call.number) in alone]


def first_sample(pair: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first of two samples of like layout."""
    return pick_of_two(pair, [0])


def pick_of_two(pair: Mapping[str, Any], which: Sequence[int]) -> dict[str, Any]:
    """Return the samples `which` (0 or 1) of two samples of like layout.

    >>> pick_of_two({"x": Tensor([[1.0], [2.0], [3.0], [4.0]])}, [1, 1])["x"].flatten().tolist()
    [3.0, 4.0, 3.0, 4.0]
    """

    def pick(key: str, value: Any) -> Any:
        if not isinstance(value, Tensor) or not _of_two(key, value):
            return value
        axis = packed_axis(key, value)
        return cat([value.chunk(2, axis)[each] for each in which], axis)

    return {key: pick(key, value) for key, value in pair.items()}


def _of_two(key: str, value: Tensor) -> bool:
    """Whether an entry goes with two samples; it may hold several rows of each, see `models.ragged`."""
    if per_sample(key, value, 2):
        return True
    length = value.shape[packed_axis(key, value)] if value.dim() > 1 else 0
    return length > 2 and length % 2 == 0


def batch_axis(of_two: Tensor, of_one: Tensor) -> int | None:
    """Return the axis that is twice as long for two samples as for one, None if there is no such single axis.

    >>> batch_axis(Tensor(5, 2, 3), Tensor(5, 1, 3))
    1
    """
    if of_two.dim() != of_one.dim():
        return None
    longer = [axis for axis in range(of_two.dim()) if of_two.shape[axis] != of_one.shape[axis]]
    if len(longer) != 1 or of_two.shape[longer[0]] != 2 * of_one.shape[longer[0]]:
        return None
    return longer[0]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of what a module returned, in a fixed order: nested tuples, lists and mappings are entered."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors_in(each)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return what a module returned with each tensor changed, in the order of `tensors_in`.

    >>> map_tensors((Tensor([1]), [Tensor([0])], None), lambda t: t + 1)
    (tensor([2.]), [tensor([1.])], None)
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        changed = {key: map_tensors(each, change) for key, each in value.items()}
        return changed if type(value) is dict else type(value)(**changed)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(each, change) for each in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_tensors(each, change) for each in value)
    return value
