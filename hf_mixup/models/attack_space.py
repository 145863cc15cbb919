"""Where a batch can be moved by the gradient of its loss: its float inputs, or the embeddings of its tokens."""

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


@dataclass(frozen=True)
class Space:
    """What may be moved of a batch, as one tensor.

    Args:
        x: where the rows are, floats [B, ...]: the input, several of them side by side [B, N], or zeros
            [B, T, H] for what is added to the embeddings of tokens.
        mask: what is no padding, bool, broadcast to x; None for all.
        named: points of x's shape, or several of them [K, B, ...] -> the same by the names of the inputs.
    """

    x: Tensor
    mask: Tensor | None
    named: Callable[[Tensor], dict[str, Tensor]]


def attack_space(model: nn.Module, batch: Mapping[str, Any], keys: list[str] | None) -> Space:
    """Return what may be moved of a batch.

    Args:
        keys: its float inputs; None for the embeddings of its tokens.

    Raises:
        ValueError: for tokens that the model reads in no table, or a mask that is not theirs.
    """
    if keys is None:
        seen, ids = token_mask(batch), batch[IDS]
        x = torch.zeros(*ids.shape, word_table(model, batch)[1], device=ids.device)
        return Space(x, None if seen is None else seen[..., None], lambda points: {IDS: points})
    values = [batch[key] for key in keys]
    masks = [visible_mask(batch, value) for value in values]
    if len(keys) == 1:
        return Space(values[0], masks[0], lambda points: {keys[0]: points})
    sizes = [value[0].numel() for value in values]
    mask = None
    if any(each is not None for each in masks):
        whole = [torch.ones_like(v, dtype=torch.bool) if m is None else m.expand_as(v) for v, m in zip(values, masks)]
        mask = torch.cat([each.flatten(1) for each in whole], dim=1)

    def named(points: Tensor) -> dict[str, Tensor]:
        parts = zip(keys, points.split(sizes, dim=-1), values)
        return {key: part.reshape(*part.shape[:-1], *value.shape[1:]).to(value.dtype) for key, part, value in parts}

    return Space(torch.cat([value.flatten(1) for value in values], dim=1), mask, named)


@contextmanager
def logits_at_points(model: nn.Module, batch: Mapping[str, Any], space: Space) -> Iterator[Callable[[Tensor], Tensor]]:
    """Run a model at other points of a space: yields points [B, ...] -> logits, for gradients by the points.

    The model is in evaluation mode, and nothing of its passes is left: no gradient on a parameter, no statistics, no
    random numbers used.
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
    """Return the inputs with points [B, ...] by name in their places; those of tokens are armed at the table of words.

    Args:
        partner: long [B], which batch this is (see `MixedBatch`).
    """
    if IDS not in points:
        return {**batch, **points}
    activate_word_noise(model, word_table(model, batch)[0], partner, points[IDS])
    return dict(batch)
