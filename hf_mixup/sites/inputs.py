"""Which entries of a batch are raw inputs that can be blended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from hf_mixup.errors import did_you_mean


def float_keys(
    batch: Mapping[str, Any], rows: int, method: str, wanted: list[str] | None = None, dims: int | None = None
) -> list[str]:
    """Return the names of the inputs to blend: `wanted`, or every floating-point tensor with `rows` rows.

    Args:
        dims: required number of dimensions, where the method needs a certain shape.

    Raises:
        ValueError: if nothing can be blended, naming what the batch holds and the way out.
        TypeError: if the tensor to blend holds integers.

    >>> float_keys({"pixel_values": torch.zeros(2, 3, 4, 4), "attention_mask": torch.ones(2, 4)}, 2, "mixup")
    ['pixel_values']
    """
    if wanted is not None:
        missing = [key for key in wanted if key not in batch]
        if missing:
            raise ValueError(f"keys names {missing[0]!r}, which the batch lacks: {did_you_mean(missing[0], batch)}")
        found = list(wanted)
    else:
        found = [key for key, value in batch.items() if _blendable(key, value, rows)]
    if dims is not None:
        found = [key for key in found if batch[key].dim() == dims]
    for key in found:
        if not torch.is_floating_point(batch[key]):
            raise TypeError(f"{key} holds {batch[key].dtype}: convert it to a floating-point type before mixing")
    if not found:
        raise ValueError(_nothing_to_blend(batch, method, dims))
    return found


def _blendable(key: str, value: Any, rows: int) -> bool:
    if not isinstance(value, torch.Tensor) or value.dim() < 2 or len(value) != rows or "mask" in key:
        return False
    # An integer picture is a mistake that must not pass as "not an input"; ids and masks are integers by nature.
    return value.is_floating_point() or (key.endswith("_values") and not value.is_complex())


def _nothing_to_blend(batch: Mapping[str, Any], method: str, dims: int | None) -> str:
    held = ", ".join(
        f"{key} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        if isinstance(value, torch.Tensor)
        else key
        for key, value in batch.items()
    )
    shape = "" if dims is None else f" of {dims} dimensions"
    text = " Text is blended inside the model: use method='embedding' or 'manifold'." if "input_ids" in batch else ""
    return f"method {method!r} found no floating-point input{shape} to mix. The batch holds: {held or 'nothing'}.{text}"
