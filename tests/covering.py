"""Combinations of several axes: enough of them that each pair of values meets, the others under the mark `slow`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import pytest


def covering(*axes: Iterable[Any]) -> list[Any]:
    """Return all combinations for `parametrize`; values that are tuples fill several arguments.

    Those whose places sum to a multiple of the shortest axis' length stay quick. Of three axes, each pair of values of
    two of them then meets once or more often.
    """
    held = [list(axis) for axis in axes]
    shortest = min(map(len, held))
    found = []
    for places in product(*(range(len(axis)) for axis in held)):
        values: list[Any] = []
        for axis, place in zip(held, places):
            values += axis[place] if isinstance(axis[place], tuple) else [axis[place]]
        found.append(pytest.param(*values, marks=[pytest.mark.slow] if sum(places) % shortest else []))
    return found
