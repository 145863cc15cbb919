"""Reading lists of words and numbers from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hf_mixup.utils.suggest import refuse_unknown
from hf_mixup.utils.values import convert_fields


@dataclass
class Checked:
    """Settings that are converted and checked; a suite goes on with checks of its own in `__post_init__`."""

    def __post_init__(self) -> None:
        convert_fields(self)


def words(values: Iterable[str]) -> list[str]:
    """Split what commas join.

    >>> words(["flip,crops:0.9", "dropout"])
    ['flip', 'crops:0.9', 'dropout']
    """
    return [word.strip() for value in values for word in str(value).split(",") if word.strip()]


def chosen(name: str, values: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the words of a setting, each once; refuse one that is not known, naming the nearest."""
    found = words(values)
    if not found:
        raise ValueError(f"{name} names none: choose of {', '.join(known)}")
    refuse_unknown(name, found, known)
    return list(dict.fromkeys(found))


def number(name: str, text: str) -> float:
    """Read a number or a fraction.

    >>> number("eps", "1/4")
    0.25
    """
    try:
        return float(Fraction(str(text)))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{name} has {text!r}: expected a number or a fraction such as 8/255") from None


def check_numbers(name: str, values: Sequence[float], low: float, high: float) -> None:
    """Refuse a list that is empty, or has a number out of range (0 is always out) or twice."""
    if not values:
        raise ValueError(f"{name} names none")
    for value in values:
        if not (low <= value <= high and value > 0):
            raise ValueError(f"{name} has {value:g}: expected numbers {'above' if not low else 'from'} {low} to {high}")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} has a number twice: {list(values)}")
