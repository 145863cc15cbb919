"""Heads whose objective is their own, beside an encoder that has to run once: trying them, once, on two samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.self_check import equals_mixed_loss, keeping_problem_type
from hf_mixup.models.adapters import base_model
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.label_entries import label_keys, labels_at
from hf_mixup.models.outputs import loss_of
from hf_mixup.models.probe import contrasting_samples, eval_without_side_effects, full_pair
from hf_mixup.models.replay import Replay
from hf_mixup.utils.random_state import RandomState

HEADS = (
    "ForPreTraining",
    "ForXVector",
    "ForTDT",
    "ForRNNT",
)  # how transformers calls heads with an objective of their own


def has_own_head(model: nn.Module, batch: Mapping[str, Any]) -> bool:
    """Whether the labels of a batch are scored by an objective that no rule covers, on what an encoder said once.

    Words and the order of sentences (BERT), replaced tokens (ELECTRA), speakers told apart by a margin (x-vectors),
    transcripts that a transducer aligns: the model's own loss is taken with each label, as by `loss="own"`. Found at
    the first batch with these entries.
    """
    if not type(base_model(model)).__name__.endswith(HEADS):
        return False
    labels = {key: batch[key] for key in label_keys(model) if isinstance(batch.get(key), Tensor)}
    if not labels:
        return False
    cache, key = hooks_of(model).cache, f"own head of {', '.join(sorted(batch))}"
    if key not in cache:
        inputs = {name: value for name, value in batch.items() if name not in labels}
        cache[key] = encodes_once(model, inputs, labels) and not _is_mixed_anyway(model, inputs, labels)
    return cache[key]


def _is_mixed_anyway(model: nn.Module, inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Whether the model has no loss for these labels, or the one that is mixed."""
    rows = {**full_pair(inputs, model), **labels_at(labels, contrasting_samples(inputs))}
    with eval_without_side_effects(model), keeping_problem_type(model):
        outputs = model(**rows)
        own = loss_of(outputs)
        return own is None or equals_mixed_loss(model, rows, outputs, own)


def encodes_once(model: nn.Module, inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Whether the loss with other labels is the same on what the encoder said before; tried once, on two samples."""
    cache, key = hooks_of(model).cache, f"encodes once {', '.join(sorted((*inputs, *labels)))}"
    if key not in cache:
        try:
            with eval_without_side_effects(model), keeping_problem_type(model):
                cache[key] = _tried(model, inputs, labels)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError):
            return False  # what it cannot take is said by the exchange test
    return cache[key]


def _tried(model: nn.Module, inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    rows, own = full_pair(inputs, model), labels_at(labels, contrasting_samples(inputs))
    others, replay, random = labels_at(own, torch.tensor([1, 0])), Replay(model), RandomState(model)
    with random.again():
        whole = loss_of(model(**rows, **others))
    with random.again(), replay.recording():
        model(**rows, **own)
    with random.again(), replay.again():
        found = loss_of(model(**rows, **others))
    return replay.used and whole is not None and found is not None and torch.equal(whole, found)
