"""What every transform is: a draw that may look at the whole row, and its deterministic application."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch

from .sample import Sample

P = TypeVar("P")


class Transform(ABC, Generic[P]):
    """A step of `SynchronizedAugmentation`. Subclass it to add one: `draw` may be random, `apply` must not be.

    `needs` names fields of `Columns`; a row must have one of them, or the step would silently do nothing.

    >>> class Upper(Transform[None]):
    ...     needs = ("caption",)
    ...     def draw(self, sample, generator):
    ...         return None
    ...     def apply(self, sample, params):
    ...         return sample.map_captions(str.upper)
    >>> Upper().apply(Sample(captions={"caption": "a cat"}), None).all_captions()
    ['A CAT']
    """

    needs: ClassVar[tuple[str, ...]]

    @abstractmethod
    def draw(self, sample: Sample, generator: torch.Generator) -> P:
        """Draw the parameters for a row, from the generator only."""

    @abstractmethod
    def apply(self, sample: Sample, params: P) -> Sample:
        """Return the row with the parameters applied to all that it holds."""
