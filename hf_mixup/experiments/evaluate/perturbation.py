"""One perturbation of the test rows, and the rows that it is made from."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hf_mixup.experiments.evaluate.image_changes import ChangedImages, ImageCache, ImageChange
from hf_mixup.experiments.evaluate.scorer import BatchChange
from hf_mixup.experiments.evaluate.text_changes import TextChange, changed_texts
from hf_mixup.experiments.tasks.arguments import IMAGE, TaskArguments
from hf_mixup.experiments.tasks.prepared import Prepared


@dataclass(frozen=True)
class Perturbation:
    """One cell of a suite: a family of perturbations at one level.

    Attributes:
        rows: name of a split -> its perturbed rows (for an attack, the rows as they are).
        change: for an attack, the change of a batch.
        settings: what else it depends on.
    """

    suite: str
    family: str
    level: float
    rows: Callable[[str], Any]
    change: BatchChange | None = None
    settings: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Source:
    """The rows of a task, and the seed of their perturbations; `cache` keeps images for the next model."""

    prepared: Prepared
    task: TaskArguments
    seed: int
    cache: ImageCache | None = None

    def perturbation(self, suite: str, family: str, level: float, change: Any) -> Perturbation:
        """Return a change of each image or text."""
        name = (suite, family, level)
        rows: Any = self.images if self.task.task == IMAGE else self.texts
        return Perturbation(*name, rows=lambda split: rows(split, change, *name))

    def attack(self, suite: str, family: str, level: float, change: BatchChange, steps: int) -> Perturbation:
        """Return an attack on each batch, for which the model is known."""
        settings = (steps,) if family == "pgd" else ()
        return Perturbation(suite, family, level, self.prepared.evaluated.__getitem__, change, settings)

    def entropy(self, *name: object) -> tuple[int, int]:
        """Return what draws follow from: the same for every order and choice of the suites."""
        return self.seed, zlib.crc32(" ".join(map(str, name)).encode())

    def images(self, split: str, change: ImageChange, *name: object) -> ChangedImages:
        """Return the rows of a split with changed images; the name tells their draws from others."""
        rows, processor = self.prepared.evaluated[split], self.prepared.processing_class
        return ChangedImages(rows, processor, change, self.entropy(*name), self.cache)

    def texts(self, split: str, change: TextChange, *name: object) -> Any:
        """Return the rows of a split with changed texts; the name tells their draws from others."""
        rows = self.prepared.splits.evaluated[split]
        changed = changed_texts(rows, self.task.input_column, change, self.entropy(*name))
        return self.task.samples(changed, self.prepared.processing_class)
