"""One way to read settings: each value is converted by the type of its field, and checked, wherever it comes from."""

from __future__ import annotations

import math
import os
from dataclasses import Field, field, fields
from functools import lru_cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hf_mixup.utils.suggest import did_you_mean


class Setting(Field):
    """A field of a dataclass that also says which numbers it takes; see `setting`."""

    __slots__ = ("above", "at_least", "at_most", "below")
    above: float | None
    at_least: float | None
    at_most: float | None
    below: float | None


def setting(
    default: Any,
    text: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Declare a setting: a dataclass field with its default, its help text and the numbers that it takes.

    The bounds stand in the field and not in its metadata, which `HfArgumentParser` hands on to argparse as a whole.

    Args:
        default: the value, or a function that makes it (for lists).
        text: what command lines and documents say of it.

    >>> from dataclasses import dataclass
    >>> @dataclass(kw_only=True)
    ... class Noise:
    ...     sigma: float = setting(0.1, "Standard deviation of the noise.", at_least=0)
    ...
    ...     def __post_init__(self):
    ...         check_settings(self)
    >>> Noise(sigma=-1)
    Traceback (most recent call last):
    ...
    ValueError: sigma=-1.0: expected a number from 0 on
    """
    made = field(default_factory=default) if callable(default) else field(default=default)
    own = Setting.__new__(Setting)
    for name in Field.__slots__:
        setattr(own, name, getattr(made, name))
    own.metadata = MappingProxyType({"help": text})
    own.at_least, own.above, own.at_most, own.below = at_least, above, at_most, below
    return own


def check_settings(filled: Any) -> None:
    """Convert and check all fields of a dataclass, see `convert_fields`, and refuse lists that name nothing.

    Raises:
        ValueError: for a value of another type or outside its range, or an empty list.
    """
    convert_fields(filled)
    for each in fields(filled):
        if getattr(filled, each.name) == [] and each.default is None:
            raise ValueError(f"{each.name}=[] names nothing: leave it unset for the default")


def _check_bounds(declared: Setting, value: Any) -> None:
    if value is None or isinstance(value, (bool, str)):
        return
    low, above, high, below = (getattr(declared, name) for name in ("at_least", "above", "at_most", "below"))
    inside = (low is None or value >= low) and (above is None or value > above)
    if not inside or (high is not None and value > high) or (below is not None and value >= below):
        number = "a whole number" if isinstance(value, int) else "a number"
        raise ValueError(f"{declared.name}={value!r}: expected {number} {_range(low, above, high, below)}")


def _range(low: float | None, above: float | None, high: float | None, below: float | None) -> str:
    """Return a range in words.

    >>> _range(0, None, 1, None), _range(0, None, None, 1), _range(1, None, None, None), _range(None, 0, None, None)
    ('in [0, 1]', 'in [0, 1)', 'from 1 on', 'above 0')
    """
    if high is None and below is None:
        return f"from {low} on" if above is None else f"above {above}"
    start = f"[{low}" if above is None else f"({above}"
    return f"in {start}, {high}]" if below is None else f"in {start}, {below})"


_YES, _NO = ("true", "yes", "on", "t", "y", "1"), ("false", "no", "off", "f", "n", "0")


def convert_fields(filled: Any) -> None:
    """Give each field of a dataclass a value of the type that it is declared with, and check its range.

    What is obviously meant is converted: numbers and truth values given as text, the scalars of numpy and torch, whole
    numbers given as 4.0, tuples and arrays for lists, and one value for a list of one. Call it in `__post_init__`.

    Raises:
        ValueError: for any other value, or one out of range, naming the field, the value and what is expected.

    >>> from hf_mixup import MixupConfig
    >>> MixupConfig("manifold", alpha="1e-3", layers=1, self_check="false").layers
    [1.0]
    >>> MixupConfig(prob=None)
    Traceback (most recent call last):
    ...
    ValueError: prob=None: expected a number
    """
    own: Any = type(filled)
    for name, kind in _types_of(own).items():
        setattr(filled, name, convert(name, getattr(filled, name), kind))
    for each in fields(filled):
        if isinstance(each, Setting):
            value = getattr(filled, each.name)
            for number in value if isinstance(value, list) else [value]:
                _check_bounds(each, number)


@lru_cache
def _types_of(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def convert(name: str, value: Any, kind: Any) -> Any:
    """Return a value as a type: `str`, `bool`, `int`, `float`, `Literal`, a list of such, or one of these or None.

    Raises:
        ValueError: if it is none, naming the field.

    >>> convert("grid", 4.0, int), convert("keys", "pixel_values", list[str] | None), convert("lam", 0, float)
    (4, ['pixel_values'], 0.0)
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    value = _plain(value)
    if value is None and NoneType in kinds:
        return None
    wanted = [each for each in kinds if each is not NoneType]
    if len(wanted) > 1:  # a mapping or its text: whoever declares it reads it
        return value
    return _one(name, value, wanted[0])


def _plain(value: Any) -> Any:
    """Return a path as text, and arrays and scalars of numpy and torch as lists and numbers."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") and not isinstance(value, type) else value


def _one(name: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is list:
        several = list(value) if isinstance(value, (list, tuple)) else [value]
        return [convert(name, each, *get_args(kind)) for each in several]
    if get_origin(kind) is Literal:
        if value in (names := get_args(kind)) and isinstance(value, str):
            return value
        raise ValueError(f"{name}={value!r} is not known: {did_you_mean(str(value), names)}")
    read, expected = _READ[kind]
    try:
        return read(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}={value!r}: expected {expected}") from None


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError
    return str(value)


def _truth(value: Any) -> bool:
    word = str(value).lower() if isinstance(value, (bool, int, str)) else ""
    if word not in (*_YES, *_NO):
        raise ValueError
    return word in _YES


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or not math.isfinite(float(value)):
        raise ValueError
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value  # a large one is no float
    if _number(value) != int(_number(value)):
        raise ValueError
    return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else int(_number(value))


_READ: dict[Any, tuple[Any, str]] = {
    str: (_text, "a text"),
    bool: (_truth, "true or false"),
    int: (_whole, "a whole number"),
    float: (_number, "a number"),
}
