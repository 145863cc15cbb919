"""Two samples of a batch to try a model on, and a way to run the model without side effects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.batches import (
    HEARD,
    IDS,
    MASK,
    count_samples,
    first_pair,
    packed_axis,
    per_sample,
    pick_pair,
    visible_tokens,
)
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.ragged import is_geometry, pick_rows, ragged_rows


@contextmanager
def eval_without_side_effects(model: nn.Module) -> Iterator[None]:
    """Run the model in evaluation mode, without a graph; afterwards modes and random state are as before."""
    training = {module: module.training for module in model.modules()}
    devices = [p.device for p in model.parameters() if p.device.type == "cuda"][:1]
    model.eval()
    try:
        # The uncompiled forward: two samples are another shape, which would cost a compilation.
        with torch.no_grad(), torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        hooks_of(model).forget()
        for module, mode in training.items():
            module.training = mode


def two_samples(inputs: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Return the first two samples of a batch; a single sample is doubled."""
    which = [0, min(1, count_samples(inputs) - 1)]
    ragged = ragged_rows(model, inputs).items()
    parts = {key: pick_rows(inputs[key], rows, which, packed_axis(key, inputs[key])) for key, rows in ragged}
    return {**first_pair(inputs), **parts}


def full_pair(inputs: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Return two samples of equal length with different tokens.

    The longest sample of the batch, and the same with its tokens replaced by those of another sample, repeated as often
    as needed. The tokens at its ends stay, and all that equal them, since some heads look for them. So do the tokens
    that the model's configuration names, such as those that stand for an image.
    """
    ids, mask = inputs.get(IDS), inputs.get(MASK)
    which = contrasting_samples(inputs)
    if not isinstance(ids, Tensor):
        count = count_samples(inputs)
        pair = {**pick_pair(inputs, count, which), **_one_layout(inputs, count, which[[0, 0]])}
        return {**pair, **{key: torch.ones_like(pair[key]) for key in HEARD if isinstance(pair.get(key), Tensor)}}
    masked = isinstance(mask, Tensor) and mask.dim() == ids.dim()
    count, length = len(ids), ids.shape[-1]
    pair = pick_pair(inputs, count, which[[0, 0]])
    others = {**pick_pair(inputs, count, which), **{key: pair[key] for key in pair if is_geometry(key)}}
    for key, rows in ragged_rows(model, inputs).items():
        own = pick_rows(inputs[key], rows, which[[0, 0]].tolist(), packed_axis(key, inputs[key]))
        pair[key], others[key] = own, _beside(inputs[key], rows, which.tolist(), key)
    fixed = _named_tokens(model, ids)
    if not len(_inner_positions(others, 0, masked, fixed)):
        fixed = fixed[:0]
    if not len(_inner_positions(others, 1, masked, fixed)):
        others = pick_pair(inputs, count, which[[0, 0]])
    inner, source = _replaced(others, masked, fixed)
    for key, value in pair.items():
        if not isinstance(value, Tensor) or value.dim() < 2 or "mask" in key or _are_positions(key, value, length):
            continue
        if len(value) != 2:
            pair[key] = others[key]
            continue
        axis = value.dim() - 1 if value.shape[-1] == length else 1  # boxes are [B, T, 4]
        if value.shape[axis] == length and not value.is_floating_point():
            value[1].index_copy_(axis - 1, inner, others[key][1].index_select(axis - 1, source))
        else:
            pair[key] = others[key]  # images, decoder inputs
    return pair


def _are_positions(key: str, value: Tensor, length: int) -> bool:
    """Whether these are the positions of tokens (or of patches), which do not depend on what stands there.

    Positions of a few tokens, as those of questions in a text [B, Q], are content of the sample.
    """
    few = value.dim() == 2 and value.shape[1] < length and not value.is_floating_point()
    return "position" in key and not few


def _one_layout(inputs: Mapping[str, Any], count: int, which: Tensor) -> dict[str, Any]:
    """Return sizes and grids of images with the masks that go with them, all of one sample: partners share them."""
    if not any(is_geometry(key) for key in inputs):
        return {}
    return pick_pair({key: inputs[key] for key in inputs if is_geometry(key) or "mask" in key}, count, which)


def _beside(value: Tensor, rows: Sequence[int], which: Sequence[int], key: str) -> Tensor:
    """Return one sample's rows of a ragged entry, and as many of other content behind them."""
    axis = packed_axis(key, value)
    own, other = (pick_rows(value, rows, [each], axis) for each in which)
    if is_geometry(key):
        return torch.cat([own, own])
    return torch.cat([own, other if other.shape == own.shape and which[0] != which[1] else own.flip(axis)], axis)


def contrasting_samples(inputs: Mapping[str, Any]) -> Tensor:
    """Return the indices of two samples, long [2]: the longest one, and the one that differs from it in most entries.

    >>> contrasting_samples({"input_ids": torch.tensor([[1, 2], [1, 2], [1, 3]]), "x": torch.rand(3, 2)})
    tensor([0, 2])
    """
    count, mask = count_samples(inputs), inputs.get(MASK)
    counts = isinstance(mask, Tensor) and len(mask) == count and isinstance(inputs.get(IDS), Tensor)
    first = int(mask.flatten(1).sum(-1).argmax()) if counts else 0  # type: ignore[union-attr]
    differs = torch.zeros(count, dtype=torch.long)
    for key, value in inputs.items():
        if isinstance(value, Tensor) and per_sample(key, value, count) and "mask" not in key:
            differs += (value != value[first]).reshape(count, -1).any(-1).cpu()
    following = (first + 1 + torch.arange(max(count - 1, 1))) % count  # the next of several that differ in as much
    return torch.tensor([first, int(following[differs[following].argmax()])])


def _named_tokens(model: nn.Module, ids: Tensor) -> Tensor:
    """Return the tokens that a model's configuration names: placeholders of images, ends of text, padding."""
    config = getattr(model, "config", None)
    parts = [part for part in (config, getattr(config, "text_config", None)) if part is not None]
    named = [
        value
        for part in parts
        for key, value in (part if isinstance(part, Mapping) else vars(part)).items()
        if key.endswith(("_token_id", "_token_index")) and isinstance(value, int)
    ]
    return torch.tensor(sorted(set(named)), dtype=ids.dtype, device=ids.device)


def _replaced(pair: Mapping[str, Any], masked: bool, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positions of the first sample that get other tokens, and the positions of those in the second."""
    inner = [_inner_positions(pair, sample, masked, fixed) for sample in (0, 1)]
    if torch.equal(pair[IDS][0], pair[IDS][1]):
        return inner[0], inner[0].flip(0)  # no other sample: the same tokens backwards
    return inner[0], inner[1][torch.arange(len(inner[0]), device=inner[0].device) % len(inner[1])]


def _inner_positions(pair: Mapping[str, Any], sample: int, masked: bool, fixed: Tensor) -> Tensor:
    """Return the positions of tokens other than the first, the last and their like; of choices, those that all have."""
    length = pair[IDS].shape[-1]
    ids = pair[IDS][sample].reshape(-1, length)
    mask = pair[MASK][sample].reshape(-1, length).bool() if masked else torch.ones_like(ids, dtype=torch.bool)
    positions = torch.arange(length, device=ids.device)
    first, last = positions.where(mask, length - 1).amin(-1), positions.where(mask, 0).amax(-1)
    ends = torch.cat([fixed, *(ids.gather(1, at[:, None])[:, 0] for at in (first, last))])
    return (mask & ~torch.isin(ids, ends)).all(0).nonzero().flatten()


def uneven_pair(inputs: Mapping[str, Any], model: nn.Module, left: bool) -> dict[str, Any] | None:
    """Return two samples of which the second has half the tokens of the first, padded on the left or the right.

    None where samples cannot differ in length: no ids with a mask of their tokens, or too few tokens.
    """
    pair = full_pair(inputs, model)
    ids, mask, visible = pair.get(IDS), pair.get(MASK), visible_tokens(pair)
    if not isinstance(ids, Tensor) or mask is None or visible is None or ids.dim() != 2 or visible.shape != ids.shape:
        return None
    positions = visible[0].nonzero().flatten()
    if len(positions) < 4:
        return None
    fixed = _named_tokens(model, ids)  # as many tokens as before stand for an image
    removed = _inner_positions({**pair, MASK: visible}, 0, True, fixed)[-(len(positions) // 2) :]
    if not len(removed):
        return None
    kept = positions[~torch.isin(positions, removed)]
    count, length = len(kept), ids.shape[1]
    target = positions[len(positions) - count :] if left else positions[:count]
    padding = torch.ones_like(visible[0], dtype=torch.bool)
    padding[target] = False
    if mask.dim() == 4:
        mask[1, ..., padding] = torch.finfo(mask.dtype).min if mask.is_floating_point() else 0
    for key, value in pair.items():
        if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[1] != length or value.is_floating_point():
            continue
        if "position" in key:
            if left and bool((inputs[key] != inputs[key][:1]).any()):  # they count the sample's own tokens
                value[1, target] = value[1, positions[:count]]
        elif value.dim() != 4 or key != MASK:
            value[1, target] = value[1, kept]
            value[1, padding] = pad_of(model) if key == IDS else 0
    return pair


def pad_of(model: nn.Module) -> int:
    """Return the id of padding, 0 where the model does not say."""
    config = getattr(model, "config", None)
    pad = getattr(config, "pad_token_id", None)
    if pad is None:
        pad = getattr(getattr(config, "text_config", None), "pad_token_id", None)
    return pad if isinstance(pad, int) and pad >= 0 else 0
