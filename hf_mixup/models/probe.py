"""Two rows of a batch to try a model on, and running it without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.hooks import sites_of

IDS, MASK = "input_ids", "attention_mask"
OF_NO_ROW = ("cache_position",)  # one number a token, the same for all rows
HIDDEN = -9999.0  # what is added to the score of a token that is not to be seen is lower


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run the model in evaluation mode, without a graph; modes and random state are as they were afterwards."""
    training = {module: module.training for module in model.modules()}
    devices = [p.device for p in model.parameters() if p.device.type == "cuda"][:1]
    model.eval()
    try:
        # The uncompiled forward: two rows are another shape, which would cost a compilation.
        with torch.no_grad(), torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        sites_of(model).forget()
        for module, mode in training.items():
            module.training = mode


def two_rows(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first two rows of a batch; one row is doubled."""
    rows = count_rows(inputs)
    return pick(inputs, rows, torch.tensor([0, min(1, rows - 1)]))


def count_rows(inputs: Mapping[str, Any]) -> int:
    """Return how many rows a batch has.

    >>> count_rows({"cache_position": torch.arange(5), "input_ids": torch.ones(2, 5)})
    2
    """
    return next(
        len(value)
        for key, value in inputs.items()
        if isinstance(value, Tensor) and value.dim() and key not in OF_NO_ROW
    )


def spread_rows(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch of text in which what all rows share, [1, T] or a mask [1, 1, T, T], stands beside each row.

    >>> batch = {"input_ids": torch.ones(2, 3), "position_ids": torch.arange(3)[None]}
    >>> spread_rows(batch)["position_ids"].tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    ids = inputs.get(IDS)
    if not isinstance(ids, Tensor) or ids.dim() != 2 or len(ids) == 1:
        return dict(inputs)
    return {
        key: value.expand(len(ids), *value.shape[1:])
        if isinstance(value, Tensor) and value.dim() > 1 and len(value) == 1 and ids.shape[1] in value.shape[1:]
        else value
        for key, value in inputs.items()
    }


def seen_tokens(inputs: Mapping[str, Any], name: str = MASK) -> Tensor | None:
    """Return which tokens a mask shows, 1 or 0 [B, T]; None without a mask.

    Args:
        name: of the mask: [B, T], or [B, 1, T, T] (or [B, 1, 1, T]), whose floats are added to scores, so that a low
            one hides. Of the latter those count that any token sees. One of another shape is returned as it is.

    >>> seen_tokens({"attention_mask": torch.tensor([[[[0.0, -1e9], [0.0, -1e9]]]])})
    tensor([[1, 0]])
    """
    mask = inputs.get(name)
    if not isinstance(mask, Tensor):
        return None
    if mask.dim() != 4:
        return mask
    shown = mask > HIDDEN if mask.is_floating_point() else mask.bool()
    return shown.any(1).any(1).long()


def rows_of(batch: Mapping[str, Any], which: Tensor, count: int) -> dict[str, Any]:
    """Return some of a batch's `count` rows: what goes with a row is picked, anything else stays as it is.

    Args:
        which: long, ascending, none twice.

    >>> rows_of({"x": torch.arange(3), "names": ["a", "b", "c"], "flag": True}, torch.tensor([0, 2]), 3)
    {'x': tensor([0, 2]), 'names': ['a', 'c'], 'flag': True}
    """
    if len(which) == count:
        return dict(batch)
    return {
        key: value[which.to(value.device)]
        if isinstance(value, Tensor) and _by_row(value, count) and key not in OF_NO_ROW
        else [value[row] for row in which.tolist()]
        if _by_row(value, count) and key not in OF_NO_ROW
        else value
        for key, value in batch.items()
    }


def joined(parts: Sequence[Mapping[str, Any]], like: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the rows of several batches one after the other.

    Args:
        parts: made of `like`'s rows, so that the same entries go with a row.
        like: a batch of `count` rows.

    >>> batch = {"x": torch.tensor([1, 4]), "flag": True}
    >>> joined([batch, rows_of(batch, torch.tensor([1]), 2)], batch, 2)
    {'x': tensor([1, 4, 4]), 'flag': True}
    """
    if len(parts) == 1:
        return dict(parts[0])
    return {
        key: torch.cat([part[key] for part in parts])
        if isinstance(value, Tensor) and _by_row(like.get(key), count) and key not in OF_NO_ROW
        else [each for part in parts for each in part[key]]
        if _by_row(like.get(key), count)
        else value
        for key, value in parts[0].items()
    }


def _by_row(value: Any, count: int) -> bool:
    """Whether an entry of a batch goes with its rows."""
    if isinstance(value, Tensor):
        return value.dim() > 0 and len(value) == count
    return isinstance(value, (list, tuple)) and len(value) == count


def pick(inputs: Mapping[str, Any], rows: int, which: Tensor) -> dict[str, Any]:
    """Return two of a batch's `rows` rows; what goes with none of them stays as it is."""
    return {
        key: value[which.to(value.device)]
        if isinstance(value, Tensor) and value.dim() and len(value) == rows and key not in OF_NO_ROW
        else list(value)[:1] * 2
        if isinstance(value, (list, tuple)) and len(value) == rows
        else value
        for key, value in inputs.items()
    }


def visible_rows(inputs: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Return two rows of equal length with other tokens in each.

    The longest row of the batch, and the same with its tokens replaced by those of another row, as often as they are
    needed; what stands at its ends, and equals that, stays: some heads look for such tokens. So do the tokens that the
    model's configuration names: places that it fills with an image, say.
    """
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    which = telling_rows(inputs)
    if not isinstance(ids, Tensor):
        rows = pick(inputs, count_rows(inputs), which)
        if isinstance(mask, Tensor):
            rows["attention_mask"] = torch.ones_like(rows["attention_mask"])
        return rows
    masked = isinstance(mask, Tensor) and mask.dim() == ids.dim()
    count, length = len(ids), ids.shape[-1]
    rows = pick(inputs, count, which[[0, 0]])
    others = pick(inputs, count, which)
    fixed = _named_tokens(model, ids)
    if not len(_inner_places(others, 0, masked, fixed)):
        fixed = fixed[:0]
    if not len(_inner_places(others, 1, masked, fixed)):
        others = pick(inputs, count, which[[0, 0]])
    inner, source = _replaced(others, masked, fixed)
    for key, value in rows.items():
        if not isinstance(value, Tensor) or value.dim() < 2 or "mask" in key or "position" in key:
            continue  # positions belong to the places, whatever token stands there
        axis = value.dim() - 1 if value.shape[-1] == length else 1  # boxes are [B, T, 4]
        if value.shape[axis] == length and not value.is_floating_point():
            value[1].index_copy_(axis - 1, inner, others[key][1].index_select(axis - 1, source))
        else:
            rows[key] = others[key]  # images, decoder inputs
    return rows


def telling_rows(inputs: Mapping[str, Any]) -> Tensor:
    """Return the numbers of two rows to try a model on, long [2]: the longest, and one that differs from it in most.

    >>> telling_rows({"input_ids": torch.tensor([[1, 2], [1, 2], [1, 3]]), "x": torch.rand(3, 2)})
    tensor([0, 2])
    """
    count, mask = count_rows(inputs), inputs.get("attention_mask")
    counts = isinstance(mask, Tensor) and len(mask) == count and isinstance(inputs.get("input_ids"), Tensor)
    first = int(mask.flatten(1).sum(-1).argmax()) if counts else 0  # type: ignore[union-attr]
    differs = torch.zeros(count, dtype=torch.long)
    for key, value in inputs.items():
        if isinstance(value, Tensor) and _by_row(value, count) and "mask" not in key:
            differs += (value != value[first]).reshape(count, -1).any(-1).cpu()
    following = (first + 1 + torch.arange(max(count - 1, 1))) % count  # of equal ones the next
    return torch.tensor([first, int(following[differs[following].argmax()])])


def _named_tokens(model: nn.Module, ids: Tensor) -> Tensor:
    """Return the tokens that a model's configuration names: the places of images, ends of text, padding."""
    config = getattr(model, "config", None)
    parts = [part for part in (config, getattr(config, "text_config", None)) if part is not None]
    named = [
        value
        for part in parts
        for key, value in (part if isinstance(part, Mapping) else vars(part)).items()
        if key.endswith(("_token_id", "_token_index")) and isinstance(value, int)
    ]
    return torch.tensor(sorted(set(named)), dtype=ids.dtype, device=ids.device)


def _replaced(rows: Mapping[str, Any], masked: bool, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """Return which places of the first row are given other tokens, and the places that those have in the second."""
    inner = [_inner_places(rows, row, masked, fixed) for row in (0, 1)]
    if torch.equal(rows["input_ids"][0], rows["input_ids"][1]):
        return inner[0], inner[0].flip(0)  # no other row: the same tokens backwards
    return inner[0], inner[1][torch.arange(len(inner[0]), device=inner[0].device) % len(inner[1])]


def _inner_places(rows: Mapping[str, Any], row: int, masked: bool, fixed: Tensor) -> Tensor:
    """Return the places where a row (each of its choices) has a token other than the first, the last and their like."""
    length = rows["input_ids"].shape[-1]
    ids = rows["input_ids"][row].reshape(-1, length)
    mask = rows["attention_mask"][row].reshape(-1, length).bool() if masked else torch.ones_like(ids, dtype=torch.bool)
    places = torch.arange(length, device=ids.device)
    first, last = places.where(mask, length - 1).amin(-1), places.where(mask, 0).amax(-1)
    ends = torch.cat([fixed, *(ids.gather(1, at[:, None])[:, 0] for at in (first, last))])
    return (mask & ~torch.isin(ids, ends)).all(0).nonzero().flatten()


def pads_left(inputs: Mapping[str, Any]) -> bool:
    """Whether a row of the batch begins with padding."""
    seen = seen_tokens(inputs)
    return seen is not None and bool((seen[..., 0] == 0).any())


def ragged_rows(inputs: Mapping[str, Any], model: nn.Module, left: bool) -> dict[str, Any] | None:
    """Return two rows of which the second has half the tokens of the first, padded on the left or the right.

    None where rows cannot differ in length: no ids with a mask of their tokens, or too few of these.
    """
    rows = visible_rows(inputs, model)
    ids, mask, seen = rows.get(IDS), rows.get(MASK), seen_tokens(rows)
    if not isinstance(ids, Tensor) or mask is None or seen is None or ids.dim() != 2 or seen.shape != ids.shape:
        return None
    places = seen[0].nonzero().flatten()
    if len(places) < 4:
        return None
    fixed = _named_tokens(model, ids)  # the places of an image are as many as before
    gone_first = _inner_places({**rows, MASK: seen}, 0, True, fixed)[-(len(places) // 2) :]
    if not len(gone_first):
        return None
    kept = places[~torch.isin(places, gone_first)]
    whole, half = len(places), len(kept)
    at = places[whole - half :] if left else places[:half]
    gone = torch.ones_like(seen[0], dtype=torch.bool)
    gone[at] = False
    length = ids.shape[1]
    if mask.dim() == 4:
        mask[1, ..., gone] = torch.finfo(mask.dtype).min if mask.is_floating_point() else 0
    for key, value in rows.items():
        if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[1] != length or value.is_floating_point():
            continue
        if value.dim() == 4 and key == MASK:
            continue
        if "position" in key:
            if left and not _alike(inputs[key]):  # they count the row's tokens, not the places
                value[1, at] = value[1, places[:half]]
            continue
        value[1, at] = value[1, kept]
        value[1, gone] = pad_of(model) if key == IDS else 0
    return rows


def _alike(values: Tensor) -> bool:
    return bool((values == values[:1]).all())


def pad_of(model: nn.Module) -> int:
    """Return the id of padding, 0 where the model does not say."""
    config = getattr(model, "config", None)
    pad = getattr(config, "pad_token_id", None)
    if pad is None:
        pad = getattr(getattr(config, "text_config", None), "pad_token_id", None)
    return pad if isinstance(pad, int) and pad >= 0 else 0
