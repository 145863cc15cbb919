"""Noise on the inputs of a model: on floats directly, on tokens at the output of the table that looks them up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.models.batches import IDS, MASK
from hf_mixup.models.embeddings import Lookup, install_tables, words_of
from hf_mixup.models.hooks import MixHook, hooks_of
from hf_mixup.models.probe import eval_without_side_effects, full_pair
from hf_mixup.models.trace import map_tensors, tensors_in, watch


class NoiseHook(MixHook):
    """A table with noise added to its output, before that is blended: `weight` holds the noise, [B, T, H]."""

    first = True

    def __init__(self) -> None:
        super().__init__()
        self.number, self.axis, self.once = 0, 0, True

    def plan_lookup(self, lookup: Lookup, partner: Tensor, noise: Tensor) -> NoiseHook:
        """Make the next forward pass add this noise to this lookup."""
        self.number, self.axis, self.once = lookup.number, lookup.axis, lookup.once
        self.activate(partner, noise)
        return self

    def _blend_nested(self, states: Any, module: nn.Module) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if not self.once and number != self.number:
            return states
        return map_tensors(states, self._add)

    def _add(self, states: Tensor) -> Tensor:
        noise = self.weight
        if noise is None or not states.is_floating_point() or states.dim() != 3:
            return states  # a scale beside quantised embeddings
        noise = noise.movedim(0, self.axis)
        longer = states.shape[1 - self.axis] - noise.shape[1 - self.axis]
        if longer:  # the model adds padding of its own
            noise = F.pad(noise, (0, 0, 0, longer) if self.axis == 0 else (0, 0, 0, 0, 0, longer))
        return (states + noise).to(states.dtype)


def install_noise(model: nn.Module) -> None:
    """Register the hooks of all modules that look like tables, before the model is compiled; there may be none."""
    install_tables(model, NoiseHook)


def activate_noise(model: nn.Module, batch: Mapping[str, Any], partner: Tensor, scale: Tensor, seed: int) -> None:
    """Make the next forward pass add noise to the embeddings of the visible tokens.

    Args:
        partner: long [B]; it only identifies the batch (see `MixedBatch`), nothing is exchanged.
        scale: standard deviation of each sample's noise, [B].
        seed: of the noise, which is drawn on the batch's device.

    Raises:
        ValueError: for a model without such a table, or a mask that is not that of the tokens.
    """
    table, ids, seen = word_table(model, batch), batch[IDS], token_mask(batch)
    deviation = scale.reshape(-1, *(1,) * ids.dim()).expand(*ids.shape, 1)
    if seen is not None:
        deviation = deviation * seen[..., None]
    noise = normal((*ids.shape, table[1]), ids.device, torch.float32, seed) * deviation
    activate_word_noise(model, table[0], partner, noise)


def activate_word_noise(model: nn.Module, lookup: Lookup, partner: Tensor, noise: Tensor) -> None:
    """Make the next forward pass add noise [B, T, H] (or [B, choices, T, H]) to a lookup."""
    # The choices of a question are unfolded into samples of their own, side by side.
    noise = noise.flatten(0, -3)
    hooks_of(model).track(hooks_of(model).after(lookup.module, NoiseHook).plan_lookup(lookup, partner, noise))


def token_mask(batch: Mapping[str, Any]) -> Tensor | None:
    """Return which tokens are visible, bool of the shape of the ids; None without a mask.

    Raises:
        ValueError: for a mask of another shape.
    """
    ids, mask = batch[IDS], batch.get(MASK)
    if mask is not None and mask.shape != ids.shape:
        raise ValueError(f"noise on tokens needs an {MASK} {list(ids.shape)}, found {list(mask.shape)}")
    return None if mask is None else mask.bool()


def word_table(model: nn.Module, batch: Mapping[str, Any]) -> tuple[Lookup, int]:
    """Return the lookup of the batch's own ids, and the width of its vectors; cached.

    One table only: noise on words, types and positions would add up to more than was requested.
    """
    cache = hooks_of(model).cache
    key = f"words of {', '.join(sorted(batch))}"
    if key not in cache:
        words = words_of(model, batch)
        if words is None:
            raise ValueError(
                f"{type(model).__name__} looks up its {IDS} in no table as they are, where noise could be added: "
                "use method='manifold'"
            )
        with eval_without_side_effects(model):
            calls = watch(model, full_pair(batch, model), [words.module])
        output = next(tensors_in(next(call.output for call in calls if call.number == words.number)))
        cache[key] = words, output.shape[-1]
    return cache[key]


def noisy(values: Tensor, scale: Tensor, seen: Tensor | None, seed: int, inplace: bool = False) -> Tensor:
    """Return values with normal noise, computed in float32 at least and rounded once.

    Args:
        values: floats [B, ...].
        scale: standard deviation of each sample's noise, [B]; samples with 0 stay as they are, bit for bit.
        seen: bool, False for padding, in a shape that multiplies the values; None for no padding.
        seed: of the noise, which is drawn on the values' device.

    >>> noisy(torch.ones(2, 3), torch.tensor([0.0, 1.0]), None, seed=0)[0]
    tensor([1., 1., 1.])
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    noise = normal(values.shape, values.device, dtype, seed)
    noise *= scale.to(dtype).reshape(-1, *(1,) * (values.dim() - 1))
    if seen is not None:
        noise *= seen
    return values.add_(noise) if inplace else (values + noise).to(values.dtype)


def normal(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, seed: int) -> Tensor:
    """Return standard normal numbers from a new generator: the same for each seed and type of device."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device, dtype=dtype)
