"""The entries of a batch that hold labels, of whatever kind, and those of other samples."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn
from transformers.utils.generic import find_labels

from hf_mixup.models.adapters import base_model
from hf_mixup.models.batches import count_samples, per_sample, take
from hf_mixup.models.labels import LABEL_KEYS


def label_keys(model: nn.Module) -> set[str]:
    """Return the names of all labels that a model's forward takes, as transformers tells them from its signature.

    >>> from transformers import BertForPreTraining, BertConfig
    >>> tiny = BertConfig(hidden_size=4, num_hidden_layers=0, num_attention_heads=1, intermediate_size=4, vocab_size=9)
    >>> sorted(label_keys(BertForPreTraining(tiny)))
    ['labels', 'next_sentence_label']
    """
    return set(_label_keys_of(type(base_model(model))))  # type: ignore[arg-type]


def labels_needed(model: nn.Module) -> set[str]:
    """Return the names of the labels that a model's forward has no default for.

    >>> from torch.nn import CrossEntropyLoss
    >>> labels_needed(CrossEntropyLoss())
    set()
    """
    parameters = inspect.signature(base_model(model).forward).parameters
    needed = {key for key, each in parameters.items() if each.default is inspect.Parameter.empty}
    return needed & label_keys(model)


@cache  # reading a signature takes as long as blending a small batch
def _label_keys_of(kind: type[nn.Module]) -> frozenset[str]:
    parameters = inspect.signature(kind.forward).parameters
    return frozenset({*find_labels(kind), *(key for key in LABEL_KEYS if key in parameters)})


def split_labels(model: nn.Module, batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs of a batch, and the entries that hold its labels.

    Raises:
        ValueError: if there are no labels, or labels that do not go with samples.
    """
    names = label_keys(model)
    labels = {key: value for key, value in batch.items() if key in names and value is not None}
    inputs = {key: value for key, value in batch.items() if key not in names}
    if not labels:
        raise ValueError(
            f"the batch for {type(model).__name__} has no labels ({', '.join(sorted(names)) or 'it takes none'}); it "
            f"holds: {', '.join(batch) or 'nothing'}"
        )
    count = count_samples(inputs) if any(isinstance(each, Tensor) for each in inputs.values()) else 0
    for key, value in labels.items():
        if not per_sample(key, value, count):
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"{key} ({shape}) has not one item for each of the {count} samples of the batch, so that a sample's "
                "labels cannot be told from its partner's"
            )
    return inputs, labels


def labels_at(labels: Mapping[str, Any], which: Tensor) -> dict[str, Any]:
    """Return the labels of other samples: those of sample which[i] for sample i.

    Args:
        labels: tensors [B, ...], or lists with an item for each sample.
        which: long [B].

    >>> import torch
    >>> labels_at({"labels": torch.tensor([3, 5]), "boxes": ["a", "b"]}, torch.tensor([1, 1]))
    {'labels': tensor([5, 5]), 'boxes': ['b', 'b']}
    """
    return {key: take(value, which) for key, value in labels.items()}
