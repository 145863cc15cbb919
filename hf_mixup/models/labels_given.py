"""Looking into a model that does not run without labels: it is given those of one sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.batches import count_samples
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.label_entries import labels_at

GIVEN = "labels that it is given"  # a key of the cache


@contextmanager
def labels_given(model: nn.Module, labels: Mapping[str, Any]) -> Iterator[None]:
    """Give a model the labels of one sample, whatever samples it is run on, unless it is given others.

    They are the same for all, so that what a decoder makes of them tells no sample from another.

    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> with labels_given(model, {"labels": batch["labels"]}):
    ...     outputs = model(pixel_values=batch["pixel_values"])
    >>> outputs.loss is None
    False
    """

    def fill(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**labels_at(labels, torch.zeros(count_samples(kwargs), dtype=torch.long)), **kwargs}

    cache, handle = hooks_of(model).cache, model.register_forward_pre_hook(fill, with_kwargs=True)
    cache[GIVEN] = labels_at(labels, torch.zeros(2, dtype=torch.long))
    try:
        yield
    finally:
        handle.remove()
        del cache[GIVEN]


def is_given(model: nn.Module, index: Tensor) -> bool:
    """Whether these are the labels that a model is given, for two samples: a decoder's, which go with the labels."""
    given = hooks_of(model).cache.get(GIVEN, {})
    return any(
        isinstance(each, Tensor)
        and each.shape == index.shape
        and each.dim() > 1
        and (torch.equal(each, index) or torch.equal(each[..., :-1], index[..., 1:]))
        for each in given.values()
    )
