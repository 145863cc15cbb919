"""Blending token embeddings: at every table that is read for each sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.models.adapters import learns_prompts
from hf_mixup.models.batches import DECODER_IDS, IDS, visible_tokens
from hf_mixup.models.hooks import MixHook, blend_states, hooks_of
from hf_mixup.models.labels_given import is_given
from hf_mixup.models.probe import eval_without_side_effects, full_pair
from hf_mixup.models.trace import Call, batch_axis, map_tensors, tensors_in, watch, watch_pair

Ids = Literal["own", "longer"]
POSITIONS = "position_ids"


@dataclass(frozen=True)
class Lookup:
    """One lookup in a table during a forward pass.

    Args:
        module: the table: words, token types, positions counted from the ids, boxes, ...
        number: which of its calls in the pass.
        axis: the axis of the samples in its output.
        key: the model input whose tokens it looks up, or which has as many tokens.
        shift: by how many positions that input is moved to the right beforehand (a decoder starts with another token),
            None if it is changed in another way.
        tokens: whether it looks up one entry a token, [B, T]; else (relations of tokens, one entry a sample) the whole
            sample is blended with one weight.
        once: whether it is the table's only lookup in the pass.
    """

    module: nn.Module
    number: int
    axis: int
    key: str
    shift: int | None
    tokens: bool
    once: bool


class TableHook(MixHook):
    """A table whose lookups are blended, each with the weights of its own tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: dict[int, tuple[int, Tensor]] = {}
        self.once = True

    def plan_lookup(self, lookup: Lookup, partner: Tensor, weight: Tensor) -> TableHook:
        """Make the next forward pass blend this lookup, besides those planned already."""
        if not self.on:
            self.activate(partner, weight)
            self.plan = {}
        self.plan[lookup.number], self.once = (lookup.axis, weight), lookup.once
        return self

    def _blend_nested(self, states: Any, module: nn.Module) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if not self.once and number not in self.plan:
            return states
        axis, weight = self.plan[0 if self.once else number]

        def blend(each: Tensor) -> Tensor:
            if not each.is_floating_point() or each.dim() <= axis:  # a scale beside quantised embeddings
                return each
            longer = each.shape[axis + 1] - weight.shape[-1] if weight.dim() > 1 and axis == 0 else 0
            if longer < 0 and bool((each == each[:1]).all()):
                # The same for all samples, such as the types of patches: when the tables were found, the samples had as
                # many tokens by chance.
                return each
            # The model may add padding of its own.
            padded = F.pad(weight, (0, longer), value=1.0) if longer > 0 else weight
            return blend_states(each, self.partner, padded, axis)

        return map_tensors(states, blend)


class IdsHook(MixHook):
    """The input of a table that is given the sample's own ids, where the rest of the model is given others."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: Tensor | None = None
        self.shifts: dict[int, int] = {}

    def plan_ids(self, lookup: Lookup, ids: Tensor, partner: Tensor, weight: Tensor) -> IdsHook:
        """Make the next forward pass look up these ids here, whatever the model is given."""
        if not self.on:
            self.activate(partner, weight)
            self.shifts = {}
        self.ids, self.shifts[lookup.number] = ids, lookup.shift or 0
        return self

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if not self._blends_now() or self.ids is None or number not in self.shifts:
            return None
        name = "" if args else next(iter(kwargs))
        given, ids = args[0] if args else kwargs[name], self.ids
        if self.shifts[number]:
            ids = torch.cat([given[:, :1], ids[:, :-1]], dim=1)
        ids = ids if given.shape == ids.shape else ids.mT
        return ((ids, *args[1:]), kwargs) if args else (args, {**kwargs, name: ids})


def tables(model: nn.Module) -> list[nn.Module]:
    """Return the modules that could be tables: modules without children, or adapted by PEFT."""
    adapted = {module.base_layer: module for module in model.modules() if hasattr(module, "base_layer")}
    prompts = learns_prompts(model)
    modules = [m for m in model.modules() if m not in prompts]
    leaves = [m for m in modules if isinstance(m, nn.Embedding) or not any(True for _ in m.children())]
    return list(dict.fromkeys(adapted.get(leaf, leaf) for leaf in leaves))


def install_tables(model: nn.Module, kind: type[MixHook] = TableHook) -> bool:
    """Register the hooks of all modules that look like tables, before the model is compiled; whether there are any."""
    found = [module for module in tables(model) if "Embed" in type(getattr(module, "base_layer", module)).__name__]
    for module in found:
        hooks_of(model).after(module, kind)
    return bool(found)


def lookups_of(model: nn.Module, inputs: Mapping[str, Any]) -> list[Lookup]:
    """Return the lookups in tables; found by running two samples of the batch at first use, then cached."""
    cache = hooks_of(model).cache
    key = f"lookups of {', '.join(sorted(inputs))}"
    if key not in cache:
        with eval_without_side_effects(model):
            cache[key] = _find(model, full_pair(inputs, model))
    return cache[key]


def words_of(model: nn.Module, inputs: Mapping[str, Any]) -> Lookup | None:
    """Return the lookup in the table of words, that is, of `input_ids` as they are; None if there is none."""
    lookups = lookups_of(model, inputs)
    return next((each for each in lookups if each.key == "input_ids" and each.shift == 0 and each.tokens), None)


def _find(model: nn.Module, pair: dict[str, Any]) -> list[Lookup]:
    pairs = [(both, one) for both, one in watch_pair(model, pair, tables(model)) if is_lookup(both)]
    counted = _counted_from_mask(model, pair, [both for both, _ in pairs])
    modules = [both.module for both, _ in pairs]
    found = []
    choices = isinstance(pair.get(IDS), Tensor) and pair[IDS].dim() == 3  # whose rows hold all choices of two samples
    for both, one in pairs:
        index, states = both.given[0], next(tensors_in(both.output))
        axis = batch_axis(states, next(tensors_in(one.output)))
        of_samples = batch_axis(index, one.given[0])
        if axis is None or of_samples is None or (both.module, both.number) in counted:
            continue  # the same for every sample, or right as soon as the mask is
        if not choices and _is_geometry(index, of_samples):
            continue
        if _is_padding(index, pair) or is_given(model, index):
            continue
        key, shift = _source(index, pair)
        once = modules.count(both.module) == 1
        found.append(Lookup(both.module, both.number, axis, key, shift, tokens=states.dim() == 3, once=once))
    return found


def is_lookup(call: Call) -> bool:
    """Whether this is a lookup in a table: integers in, floats out, one vector for each integer."""
    given = call.given[0] if call.given else None
    if not isinstance(given, Tensor) or given.is_floating_point() or given.dim() == 0:
        return False
    states = next(tensors_in(call.output), None)
    return states is not None and states.is_floating_point() and states.dim() > given.dim()


def _is_geometry(index: Tensor, axis: int) -> bool:
    """Whether these are the places of patches, of all samples in one row: partners have the same grids, and so these.

    >>> places = torch.tensor([[0, 1, 2, 0, 1, 2], [1, 2, 3, 1, 2, 3]])  # the corners around each of two samples'
    >>> _is_geometry(places, axis=1), _is_geometry(places[:, :2], axis=1)
    (True, False)
    """
    return index.shape[axis] > 2 and torch.equal(*index.chunk(2, axis))


def _is_padding(index: Tensor, pair: Mapping[str, Any]) -> bool:
    """Whether these are ids that the model itself pads with: all equal, and in another number."""
    if any(isinstance(value, Tensor) and _equal(index, value) for value in pair.values()):
        return False
    lengths = {size for key, value in pair.items() if key.endswith("input_ids") for size in value.shape[1:]}
    return index.shape[-1] not in lengths and bool((index == index.flatten()[0]).all())


def _counted_from_mask(model: nn.Module, pair: dict[str, Any], calls: list[Call]) -> set[tuple[nn.Module, int]]:
    """Return the lookups that change with the mask: positions that are counted from it.

    They are right as soon as the mask is that of the mixed samples, and blending them would count it twice.
    """
    mask = pair.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.shape[1] < 3:
        return set()
    other = mask.clone()
    other[:, : mask.shape[1] // 2] = 0
    modules = {call.module for call in calls}
    try:
        seen = watch(model, {**pair, "attention_mask": other}, modules)
    except (RuntimeError, ValueError, IndexError):  # each token of an image has to be seen
        return set()
    changed = {(call.module, call.number): call.given[0] for call in seen}
    return {key for call in calls if _differs(call.given[0], changed.get(key := (call.module, call.number)))}


def _differs(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and not _equal(one, other)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _source(index: Tensor, pair: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return the model input that a table looks up, and by how many positions it is moved; see `Lookup`."""
    positions = pair.get(POSITIONS)
    if isinstance(positions, Tensor) and _equal(index, positions):
        return POSITIONS, 0
    ids = {key: value for key, value in pair.items() if key.endswith("input_ids") and isinstance(value, Tensor)}
    for key, value in ids.items():
        shift = _shift(index, value)
        if shift is not None:
            return key, shift
    return next((key for key, value in ids.items() if value.shape[-1] in index.shape), "input_ids"), None


def _shift(index: Tensor, ids: Tensor) -> int | None:
    """Return by how many positions these ids are moved to the right in an index; None where it holds others."""
    flat = ids.reshape(-1, ids.shape[-1])
    if any(_equal(index, layout) for layout in (ids, flat, ids.mT)):
        return 0
    if index.dim() == 2 and _equal(index[:, : flat.shape[1]], flat):
        return 0  # behind it the model adds padding of its own
    return 1 if index.shape == flat.shape and torch.equal(index[:, 1:], flat[:, :-1]) else None


def activate_embeddings(
    model: nn.Module, batch: Mapping[str, Any], partner: Tensor, lam: Tensor, ids: Ids = "own"
) -> dict[str, Any]:
    """Activate the hooks of the tables; return the inputs with the mask of the mixed samples.

    Args:
        ids: which ids the rest of the model is given: the sample's own, or those of the longer of the two samples.

    Raises:
        ValueError: for a mask that is neither [B, T] nor [B, 1, T, T].
    """
    lookups, hooks = lookups_of(model, batch), hooks_of(model)
    inputs, weights = _united(batch, partner, lam)
    if ids == "longer":
        inputs["input_ids"] = _longer(batch, partner, lam)
    for lookup in lookups:
        weight = weights.get(lookup.key, lam) if lookup.tokens else lam
        hook = hooks.after(lookup.module, TableHook).plan_lookup(lookup, partner, weight)
        hooks.track(hook)
        changed = inputs.get(lookup.key) is not batch.get(lookup.key)
        if changed and lookup.shift is not None:
            hooks.track(hooks.before(lookup.module, IdsHook).plan_ids(lookup, batch[lookup.key], partner, lam))
    return inputs


def _united(batch: Mapping[str, Any], partner: Tensor, lam: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the inputs with united masks, and the weights of the sample's own tokens, by input."""
    inputs, weights = dict(batch), {}
    for key, mask_key in (("input_ids", "attention_mask"), (DECODER_IDS, "decoder_attention_mask")):
        mask, seen = batch.get(mask_key), visible_tokens(batch, mask_key)
        if mask is None or seen is None or batch.get(key) is None:  # the mask of audio frames or of patches
            continue
        if seen.shape != batch[key].shape:
            raise ValueError(
                f"method 'embedding' needs an {mask_key} [B, T] or [B, 1, T, T] for {key} {list(batch[key].shape)}, "
                f"found {list(mask.shape)}"
            )
        inputs[mask_key], weights[key] = unite_masks(seen, seen[partner], lam)
        if mask.dim() == 4:
            inputs[mask_key] = _united_4d(mask, partner, lam)
    ids, positions = batch.get("input_ids"), batch.get(POSITIONS)
    if isinstance(ids, Tensor) and isinstance(positions, Tensor) and positions.shape == ids.shape and ids.dim() == 2:
        # The positions of the sample with more tokens: the tokens of both lie at them.
        inputs[POSITIONS] = _longer(batch, partner, lam, POSITIONS)
        weights[POSITIONS] = weights.get("input_ids", lam)
    return inputs, weights


def _united_4d(mask: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    """Return the union of both samples' masks [B, 1, T, T]; a sample without a share adds nothing."""
    share, other = lam.reshape(-1, 1, 1, 1), mask[partner]
    either = torch.where(share < 1, other, mask).maximum(torch.where(share > 0, mask, other))
    return either.to(mask.dtype)


def unite_masks(own_mask: Tensor, other_mask: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Return the union of both samples' masks [B, T] and the own sample's weight at each position [B, T].

    A sample with no share (lam = 0 or 1) adds nothing to the union, so both ends are exact for any lengths.
    """
    share = lam.reshape(-1, *(1,) * (own_mask.dim() - 1))
    own = own_mask.bool() & (share > 0)
    other = other_mask.bool() & (share < 1)
    weight = torch.where(own & ~other, 1.0, torch.where(other & ~own, 0.0, share))
    return (own | other).to(own_mask.dtype), weight


def _longer(batch: Mapping[str, Any], partner: Tensor, lam: Tensor, key: str = "input_ids") -> Tensor:
    """Return for each sample the ids (or positions) of the longer of the two that have a share in it, [B, T]."""
    values, seen = batch[key], visible_tokens(batch)
    lengths = torch.zeros_like(partner) if seen is None else seen.sum(-1)
    other = (lam == 0) | ((lam < 1) & (lengths[partner] > lengths))
    if key == "input_ids":
        # Samples of equal length keep their own ids: then the self-check finds a model that does more with them.
        other &= lengths[partner] != lengths
    return torch.where(other[:, None], values[partner], values)


def refuse_no_table(model: nn.Module) -> None:
    """Refuse to mix embeddings in a model without a table.

    Raises:
        ValueError: naming the methods that fit.
    """
    raise ValueError(
        f"{type(model).__name__} has no table of token embeddings to mix at: use method='mixup' for float inputs "
        "or 'manifold' for hidden states"
    )
