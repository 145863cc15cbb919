"""What methods share that exchange spans of tokens: which tokens may go, and the inputs that go with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.methods.base import Batch, Blend, Draw, Request, TokenDraw
from hf_mixup.methods.capabilities import NeedsTokenizer
from hf_mixup.models.captions import TokenRules
from hf_mixup.models.labels import LABELS, read_labels

KEYS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs that say which tokens may be exchanged."""


@dataclass(kw_only=True)
class SpanMethod(Blend, NeedsTokenizer):
    """A method that exchanges tokens before the model sees them."""

    modalities = ("text",)
    own_loss = True  # labels may go with their tokens; trainers that compute the loss themselves withhold the labels

    def __post_init__(self) -> None:
        super().__post_init__()
        self.special: tuple[int, ...] | None = None

    def set_tokenizer(self, tokenizer: Any) -> None:
        self.special = TokenRules.of(tokenizer).special

    def draw(self, request: Request) -> Draw:
        _refuse_other_tasks(request, self.name)
        return super().draw(request)

    def apply(self, model: nn.Module, batch: Batch, draw: TokenDraw, inplace: bool) -> dict[str, Any]:
        return exchange(batch, draw)


def _refuse_other_tasks(request: Request, method: str) -> None:
    """Refuse batches whose tokens cannot be exchanged, or whose labels do not go with the tokens.

    Raises:
        ValueError: without `input_ids` [B, T], for language models, and for labels that are neither one a sample nor
            one a token.
    """
    ids, labels = request.batch.get("input_ids"), request.labels
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        held = ", ".join(request.batch) or "nothing"
        found = f"shape {list(ids.shape)}" if isinstance(ids, Tensor) else "none"
        raise ValueError(
            f"method {method!r} exchanges tokens and needs input_ids [B, T], found {found}: the batch holds {held}. "
            "Use 'embedding' or 'manifold'"
        )
    if not one_a_token(labels):
        return
    if labels.shape != ids.shape:
        raise ValueError(
            f"method {method!r} takes one label a row or one a token, found {list(labels.shape)} beside input_ids "
            f"{list(ids.shape)}: the ends of an answer do not go with the tokens. Use 'embedding' or 'manifold'"
        )
    if read_labels(request.model, {**request.batch, LABELS: labels}).vocabulary:
        raise ValueError(
            f"method {method!r} would change the text that {type(request.model).__name__} predicts: for language "
            "models use 'embedding', 'manifold' or 'sftmix'"
        )


def one_a_token(labels: Tensor) -> bool:
    """Whether labels are class ids [B, T] of tokens, rather than one (or C floats) a sample.

    >>> one_a_token(torch.zeros(2, 5).long()), one_a_token(torch.zeros(2, 5)), one_a_token(torch.zeros(2).long())
    (True, False, False)
    """
    return not labels.is_floating_point() and labels.dim() == 2 and labels.shape[1] > 1


def on_cpu(batch: Batch, **more: Tensor) -> dict[str, Tensor]:
    """Return what spans are chosen by on the CPU: ids, mask and token types, and more, with one wait for the device.

    Args:
        more: float32 [B, T].

    >>> list(on_cpu({"input_ids": torch.tensor([[1, 2]]), "pixel_values": torch.rand(1, 3)}, score=torch.rand(1, 2)))
    ['input_ids', 'score']
    """
    ids: Tensor = batch["input_ids"]
    found = {key: batch[key] for key in KEYS if isinstance(batch.get(key), Tensor)}
    others = {key: value for key, value in found.items() if value.shape != ids.shape}
    bits = {key: value.int() for key, value in found.items() if key not in others}
    bits |= {key: value.view(torch.int32) for key, value in more.items()}
    moved = dict(zip(bits, torch.stack(list(bits.values())).cpu()))
    return others | {key: value.view(torch.float32) if key in more else value.long() for key, value in moved.items()}


def ordinary_tokens(batch: Batch, special: tuple[int, ...] | None) -> Tensor:
    """Return which tokens may be exchanged, bool [B, T] on the CPU.

    Those that the mask shows, but for the first and the last of each sample and the special ones.

    Args:
        batch: `input_ids` [B, T], and `attention_mask` [B, T] if there is one, see `on_cpu`.
        special: ids of special tokens; None if they are not known, which keeps those that equal the first or the last.

    Raises:
        ValueError: for a mask of another shape.

    >>> ordinary_tokens({"input_ids": torch.tensor([[1, 7, 8, 2, 0, 0], [1, 7, 2, 8, 9, 2]])}, special=(0, 1, 2)).long()
    tensor([[0, 1, 1, 0, 0, 0],
            [0, 1, 0, 1, 1, 0]])
    """
    ids = batch["input_ids"].cpu()
    mask = batch.get("attention_mask")
    if mask is not None and mask.shape != ids.shape:
        raise ValueError(f"exchanging tokens needs an attention_mask [B, T], found {list(mask.shape)}")
    visible = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.cpu().bool()
    first = visible.int().argmax(-1, keepdim=True)
    last = ids.shape[1] - 1 - visible.flip(-1).int().argmax(-1, keepdim=True)
    if special is None:
        fixed = (ids == ids.gather(1, first)) | (ids == ids.gather(1, last))
    else:
        fixed = torch.isin(ids, torch.tensor(special, dtype=ids.dtype))
    places = torch.arange(ids.shape[1])
    return visible & ~fixed & (places > first) & (places < last)


def exchange(batch: Batch, draw: TokenDraw) -> dict[str, Any]:
    """Return the batch with the tokens of `draw.positions` and all that goes with them, out of place.

    That is each integer input [B, T, ...], as token types and boxes; masks and positions stay with the places, unless
    the whole sample goes.

    >>> draw = TokenDraw("span_cut", torch.tensor([1, 0]), torch.ones(2), positions=torch.tensor([[-1, 1], [-1, -1]]))
    >>> exchange({"input_ids": torch.tensor([[1, 2], [3, 4]])}, draw)["input_ids"]
    tensor([[1, 4],
            [3, 4]])
    """
    tied = (draw.positions == torch.arange(draw.positions.shape[1], device=draw.positions.device)).all(-1, keepdim=True)
    whole = torch.where(tied, draw.positions, -1)
    return {
        key: _taken(value, draw.partner, whole if "mask" in key or "position" in key else draw.positions)
        if _has_tokens(value, draw.positions)
        else value
        for key, value in batch.items()
    }


def _has_tokens(value: Any, places: Tensor) -> bool:
    if not isinstance(value, Tensor) or value.shape[:2] != places.shape:
        return False
    return not value.is_floating_point() and not value.is_complex()


def _taken(value: Tensor, partner: Tensor, places: Tensor) -> Tensor:
    """Return what `taken` does, for values [B, T, ...]."""
    goes = (places >= 0).reshape(*places.shape, *(1,) * (value.dim() - 2))
    return torch.where(goes, value[partner[:, None], places.clamp(min=0)], value)


def own_share(taken: Tensor, tokens: Tensor) -> Tensor:
    """Return which share of a sample's tokens stayed its own, float32 [B]; 1 for a sample that has none.

    >>> own_share(torch.tensor([1, 0]), torch.tensor([4, 0]))
    tensor([0.7500, 1.0000])
    """
    return (1 - taken.double() / tokens.clamp(min=1)).float()
