"""The streams of a sample: all of its content, blended with one partner and lam wherever each part enters the model.

Floats are blended as they are. What stands for something (ids, boxes on a grid, token types, floats that choose an
entry of a table) is blended where it is looked up. Where that is not exact, since a head reads ids or a part of the
model goes its own way, samples are blended at the fusion point: what enters the first block that sees all of a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_mixup.functional import blend
from hf_mixup.models.batches import MASK, count_samples, packed_axis, per_sample
from hf_mixup.models.blocks import stack_of
from hf_mixup.models.embeddings import is_lookup, tables, unite_masks
from hf_mixup.models.exchange import TOLERANCE, exchange_error
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.inputs import float_keys, is_blendable, is_named_as_input, refuse_integers
from hf_mixup.models.masks import masks_of_floats
from hf_mixup.models.outputs import logits_of
from hf_mixup.models.padding import REFUSALS, mix_embeddings, mix_layer
from hf_mixup.models.probe import eval_without_side_effects, full_pair
from hf_mixup.models.ragged import ragged_rows, spread
from hf_mixup.models.trace import pick_of_two, watch

Entry = Literal["inputs", "fusion"]
ENTRY = "entry of"  # how the keys of what was found begin in the cache


def is_looked_up(batch: Mapping[str, Any]) -> bool:
    """Whether a batch has integers of each sample that stand for something (ids, boxes, types) and are no mask.

    >>> from torch import rand, zeros
    >>> is_looked_up({"pixel_values": rand(2, 3, 4, 4), "bbox": zeros(2, 5, 4).long()})
    True
    >>> is_looked_up({"pixel_values": rand(2, 3, 4, 4), "pixel_mask": zeros(2, 4, 4).long()})
    False
    """
    return any(
        isinstance(value, Tensor)
        and not (value.is_floating_point() or value.is_complex())
        and "mask" not in key
        and not is_named_as_input(key)
        and per_sample(key, value, count_samples(batch))
        for key, value in batch.items()
    )


def blend_inputs(
    batch: Mapping[str, Any],
    partner: Tensor,
    lam: Tensor,
    method: str,
    keys: list[str] | None = None,
    inplace: bool = False,
) -> dict[str, Any]:
    """Return the inputs with every float (or those of `keys`) blended by sample, and the masks of blends.

    Raises:
        ValueError: if there is none.
        TypeError: for integers among `keys`, or images of integers.
    """
    mixed = {**batch, **masks_of_floats(batch, partner, lam)}
    for key in float_keys(batch, len(partner), method, keys):
        mixed[key] = blend(batch[key], partner, lam, inplace=inplace)
    return mixed


def blend_floats(
    model: nn.Module, batch: Mapping[str, Any], partner: Tensor, lam: Tensor, inplace: bool = False
) -> dict[str, Any]:
    """Return the inputs with those floats blended that go with tokens (images, audio), if any; see `blend_inputs`.

    Raises:
        TypeError: for images of integers.
    """
    mixed, stay = {**batch, **masks_of_floats(batch, partner, lam)}, looked_up_floats(model, batch)
    keys = [key for key, value in batch.items() if is_blendable(key, value, len(partner)) and key not in stay]
    refuse_integers(batch, keys)
    for key in keys:
        mixed[key] = blend(batch[key], partner, lam, inplace=inplace)
    for key, rows in ragged_rows(model, batch).items():
        if batch[key].is_floating_point() and key not in stay:
            axis = packed_axis(key, batch[key])
            parts = batch[key].movedim(axis, 0)
            mixed[key] = blend(parts, *spread(partner, lam, rows), inplace=inplace and not axis).movedim(0, axis)
    return mixed


def looked_up_floats(model: nn.Module, batch: Mapping[str, Any]) -> frozenset[str]:
    """Return the floats that choose entries of tables (boxes on a grid, codes of images), by name.

    A blend of them would choose a third entry, and the entries are blended already. Found by running two samples of the
    batch at first use, then cached.
    """
    floats = [key for key, value in batch.items() if isinstance(value, Tensor) and value.is_floating_point()]
    cache, name = hooks_of(model).cache, f"{ENTRY} floats that are looked up, of {', '.join(sorted(batch))}"
    if name not in cache:
        with eval_without_side_effects(model):
            pair = full_pair(batch, model) if floats else {}
            cache[name] = frozenset(key for key in floats if "mask" not in key and _chooses(model, pair, key))
    return cache[name]


def _chooses(model: nn.Module, pair: Mapping[str, Any], key: str) -> bool:
    """Whether tables look up other entries for two samples that have each other's part of an input."""
    modules = tables(model)
    try:
        own, other = (watch(model, each, modules) for each in (pair, {**pair, key: pick_of_two(pair, [1, 0])[key]}))
    except (*REFUSALS, TypeError, KeyError):
        return False
    both = [(one.given[0], two.given[0]) for one, two in zip(own, other) if is_lookup(one)]
    return any(one.shape == two.shape and not torch.equal(one, two) for one, two in both)


def mix_streams(
    model: nn.Module, batch: Mapping[str, Any], partner: Tensor, lam: Tensor, inplace: bool = False
) -> dict[str, Any]:
    """Return the inputs with floats blended, and activate the hooks that blend the rest inside the model.

    Raises:
        ValueError: for samples of different length if the model does not mix those rightly.
    """
    if entry_of(model, batch) == "fusion":
        return blend_at_fusion(model, batch, partner, lam)
    return _blend_at_inputs(model, batch, partner, lam, inplace)


def _blend_at_inputs(
    model: nn.Module, batch: Mapping[str, Any], partner: Tensor, lam: Tensor, inplace: bool = False
) -> dict[str, Any]:
    return mix_embeddings(model, blend_floats(model, batch, partner, lam, inplace), partner, lam)


def blend_at_fusion(model: nn.Module, batch: Mapping[str, Any], partner: Tensor, lam: Tensor) -> dict[str, Any]:
    """Activate the hook of the first block that sees all of a sample; return the inputs with the masks of both samples.

    Raises:
        ValueError: for samples of different length if the model does not mix those rightly.
    """
    mixed, mask = mix_layer(model, stack_of(model, batch), batch, partner, lam, depth=0), batch.get(MASK)
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mixed[MASK] is not mask:  # moved: see `padding`
        return mixed
    return {**mixed, MASK: unite_masks(mask, mask[partner], lam)[0]}


def entry_of(model: nn.Module, batch: Mapping[str, Any]) -> Entry:
    """Return where samples are blended: found by exchanging two samples of the batch at first use, then cached."""
    cache, key = hooks_of(model).cache, f"{ENTRY} {', '.join(sorted(batch))}"
    if key not in cache:
        with eval_without_side_effects(model):
            cache[key] = _first_exact(model, full_pair(batch, model))
    return cache[key]


def forget_entries(model: nn.Module) -> None:
    """Forget where samples are blended, so that it is found anew with samples that differ in more."""
    cache = hooks_of(model).cache
    for key in [key for key in cache if key.startswith(ENTRY)]:
        del cache[key]


def _first_exact(model: nn.Module, pair: dict[str, Any]) -> Entry:
    """Return the first entry at which exchanged samples have each other's outputs; "inputs" where none is."""
    try:
        plain = logits_of(model(**pair))
    except (*REFUSALS, TypeError, KeyError):
        return "inputs"  # what it cannot take is said by the exchange test

    entries: dict[Entry, Any] = {"inputs": _blend_at_inputs, "fusion": blend_at_fusion}
    for entry, apply in entries.items():
        with suppress(*REFUSALS):
            if exchange_error(model, pair, plain, partial(apply, model, pair)) < TOLERANCE:
                return entry
        hooks_of(model).forget()
    return "inputs"
