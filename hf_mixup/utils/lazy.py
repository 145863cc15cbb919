"""Modules of a package that load when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from hf_mixup.utils.suggest import did_you_mean


def lazy_modules(package: str, path: Iterable[str], also: Iterable[str] = ()) -> Callable[[str], ModuleType]:
    """Return a `__getattr__` for a package, from its `__name__` and `__path__`: it imports the module of that name.

    Args:
        also: other names of the package, for the error over a wrong one.

    >>> import hf_mixup
    >>> lazy_modules("hf_mixup", hf_mixup.__path__)("utils").__name__
    'hf_mixup.utils'
    """

    def load(name: str) -> ModuleType:
        names = module_names(path)
        if name not in names:
            known = did_you_mean(name, [*names, *also])
            raise AttributeError(f"module {package!r} has no attribute {name!r}; {known}")
        return import_module(f"{package}.{name}")

    return load


def module_names(path: Iterable[str]) -> list[str]:
    """Return the names of a package's public modules, without loading them."""
    return [each.name for each in iter_modules(path) if not each.name.startswith("_")]
