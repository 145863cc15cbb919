"""The transform for a dataset: one draw a row and step, applied to everything in the row."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .base import Sample, Transform
from .columns import Columns
from .keys import Keys
from .rows import read_row, write_row

_NOT_ALIGNED = (
    "synchronized=False draws for each modality on its own, which breaks their alignment: a mirrored image may keep "
    '"left" in its caption, and audio may come from other seconds than the frames'
)


class SynchronizedAugmentation:
    """Augment rows such that everything in a row stays true of everything else. For `datasets`' `set_transform`.

    Each step draws its parameters once a row and applies them to images, masks, boxes, captions, audio, frames and
    timed text. The next step sees what the one before has made. Columns that `columns` does not name pass through.

    Draws depend on ``seed``, the epoch if `set_epoch` was called, the process of a distributed run, the DataLoader's
    worker, and how many rows were drawn before in it; never on torch's, numpy's or Python's global generators. The
    worker's part is the seed that the DataLoader gives to it, which follows `torch.manual_seed` and is another one in
    each epoch and worker. Hence the same seeds and number of workers give the same rows, and no two epochs and no two
    workers draw alike, with nothing to call. `set_epoch` is for a resumed run without workers. Use it with
    `set_transform`, not with `map(num_proc=...)`, which would freeze one draw and repeat it in each process.

    Args:
        transforms: the steps, in order.
        seed: seed of all draws.
        columns: which column holds what; by default images in ``image`` and captions in ``caption``.
        synchronized: False lets each modality (images, captions, audio, timed text) draw as if it were alone, with a
            warning that this breaks the alignment.

    Raises:
        ValueError: no step; a step that has none of the columns that it works on. When called: see `read_row`, with
            the row's position in the batch.

    >>> import datasets
    >>> from PIL import Image
    >>> from hf_mixup.augment import ColorJitter, Flip
    >>> rows = {"image": [Image.new("RGB", (8, 8))] * 4, "caption": ["a cat to the left of a bright lamp"] * 4}
    >>> data = datasets.Dataset.from_dict(rows)
    >>> data.set_transform(SynchronizedAugmentation([Flip(p=1.0), ColorJitter()], seed=0))
    >>> data[0]["caption"]
    'a cat to the right of a bright lamp'
    """

    def __init__(
        self,
        transforms: Sequence[Transform[Any]],
        seed: int = 0,
        columns: Columns | None = None,
        synchronized: bool = True,
    ) -> None:
        self.transforms, self.columns, self.synchronized = list(transforms), columns or Columns(), synchronized
        self._keys = Keys(seed)
        self._check_transforms()
        if not synchronized:
            warnings.warn(_NOT_ALIGNED, UserWarning, stacklevel=2)

    def _check_transforms(self) -> None:
        if not self.transforms:
            raise ValueError("transforms=[] augments nothing: give at least one, such as Flip()")
        for step in self.transforms:
            if not isinstance(step, Transform):
                raise ValueError(f"transforms holds {step!r}: it must hold transforms such as Flip()")
            if not any(self.columns.names(field) for field in step.needs):
                needs = " or ".join(f"{field}=..." for field in step.needs)
                raise ValueError(f"{type(step).__name__} would change nothing: name its column, Columns({needs})")

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins: from here on, draws depend on nothing that was drawn before.

        A copy of the dataset (`with_transform` makes one) has its own; workers know it if they start afterwards.
        """
        self._keys.set_epoch(epoch)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Augment a batch: column name -> one value a row, as `datasets` hands it to a transform."""
        self.columns.check(batch)
        rows = self._rows(batch)
        new = [self._augment(row, f"row {position}: ") for position, row in enumerate(rows)]
        return {**batch, **{name: [row[name] for row in new] for name in self.columns.changed()}}

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Augment one row: column name -> value."""
        return self._augment(row, "")

    def _rows(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        for name in self.columns.read():
            if not isinstance(batch[name], (list, tuple, np.ndarray, torch.Tensor)):
                raise ValueError(
                    f"column {name!r} holds a {type(batch[name]).__name__} where a batch holds a list with one value a "
                    "row: use .row(...) for a single row"
                )
        lengths = {name: len(batch[name]) for name in self.columns.read()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of a batch differ in length: {lengths}. Use .row(...) for a single row")
        count = next(iter(lengths.values()))
        return [{name: batch[name][position] for name in lengths} for position in range(count)]

    def _augment(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        generator = self._keys.next()
        try:
            sample = read_row(row, self.columns)
            for step in self.transforms:
                sample = _step(step, sample, generator) if self.synchronized else _step_apart(step, sample, generator)
        except ValueError as error:
            raise ValueError(f"{where}{error}") from error
        return write_row(sample, row, self.columns)


def _step(step: Transform[Any], sample: Sample, generator: torch.Generator) -> Sample:
    return step.apply(sample, step.draw(sample, generator))


def _step_apart(step: Transform[Any], sample: Sample, generator: torch.Generator) -> Sample:
    for alone, names in sample.alone():
        changed = _step(step, alone, generator)
        sample = replace(sample, **{name: getattr(changed, name) for name in names})
    return sample
