"""A second reading of the training data, which the first one never notices."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hf_mixup.engine.all_gather import process_index, world_size


class ReadOnceError(ValueError):
    """The training data cannot be read beside training."""


def clean_batches(loader: Any, samples: int, seed: int) -> Iterable[Any]:
    """Return batches of a training loader's own data, of about so many samples, from a loader of their own.

    The batches are those that a copy of the loader's sampler gives, spread over the whole epoch, for a sampler may go
    through the data in an order; the same ones each time. A stream is read anew from its beginning. What is no
    DataLoader is iterated as it is.

    Args:
        loader: a DataLoader, prepared by Accelerate or not, or any iterable of batches.
        seed: of copied generators.

    Raises:
        ReadOnceError: for a stream that can be read only once.

    >>> loader = DataLoader(range(8), batch_size=2, shuffle=True, generator=torch.Generator())
    >>> one, other = (list(clean_batches(loader, 4, seed=0)) for _ in range(2))
    >>> len(one), all(bool((a == b).all()) for a, b in zip(one, other))
    (2, True)
    """
    if not hasattr(loader, "dataset") or not hasattr(loader, "collate_fn"):
        return loader
    dataset = loader.dataset
    own: dict[str, Any] = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
    if isinstance(dataset, IterableDataset):
        _refuse_read_once(dataset)
    elif loader.batch_sampler is not None:
        own = {"batch_sampler": _spread(loader.batch_sampler, dataset, samples, seed)}
    else:  # the dataset is asked for whole batches
        own = {"batch_size": None, "sampler": _spread(loader.sampler, dataset, samples, seed)}
    names = ("collate_fn", "num_workers", "timeout", "worker_init_fn", "multiprocessing_context")
    own |= {name: getattr(loader, name) for name in names} | {"generator": torch.Generator().manual_seed(seed)}
    return DataLoader(dataset, **own)


def _refuse_read_once(dataset: Any) -> None:
    # A dataset that is its own iterator is not asked for one: that may set it back, and training with it.
    if not hasattr(dataset, "__next__"):
        first = iter(dataset)
        if first is not iter(dataset):
            return
    raise ReadOnceError(f"{type(dataset).__name__} can be read only once, and training reads it")


def _spread(sampler: Any, dataset: Any, samples: int, seed: int) -> list[Any]:
    """Return what a sampler gives at even distances in an epoch, as much as holds so many samples."""
    try:
        copied = deepcopy(sampler, {id(dataset): dataset})  # generators and counters with it, the data not
    except TypeError as error:
        raise ReadOnceError(f"{type(sampler).__name__} cannot be copied ({error})") from error
    part = copied
    while part is not None:
        if hasattr(part, "set_epoch"):
            part.set_epoch(0)
        if isinstance(getattr(part, "generator", None), torch.Generator):
            part.generator.manual_seed(seed)
        part = getattr(part, "batch_sampler", None) or getattr(part, "sampler", None)
    first = next(iter(copied), None)
    rows = len(first) if isinstance(first, (list, tuple)) else 1
    count = max(1, -(-samples // rows))
    step = max(1, _length(copied) // count)
    chosen = islice(copied, step * process_index() // world_size(), None, step)  # others in each process
    fair = (each for each in chosen if not isinstance(each, (list, tuple)) or 2 * len(each) >= rows)
    return list(islice(fair, count))  # what is left of an epoch may be one sample, which has no statistics


def _length(sampler: Any) -> int:
    try:
        return len(sampler)
    except TypeError:  # nobody knows how long an epoch is
        return 0


def rows_of(batch: Any) -> int:
    """Return how many samples a batch has: the length of its first tensor or list.

    >>> rows_of({"pixel_values": torch.ones(3, 1, 2, 2)})
    3
    """
    if isinstance(batch, Tensor):
        return len(batch)
    values: list[Any] = [*(batch.values() if hasattr(batch, "values") else batch)]
    return next((len(each) for each in values if hasattr(each, "__len__") and getattr(each, "ndim", 1) > 0), 1)
