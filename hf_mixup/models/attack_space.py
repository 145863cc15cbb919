"""The inputs that an attack perturbs: the float inputs of a batch, or the embeddings of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.axes import visible_mask
from hf_mixup.models.batches import count_samples
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.noise import IDS, activate_word_noise, token_mask, word_table
from hf_mixup.models.outputs import logits_of
from hf_mixup.models.probe import eval_without_side_effects
from hf_mixup.models.trace import tensors_in


@dataclass(frozen=True)
class AttackSpace:
    """The inputs that may be perturbed, as one tensor.

    Args:
        x: the samples, floats [B, ...]: the input, several inputs side by side [B, N], or zeros [B, T, H] for a
            perturbation of token embeddings.
        mask: bool, False for padding, broadcasts to x; None for no padding.
        named: points of x's shape, or several of them [K, B, ...] -> the same by the names of the inputs.
    """

    x: Tensor
    mask: Tensor | None
    named: Callable[[Tensor], dict[str, Tensor]]


def attack_space(model: nn.Module, batch: Mapping[str, Any], keys: list[str] | None) -> AttackSpace:
    """Return the inputs of a batch that may be perturbed.

    Args:
        keys: its float inputs; None for the embeddings of its tokens.

    Raises:
        ValueError: for tokens that the model looks up in no table, or a mask of another shape.
    """
    if keys is None:
        seen, ids = token_mask(batch), batch[IDS]
        x = torch.zeros(*ids.shape, word_table(model, batch)[1], device=ids.device)
        return AttackSpace(x, None if seen is None else seen[..., None], lambda points: {IDS: points})
    values = [batch[key] for key in keys]
    masks = [visible_mask(batch, value) for value in values]
    if len(keys) == 1:
        return AttackSpace(values[0], masks[0], lambda points: {keys[0]: points})
    sizes = [value[0].numel() for value in values]
    mask = None
    if any(each is not None for each in masks):
        whole = [torch.ones_like(v, dtype=torch.bool) if m is None else m.expand_as(v) for v, m in zip(values, masks)]
        mask = torch.cat([each.flatten(1) for each in whole], dim=1)

    def named(points: Tensor) -> dict[str, Tensor]:
        parts = zip(keys, points.split(sizes, dim=-1), values)
        return {key: part.reshape(*part.shape[:-1], *value.shape[1:]).to(value.dtype) for key, part, value in parts}

    return AttackSpace(torch.cat([value.flatten(1) for value in values], dim=1), mask, named)


def words_in(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Return the embeddings of a batch's tokens as the table of words has them, [B, T, H], without a graph."""
    with torch.no_grad():
        return next(tensors_in(word_table(model, batch)[0].module(batch[IDS])))


@contextmanager
def logits_at_points(
    model: nn.Module, batch: Mapping[str, Any], space: AttackSpace
) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield a function: points [B, ...] -> the model's logits there, for gradients with respect to the points.

    The model is in evaluation mode, and its passes have no side effects: on gradients of parameters, statistics or
    random state.
    """
    whole = torch.arange(count_samples(batch), device=space.x.device)

    def logits_at(points: Tensor) -> Tensor:
        logits = logits_of(model(**with_points(model, batch, space.named(points), whole)))
        hooks_of(model).forget()
        return logits

    with eval_without_side_effects(model):
        yield logits_at


def with_points(
    model: nn.Module, batch: Mapping[str, Any], points: Mapping[str, Tensor], partner: Tensor
) -> dict[str, Any]:
    """Return the inputs replaced by points [B, ...] by name; those of tokens are added at the table of words.

    Args:
        partner: long [B]; it identifies the batch (see `MixedBatch`).
    """
    if IDS not in points:
        return {**batch, **points}
    activate_word_noise(model, word_table(model, batch)[0], partner, points[IDS])
    return dict(batch)
