"""A device that is not there: tensors of the CPU that say they lie elsewhere, and are treated as if they did.

While `FakeDevice` is entered, what is computed of such tensors is such a tensor again; code that asks for their device
takes the way of an accelerator. Each time that code of the package would make the host wait for the device is counted:
reading a value, a result whose size only the device knows, a copy from the CPU that blocks. What a device refuses is
refused: tensors of two devices in one operation, a generator of the CPU for numbers of the device.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

import hf_mixup

DEVICE = torch.device("xpu", 0)  # any but the CPU; of CUDA, code asks for more than tensors
PACKAGE = str(Path(hf_mixup.__file__).parent)
READS = {
    *("cpu", "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__contains__", "numpy", "__array__"),
    *("nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "equal", "allclose", "bincount"),
}
# What takes tensors of two devices.
ANYWHERE = {"to", "copy_", "__getitem__", "__setitem__", "type_as", "__repr__", "set_", "__deepcopy__"}
GETTERS = {"device": DEVICE, "is_cpu": False, "is_cuda": False}


class OnDevice(Tensor):
    """Stands for a tensor of the device."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


class GeneratorOnDevice(Generator):
    """Stands for a generator of the device."""

    device = property(lambda self: DEVICE)  # type: ignore[assignment]


def generator(device: Any = "cpu") -> torch.Generator:
    """Return a generator, as `torch.Generator` does."""
    return (GeneratorOnDevice if str(device).startswith(DEVICE.type) else Generator)()


def is_on_device(value: Any) -> bool:
    return isinstance(value, (OnDevice, nn.Parameter))


def to_device(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch whose tensors stand for those of the device."""
    return {key: each.as_subclass(OnDevice) if isinstance(each, Tensor) else each for key, each in batch.items()}


def move(model: nn.Module) -> None:
    """Let the buffers of a model stand for those of the device; parameters always do."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.as_subclass(OnDevice)


class FakeDevice(TorchFunctionMode):
    """Counts in `waits` how often, and where, code of the package makes the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "__get__":
            for asked, answer in GETTERS.items():
                if func == getattr(Tensor, asked).__get__ and is_on_device(args[0]):
                    return answer
        leaves = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        here = [each for each in leaves if is_on_device(each)]
        away = [each for each in leaves if not is_on_device(each) and each.dim()]
        target = _device_in(args, kwargs)
        if here and away and name not in ANYWHERE and not name.startswith("__get__"):
            raise RuntimeError(f"{name}: expected all tensors on one device, found {DEVICE} and cpu")
        generator = kwargs.get("generator")
        if target == DEVICE and generator is not None and not isinstance(generator, GeneratorOnDevice):
            raise RuntimeError(f"{name}: expected a generator of {DEVICE}, found one of {generator.device}")
        self._count(name, args, kwargs, here, leaves, target)
        args, kwargs = tree_map(_at_home, (args, kwargs))
        found = func(*args, **kwargs)
        if name == "cpu" or target == torch.device("cpu"):
            return _as(Tensor, found)
        return _as(OnDevice, found) if here or target == DEVICE else found

    def _count(self, name: str, args: Any, kwargs: Any, here: list[Tensor], leaves: list[Tensor], target: Any) -> None:
        blocks = not kwargs.get("non_blocking", False)
        if here and (name in READS or (target == torch.device("cpu") and name == "to")):
            self._note(name)
        elif name in ("to", "tensor", "as_tensor") and target == DEVICE and not here and blocks:
            self._note(f"{name}, blocking,")
        elif name == "to" and here and len(leaves) > 1 and not is_on_device(args[0]) and blocks:
            self._note("to, blocking,")
        elif name == "copy_" and len(here) == 1 and blocks:
            self._note("copy_, blocking,")
        elif name in ("__getitem__", "__setitem__") and is_on_device(args[0]):
            places = [each for each in tree_leaves(args[1]) if isinstance(each, Tensor)]
            values = name == "__getitem__" or (len(args) > 2 and isinstance(args[2], Tensor))
            if any((each.dtype == torch.bool and values) or (each.dim() and not is_on_device(each)) for each in places):
                self._note(name)
        elif here and _counts_its_result(name, args, kwargs):
            self._note(name)

    def _note(self, what: str) -> None:
        frame: Any = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
            if "/transformers/" in frame.f_code.co_filename:
                return  # the model's own waiting
            frame = frame.f_back
        if frame is not None:
            self.waits[f"{what} in {frame.f_code.co_name}"] += 1


def _counts_its_result(name: str, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether only the device knows how long the result is."""
    if name == "repeat_interleave":
        return is_on_device(args[-1]) and "output_size" not in kwargs
    return name == "where" and len(args) + len(kwargs) == 1


def _device_in(args: Any, kwargs: Mapping[str, Any]) -> torch.device | None:
    for each in (kwargs.get("device"), *args):
        if isinstance(each, (torch.device, str)) and str(each).split(":")[0] in ("cpu", DEVICE.type):
            found = torch.device(each)
            return DEVICE if found.type == DEVICE.type else found
        if is_on_device(each) and each is not args[0]:
            return None
    return None


def _at_home(each: Any) -> Any:
    return "cpu" if isinstance(each, (torch.device, str)) and str(each).startswith(DEVICE.type) else each


def _as(kind: type[Tensor], found: Any) -> Any:
    def one(each: Any) -> Any:
        whole = isinstance(each, Tensor) and not isinstance(each, nn.Parameter)
        return each.as_subclass(kind) if whole and type(each) is not kind else each

    if isinstance(found, Tensor):
        return one(found)
    holds = isinstance(found, (tuple, list, dict)) and not isinstance(found, torch.Size)
    return tree_map(one, found) if holds else found
