"""The samples of a batch: how many there are, which entries go with them, and which tokens a mask shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

IDS, MASK = "input_ids", "attention_mask"
DECODER = "decoder_"  # how the inputs of a decoder begin
DECODER_IDS = f"{DECODER}{IDS}"
HEARD = (MASK, "padding_mask")  # names of the mask of audio clips, 1 where there is audio
SHARED = ("cache_position",)  # one number a token, the same for all samples
HIDDEN = -9999.0  # masks of floats add a lower number to the score of a token that is hidden


def per_sample(key: str, value: Any, count: int) -> bool:
    """Whether an entry of a batch has one item for each of its `count` samples."""
    if isinstance(value, Tensor):
        return value.dim() > 0 and len(value) == count and key not in SHARED
    return isinstance(value, (list, tuple)) and len(value) == count


def packed_axis(key: str, value: Any) -> int:
    """Return the axis along which an entry that holds the parts of all samples has them.

    The first one as a rule; the last one of images of which all patches lie beside each other, [1, C, P, P * patches].

    >>> packed_axis("pixel_values", torch.rand(1, 3, 8, 64)), packed_axis("pixel_values", torch.rand(8, 192))
    (-1, 0)
    """
    return -1 if len(value) == 1 and value.dim() > 2 and key.startswith("pixel") else 0


def count_samples(inputs: Mapping[str, Any]) -> int:
    """Return how many samples a batch has.

    >>> count_samples({"cache_position": torch.arange(5), "input_ids": torch.ones(2, 5)})
    2
    """
    ids = inputs.get(IDS)
    if isinstance(ids, Tensor):
        return len(ids)  # other entries may hold the parts of all samples in one tensor
    return next(
        len(value) for key, value in inputs.items() if isinstance(value, Tensor) and value.dim() and key not in SHARED
    )


def select_samples(batch: Mapping[str, Any], which: Tensor, count: int) -> dict[str, Any]:
    """Return some of a batch's `count` samples; entries that do not go with samples stay as they are.

    Args:
        which: long, ascending, none twice.

    >>> select_samples({"x": torch.arange(3), "names": ["a", "b", "c"], "flag": True}, torch.tensor([0, 2]), 3)
    {'x': tensor([0, 2]), 'names': ['a', 'c'], 'flag': True}
    """
    if len(which) == count:
        return dict(batch)

    return {key: take(value, which) if per_sample(key, value, count) else value for key, value in batch.items()}


def take(value: Any, which: Tensor) -> Any:
    """Return the rows `which` (long) of a tensor, or the items of a list, without waiting for a tensor's device.

    >>> take(torch.tensor([3, 5]), torch.tensor([1, 1])), take(["a", "b"], torch.tensor([1, 0]))
    (tensor([5, 5]), ['b', 'a'])
    """
    if isinstance(value, Tensor):
        return value.index_select(0, which.to(value.device, non_blocking=True))
    return [value[each] for each in which.tolist()]


def pick_pair(inputs: Mapping[str, Any], count: int, which: Tensor) -> dict[str, Any]:
    """Return two of a batch's `count` samples, or one twice; of lists the first item twice."""

    def pick(value: Any) -> Any:
        return value[which.to(value.device, non_blocking=True)] if isinstance(value, Tensor) else list(value)[:1] * 2

    return {key: pick(value) if per_sample(key, value, count) else value for key, value in inputs.items()}


def first_pair(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first two of a batch's samples; a single one twice, as the first item of a list.

    >>> first_pair({"x": torch.arange(3), "masks": ["a", "b", "c"]})
    {'x': tensor([0, 1]), 'masks': ['a', 'a']}
    """
    count = count_samples(inputs)
    return pick_pair(inputs, count, torch.tensor([0, min(1, count - 1)]))


def concat_batches(parts: Sequence[Mapping[str, Any]], like: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the samples of several batches one after the other.

    Args:
        parts: made of `like`'s samples, so that the same entries go with a sample.
        like: a batch of `count` samples.

    >>> batch = {"x": torch.tensor([1, 4]), "flag": True}
    >>> concat_batches([batch, select_samples(batch, torch.tensor([1]), 2)], batch, 2)
    {'x': tensor([1, 4, 4]), 'flag': True}
    """
    if len(parts) == 1:
        return dict(parts[0])

    def concat(values: list[Any]) -> Any:
        return torch.cat(values) if isinstance(values[0], Tensor) else [each for value in values for each in value]

    return {
        key: concat([part[key] for part in parts]) if per_sample(key, like.get(key), count) else value
        for key, value in parts[0].items()
    }


def expand_shared(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch of text in which each sample has its own copy of what all share, [1, T] or a mask [1, 1, T, T].

    >>> batch = {"input_ids": torch.ones(2, 3), "position_ids": torch.arange(3)[None]}
    >>> expand_shared(batch)["position_ids"].tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    ids = inputs.get(IDS)
    if not isinstance(ids, Tensor) or ids.dim() != 2 or len(ids) == 1:
        return dict(inputs)
    return {
        key: value.expand(len(ids), *value.shape[1:]) if _is_shared(key, value, ids.shape[1]) else value
        for key, value in inputs.items()
    }


def _is_shared(key: str, value: Any, length: int) -> bool:
    if not isinstance(value, Tensor) or value.dim() < 2 or len(value) != 1 or packed_axis(key, value) != 0:
        return False
    return length in value.shape[1:]


def visible_tokens(inputs: Mapping[str, Any], name: str = MASK) -> Tensor | None:
    """Return which tokens a mask shows, 1 or 0 [B, T]; None without a mask.

    Args:
        name: of the mask: [B, T], or [B, 1, T, T] (or [B, 1, 1, T]), whose floats are added to scores, so that a low
            one hides. Of the latter, a token counts if any token sees it. A mask of another shape is returned as it is.

    >>> visible_tokens({"attention_mask": torch.tensor([[[[0.0, -1e9], [0.0, -1e9]]]])})
    tensor([[1, 0]])
    """
    mask = inputs.get(name)
    if not isinstance(mask, Tensor):
        return None
    if mask.dim() != 4:
        return mask
    shown = mask > HIDDEN if mask.is_floating_point() else mask.bool()
    return shown.any(1).any(1).long()


def pads_left(inputs: Mapping[str, Any]) -> bool:
    """Whether a sample of the batch begins with padding."""
    return visible_tokens(inputs) is not None and bool(begins_padded(inputs))


def begins_padded(inputs: Mapping[str, Any]) -> Tensor:
    """Return whether a sample of a batch with a mask begins with padding, bool, 0-d, where the mask lies.

    >>> begins_padded({"attention_mask": torch.tensor([[1, 1], [0, 1]])})
    tensor(True)
    """
    return (visible_tokens(inputs)[..., 0] == 0).any()  # type: ignore[index]
