"""Inputs that hold the parts of all samples in one tensor (patches, tiles, clips), and layouts that partners share.

Which rows are whose is told by the tokens that stand for them in `input_ids`: a sample with twice the tokens of an
image has twice the patches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal
from weakref import ref

import torch
from torch import Tensor, nn

from hf_mixup.models.batches import IDS, MASK, SHARED, begins_padded, count_samples, packed_axis, per_sample
from hf_mixup.models.hooks import hooks_of

Kind = Literal["image", "video", "audio"]
Rows = Mapping[str, Sequence[int]]
"""How many rows of an entry belong to each sample, by the entry's name."""
READ = "layout"  # its key in the cache
TOKEN = re.compile(r"(image|video|audio)_token(_id|_index)")
GEOMETRY = re.compile(r".*(grid_thw|_sizes|_shapes|_grid)")


def placeholders(model: nn.Module) -> dict[Kind, list[int]]:
    """Return the tokens that stand for parts of an image, video or clip, by what they stand for.

    >>> from types import SimpleNamespace
    >>> model = nn.Identity()
    >>> model.config = SimpleNamespace(image_token_id=7, eos_token_id=2)
    >>> placeholders(model)
    {'image': [7]}
    """
    config: Any = getattr(model, "config", None)
    settings = getattr(config, "__dict__", {})  # of a model of one's own it may be anything
    found: dict[Any, list[int]] = {}
    for kind, name in _token_settings(tuple(settings)):
        if isinstance(settings[name], int):
            found.setdefault(kind, []).append(settings[name])
    return found


@lru_cache(maxsize=16)
def _token_settings(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return which settings of a configuration name such tokens, each with what the token stands for."""
    return [(match[1], name) for name in names if (match := TOKEN.fullmatch(name))]


def is_geometry(key: str) -> bool:
    """Whether an entry of this name tells the size or grid of images.

    >>> is_geometry("image_grid_thw"), is_geometry("pixel_values")
    (True, False)
    """
    return GEOMETRY.fullmatch(key) is not None


@dataclass(frozen=True)
class Read:
    """What the host has read of a batch.

    Attributes:
        seen: what was read, as weak references and the versions of the tensors.
        marked: the tokens that stand for images, -1 in the place of others, long [B, T] on the CPU; None where there
            are no such tokens.
        sizes: sizes and grids by the names of their entries, long, on the CPU.
        pads_left: whether a sample begins with padding; None where there is no mask, or no such tokens.
    """

    seen: list[tuple[ref[Tensor], int]]
    marked: Tensor | None
    sizes: dict[str, Tensor]
    pads_left: bool | None

    def is_of(self, tensors: Sequence[Tensor]) -> bool:
        """Whether it is these tensors that were read, as they are now."""
        return len(self.seen) == len(tensors) and all(
            known() is each and version == _version(each) for (known, version), each in zip(self.seen, tensors)
        )


def read_layout(model: nn.Module, batch: Mapping[str, Any]) -> Read:
    """Read where a batch has images and how large they are: once, with one wait for the device."""
    marks, ids = [each for kind in placeholders(model).values() for each in kind], batch.get(IDS)
    tokens = [ids] if marks and isinstance(ids, Tensor) and ids.dim() == 2 else []
    masks = [batch[MASK]] if tokens and isinstance(batch.get(MASK), Tensor) else []
    sizes = {key: value for key, value in batch.items() if is_geometry(key) and isinstance(value, Tensor)}
    tensors, cache = [*tokens, *masks, *sizes.values()], hooks_of(model).cache
    known = cache.get(READ)
    if isinstance(known, Read) and known.is_of(tensors):
        return known
    marked = [each.where(torch.isin(each, each.new_tensor(marks)), -1) for each in tokens]
    starts = [begins_padded(batch) for _ in masks]
    host = iter(_on_host([*marked, *starts, *sizes.values()]))
    where, padded = next(host) if tokens else None, bool(next(host)) if masks else None
    cache[READ] = Read([(ref(each), _version(each)) for each in tensors], where, dict(zip(sizes, host)), padded)
    return cache[READ]


def _on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return whole numbers on the CPU, long: on a device all wait together."""
    if not tensors:
        return []
    whole = torch.cat([each.flatten().long() for each in tensors]).cpu()
    return [part.view(each.shape) for part, each in zip(whole.split([each.numel() for each in tensors]), tensors)]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # a buffer that is filled anew is another batch


def ragged_rows(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return how many rows belong to each sample, for each entry that holds the parts of all samples in one tensor.

    An entry whose rows do not follow from the tokens is left out.
    """
    ids = batch.get(IDS)
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        return {}
    found = {}
    ragged = [key for key, value in batch.items() if _holds_all(key, value, len(ids))]
    if not ragged:
        return {}
    read, marks = read_layout(model, batch), placeholders(model)
    for key in ragged:
        tokens = _count_tokens(read.marked, marks.get(_kind(key), []), len(ids))
        sizes, length = read.sizes.get(key), batch[key].shape[packed_axis(key, batch[key])]
        rows = _in_proportion(length, tokens) if sizes is None else _by_size(sizes, tokens)
        if rows is not None:
            found[key] = rows
    return found


def _holds_all(key: str, value: Any, count: int) -> bool:
    return (
        isinstance(value, Tensor)
        and value.dim() > 1
        and key not in SHARED
        and len(value) != count
        and (len(value) != 1 or packed_axis(key, value) != 0)
        and not key.endswith("input_ids")
    )


def _kind(key: str) -> Kind:
    if "video" in key:
        return "video"
    return "audio" if key.startswith(("input_features", "feature", "audio")) else "image"


def _count_tokens(marked: Tensor | None, tokens: list[int], count: int) -> list[int]:
    return [0] * count if marked is None else torch.isin(marked, torch.tensor(tokens)).sum(1).tolist()


def _in_proportion(length: int, tokens: list[int]) -> list[int] | None:
    """Return a number of rows shared out by tokens; None where that leaves parts of a row.

    >>> _in_proportion(12, [1, 2, 0]), _in_proportion(4, [1, 2])
    ([4, 8, 0], None)
    """
    whole = sum(tokens)
    if not whole or any(length * each % whole for each in tokens):
        return None
    return [length * each // whole for each in tokens]


def _by_size(sizes: Tensor, tokens: list[int]) -> list[int] | None:
    """Return how many of these images each sample has: so many as its tokens stand for.

    >>> _by_size(torch.tensor([[1, 2, 2], [1, 2, 4], [1, 4, 4]]), [3, 4])
    [2, 1]
    """
    each = sizes.prod(-1).tolist() if sizes.dim() == 2 else [1] * len(sizes)
    rows, given, image = [], sum(tokens), 0
    for own in tokens:
        first, left = image, own * sum(each)
        while image < len(each) and left > 0:
            left -= each[image] * given
            image += 1
        if left:
            return _in_proportion(len(sizes), tokens)
        rows.append(image - first)
    return rows


def pick_rows(value: Tensor, rows: Sequence[int], which: Sequence[int], axis: int = 0) -> Tensor:
    """Return the rows of some samples, which lie along an axis.

    >>> pick_rows(torch.tensor([[0], [1], [1], [2]]), [1, 2, 1], [1, 2]).flatten()
    tensor([1, 1, 2])
    """
    parts = value.split(list(rows), axis)
    return torch.cat([parts[each] for each in which], axis)


def spread(partner: Tensor, lam: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return partner and lam of each row, where sample i has rows[i] of them, and its partner as many.

    >>> spread(torch.tensor([1, 0]), torch.tensor([0.75, 0.5]), [2, 2])
    (tensor([2, 3, 0, 1]), tensor([0.7500, 0.7500, 0.5000, 0.5000]))
    """
    numbers = torch.tensor(rows).to(partner.device, non_blocking=True)
    starts, total = numbers.cumsum(0) - numbers, sum(rows)
    shift = (starts[partner] - starts).repeat_interleave(numbers, output_size=total)
    return torch.arange(total, device=partner.device) + shift, lam.repeat_interleave(numbers, output_size=total)


def layouts(model: nn.Module, batch: Mapping[str, Any], tokens: bool) -> Tensor | None:
    """Return a number for each sample, long [B] on the CPU, the same for samples of like layout; None where all are.

    Args:
        tokens: whether the positions of the tokens that stand for images or clips count, beside sizes and grids.
    """
    read, parts = read_layout(model, batch), []
    rows = ragged_rows(model, batch) if read.sizes else {}
    for key, value in read.sizes.items():
        if per_sample(key, value, count_samples(batch)):
            parts.append(value.reshape(len(value), -1).tolist())
        elif key in rows:
            parts.append([each.flatten().tolist() for each in value.split(rows[key])])
    if tokens and read.marked is not None:
        parts.append(read.marked.tolist())
    numbers: dict[Any, int] = {}
    found = [numbers.setdefault(str(each), len(numbers)) for each in zip(*parts)]
    return torch.tensor(found) if len(numbers) > 1 else None
