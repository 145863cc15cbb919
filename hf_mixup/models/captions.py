"""Joining captions as tokens, for method 'mixgen'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TokenRules:
    """The facts about a tokenizer that joining needs.

    Args:
        special: ids that begin, end or pad a text.
        pad: id of padding.
    """

    special: tuple[int, ...]
    pad: int

    @classmethod
    def of(cls, tokenizer: Any) -> TokenRules:
        """Return the rules of a tokenizer, or of the tokenizer of a processor.

        Raises:
            TypeError: for an object without special tokens.
        """
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        special = getattr(tokenizer, "all_special_ids", None)
        if special is None:
            raise TypeError(f"tokenizer={type(tokenizer).__name__}: expected a tokenizer or a processor that has one")
        unknown = getattr(tokenizer, "unk_token_id", None)
        pad = getattr(tokenizer, "pad_token_id", None)
        # An unknown word is part of a caption; in CLIP's tokenizer its id is that of the end, which is not.
        ends = {getattr(tokenizer, name, None) for name in ("eos_token_id", "sep_token_id", "pad_token_id")}
        return cls(tuple(i for i in special if i != unknown or i in ends), 0 if pad is None else pad)


def max_tokens(model: nn.Module) -> int | None:
    """Return how many tokens a text encoder takes, None if its configuration does not say."""
    config = getattr(model, "config", None)
    text = getattr(config, "text_config", config)
    positions = getattr(text, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return None
    # Models like RoBERTa count positions from behind that of the padding.
    behind_padding = any(name in getattr(text, "model_type", "") for name in ("roberta", "altclip", "clap"))
    return positions - (getattr(text, "pad_token_id", None) or 0) - 1 if behind_padding else positions


def join_captions(
    batch: Mapping[str, Any], partner: Tensor, joined: Tensor, rules: TokenRules, budget: int
) -> dict[str, Tensor]:
    """Return `input_ids` (and `attention_mask`, if there is one) with the partner's caption behind the sample's own.

    The sample's own first and last special tokens stay around both. Where both captions do not fit, each keeps its
    first tokens, at least half of the budget.

    Args:
        batch: `input_ids` [B, T] padded on the right, `attention_mask` [B, T] if the model takes one.
        partner: long [B].
        joined: bool [B], the samples to join; the others stay as they are.
        budget: most tokens of a sample.

    Raises:
        ValueError: for captions padded on the left.

    >>> rules = TokenRules(special=(0, 1, 2), pad=0)
    >>> ids = torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]])
    >>> batch = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    >>> join_captions(batch, torch.tensor([1, 0]), torch.tensor([True, True]), rules, budget=77)["input_ids"]
    tensor([[1, 5, 6, 7, 2],
            [1, 7, 5, 6, 2]])
    """
    ids, mask = batch["input_ids"], batch.get("attention_mask")
    if mask is not None and ids.device.type == "cpu" and bool((mask[:, :1] == 0).any()):
        raise ValueError("captions are padded on the left, and joining needs them padded on the right")
    plain = ~torch.isin(ids, torch.tensor(rules.special).to(ids.device, non_blocking=True))
    worded = plain.any(-1)
    first = plain.int().argmax(-1)
    words = torch.where(worded, ids.shape[1] - plain.flip(-1).int().argmax(-1) - first, 0)
    # Without a mask, one special token ends the text and the others fill up.
    visible = mask.sum(-1) if mask is not None else (first + words + 1).clamp(max=ids.shape[1])
    begins = torch.where(worded, first, (visible > 1).long())  # where the words begin, or would begin
    ends = visible - begins - words
    own, other = _shares(words, words[partner], budget - begins - ends)
    own, other = torch.where(joined, own, words), torch.where(joined, other, 0)
    total = begins + own + other + ends
    width = int(total.max()) if mask is not None else max(ids.shape[1], int(total.max()))
    positions = torch.arange(width, device=ids.device).expand(len(ids), -1)
    source = torch.where(positions < (begins + own)[:, None], positions, positions - (own + other - words)[:, None])
    made = ids.gather(1, source.clamp(0, ids.shape[1] - 1))
    behind = positions - (begins + own)[:, None]  # index among the partner's words
    theirs = ids[partner].gather(1, (begins[partner][:, None] + behind).clamp(0, ids.shape[1] - 1))
    made = torch.where((behind >= 0) & (behind < other[:, None]), theirs, made)
    made = torch.where(positions < total[:, None], made, rules.pad)
    if mask is None:
        return {"input_ids": made}
    return {"input_ids": made, "attention_mask": (positions < total[:, None]).to(mask.dtype)}


def _shares(own: Tensor, other: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many words of each caption are kept: all, or at least half of the room for each."""
    half = room // 2
    kept = torch.where(own + other <= room, own, torch.maximum(room - other, torch.minimum(own, room - half)))
    kept = torch.minimum(kept, own)
    return kept, torch.minimum(other, room - kept).clamp(min=0)
