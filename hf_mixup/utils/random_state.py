"""The state of every random generator that a model may draw from, to draw the same once more."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import nn

COUNTED: WeakSet[Any] = WeakSet()
"""Objects that draw by a count of their own (`augment.keys.Keys`): their attributes are state, too."""


class RandomState:
    """Where torch (on the CPU and where the model lies), NumPy and Python stand: layers mask and drop by all three.

    >>> state = RandomState(nn.Linear(1, 1))
    >>> drawn = torch.rand(3), np.random.rand()
    >>> with state.again():
    ...     same = torch.rand(3), np.random.rand()
    >>> bool((drawn[0] == same[0]).all()), drawn[1] == same[1]
    (True, True)
    """

    def __init__(self, model: nn.Module) -> None:
        self._devices = sorted({str(each.device) for each in model.parameters() if each.device.type == "cuda"})
        self._state = self._read()

    def _read(self) -> tuple[Any, ...]:
        own = [torch.cuda.get_rng_state(device) for device in self._devices]
        counts = [(each, dict(vars(each))) for each in COUNTED]
        return torch.get_rng_state(), own, np.random.get_state(), random.getstate(), counts

    def _write(self, state: tuple[Any, ...]) -> None:
        cpu, own, numpy, python, counts = state
        torch.set_rng_state(cpu)
        for device, each in zip(self._devices, own):
            torch.cuda.set_rng_state(each, device)
        np.random.set_state(numpy)
        random.setstate(python)
        for each, attributes in counts:
            vars(each).update(attributes)

    def restore(self) -> None:
        """Draw as from the moment this object was made."""
        self._write(self._state)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw as from the moment this object was made; afterwards go on from where the generators stood."""
        now = self._read()
        self._write(self._state)
        try:
            yield
        finally:
            self._write(now)


@contextmanager
def drawing_aside(model: nn.Module, seed: int) -> Iterator[None]:
    """Draw the same each time, as from this seed; afterwards go on as if nothing had been drawn.

    >>> with drawing_aside(nn.Linear(1, 1), seed=0):
    ...     one = torch.rand(3)
    >>> with drawing_aside(nn.Linear(1, 1), seed=0):
    ...     bool((torch.rand(3) == one).all())
    True
    """
    with RandomState(model).again():
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        for each in COUNTED:
            each.set_epoch(-1)
        yield
