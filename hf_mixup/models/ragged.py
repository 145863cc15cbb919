"""Inputs that hold the parts of all samples in one tensor (patches, tiles, clips), and layouts that partners share.

Which rows are whose is told by the tokens that stand for them in `input_ids`: a sample with twice the tokens of an
image has twice the patches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_mixup.models.batches import IDS, SHARED, count_samples, packed_axis, per_sample

Kind = Literal["image", "video", "audio"]
Rows = Mapping[str, Sequence[int]]
"""How many rows of an entry belong to each sample, by the entry's name."""
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
    found: dict[Any, list[int]] = {}
    for name, value in (vars(config) if config is not None else {}).items():
        match = TOKEN.fullmatch(name)
        if match and isinstance(value, int):
            found.setdefault(match[1], []).append(value)
    return found


def is_geometry(key: str) -> bool:
    """Whether an entry of this name tells the size or grid of images.

    >>> is_geometry("image_grid_thw"), is_geometry("pixel_values")
    (True, False)
    """
    return GEOMETRY.fullmatch(key) is not None


def ragged_rows(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return how many rows belong to each sample, for each entry that holds the parts of all samples in one tensor.

    An entry whose rows do not follow from the tokens is left out.
    """
    ids = batch.get(IDS)
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        return {}
    count, found = len(ids), {}
    ragged = [key for key, value in batch.items() if _holds_all(key, value, count)]
    marks = placeholders(model) if ragged else {}
    for key in ragged:
        tokens = _count_tokens(ids, marks.get(_kind(key), []))
        length = batch[key].shape[packed_axis(key, batch[key])]
        rows = _by_size(batch[key], tokens) if is_geometry(key) else _in_proportion(length, tokens)
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


def _count_tokens(ids: Tensor, tokens: list[int]) -> list[int]:
    return torch.isin(ids, torch.tensor(tokens, dtype=ids.dtype, device=ids.device)).sum(1).tolist()


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
    numbers = torch.tensor(rows, device=partner.device)
    starts, total = numbers.cumsum(0) - numbers, sum(rows)
    shift = (starts[partner] - starts).repeat_interleave(numbers, output_size=total)
    return torch.arange(total, device=partner.device) + shift, lam.repeat_interleave(numbers, output_size=total)


def layouts(model: nn.Module, batch: Mapping[str, Any], tokens: bool) -> Tensor | None:
    """Return a number for each sample, long [B] on the CPU, the same for samples of like layout; None where all are.

    Args:
        tokens: whether the positions of the tokens that stand for images or clips count, beside sizes and grids.
    """
    parts: list[Any] = []
    rows: dict[str, list[int]] | None = None
    for key, value in batch.items():
        if not is_geometry(key) or not isinstance(value, Tensor):
            continue
        if per_sample(key, value, count_samples(batch)):
            parts.append(value.reshape(len(value), -1).tolist())
        else:
            rows = ragged_rows(model, batch) if rows is None else rows
            if key in rows:
                parts.append([each.flatten().tolist() for each in value.split(rows[key])])
    ids, marks = batch.get(IDS), [each for kind in placeholders(model).values() for each in kind]
    if tokens and marks and isinstance(ids, Tensor) and ids.dim() == 2:
        mark = torch.tensor(marks, dtype=ids.dtype, device=ids.device)
        parts.append(ids.where(torch.isin(ids, mark), -1).tolist())
    numbers: dict[Any, int] = {}
    found = [numbers.setdefault(str(each), len(numbers)) for each in zip(*parts)]
    return torch.tensor(found) if len(numbers) > 1 else None
