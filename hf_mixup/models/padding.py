"""Rows of different length: what goes with them, found by trying the model on a long and a short row.

The policy. Blended embeddings are seen wherever either row has a token, and where only one has, that token stands
alone. Hidden states keep the row's own mask. In both, a model that pools a row at its last token has to find it there:
it is shown the ids of the longer row, or the rows are padded on the left, so that their last tokens meet. Where neither
helps, rows of different length are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_mixup.models.batches import pads_left, visible_tokens
from hf_mixup.models.blocks import Stack, activate_layer
from hf_mixup.models.embeddings import Ids, activate_embeddings
from hf_mixup.models.exchange import TOLERANCE, exchange_error
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.inputs import takes
from hf_mixup.models.outputs import logits_of
from hf_mixup.models.probe import eval_without_side_effects, two_samples, uneven_pair
from hf_mixup.models.weighted_mask import weighted_mask

Ends = Literal["own", "left", "left, counted", "equal"]
UNLIKE = (AssertionError, ValueError, IndexError, RuntimeError)
"""What a model raises that asks more of a row than its length: as many separators, the places of an image, ..."""
IDS: tuple[Ids, ...] = ("own", "longer")


def mix_embeddings(
    model: nn.Module,
    batch: Mapping[str, Any],
    partner: Tensor,
    lam: Tensor,
    mask: Literal["union", "weighted"] = "union",
) -> dict[str, Any]:
    """Arm the token tables by the policy that fits the model; return the inputs of the mixed rows.

    Args:
        mask: how attention sees tokens that only one of the rows has, see `MixupConfig`.

    Raises:
        ValueError: for rows of different length in a model that no policy fits, or no weighted mask.
    """
    weighted = weighted_mask(model, batch, partner, lam) if mask == "weighted" else {}
    hooks, key = hooks_of(model), f"ids of {', '.join(sorted(batch))}"
    if key not in hooks.cache:
        # A model may count a row's tokens from the front: what fits one side of padding need not fit the other.
        policies = {left: _ids_policy(model, batch, left) for left in (False, True)}
        if None not in policies.values():
            hooks.cache[key] = policies
    policies = hooks.cache.get(key, {False: "own", True: "own"})  # until there are rows to try them on
    # On a device, looking at the mask would have to wait for it: only where it matters.
    policy = policies[pads_left(batch) if policies[False] != policies[True] else False]
    if policy == "equal":
        refuse_uneven(model, batch)
    return {**activate_embeddings(model, batch, partner, lam, "longer" if policy == "longer" else "own"), **weighted}


def _ids_policy(model: nn.Module, batch: Mapping[str, Any], left: bool) -> Ids | Literal["equal"] | None:
    """Return the policy for rows padded on a side, None where the batch has no rows that could tell."""
    choices = batch["input_ids"].dim() == 3
    with eval_without_side_effects(model):
        rows = _choices(batch) if choices else uneven_pair(batch, model, left)
        if rows is None:
            return None
        try:
            plain = logits_of(model(**rows))
        except UNLIKE:
            return "equal"
        for ids in IDS[:1] if choices else IDS:
            with suppress(RuntimeError):  # where it works on other places than the mask's, no policy fits
                if exchange_error(model, rows, plain, partial(activate_embeddings, model, rows, ids=ids)) < TOLERANCE:
                    return ids
            hooks_of(model).forget()
    return "equal"


def _choices(batch: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the first two rows of a batch of multiple choice, None where they do not differ in length."""
    rows = two_samples(batch)
    mask = rows.get("attention_mask")
    return None if mask is None or torch.equal(mask[0], mask[1]) else rows


def mix_layer(
    model: nn.Module,
    stack: Stack,
    batch: Mapping[str, Any],
    partner: Tensor,
    lam: Tensor,
    depth: int,
    depths: Sequence[int | None] = (),
) -> dict[str, Any]:
    """Arm a block by the policy that fits the model; return the inputs, padded on the left if need be.

    Args:
        depth: that was drawn, in blocks.
        depths: all that may be drawn, see `activate_layer`.

    Raises:
        ValueError: for rows of different length in a model that no policy fits.
    """
    hooks, key = hooks_of(model), f"ends of {', '.join(sorted(batch))}"
    if key not in hooks.cache:
        hooks.cache[key] = _ends_policy(model, stack, batch)
    policy: Ends = hooks.cache[key]
    if policy == "equal":
        refuse_uneven(model, batch)
    activate_layer(model, stack, partner, lam, depth, depths=depths)
    return padded_left(batch, counted=policy == "left, counted") if policy.startswith("left") else dict(batch)


def _ends_policy(model: nn.Module, stack: Stack, batch: Mapping[str, Any]) -> Ends:
    """Find out whether a short row, blended with a long one after the last block, is blind to the latter's end."""
    with eval_without_side_effects(model):
        rows = uneven_pair(batch, model, pads_left(batch))
        if rows is None or pads_left(rows):
            return "own"
        try:
            plain = logits_of(model(**rows))
        except UNLIKE:
            return "equal"
        if plain.dim() > 2:  # one target a token: places meet
            return "own"
        scores = []
        for ids in (rows["input_ids"], _other_end(rows)):
            partner, half = torch.tensor([1, 0], device=plain.device), torch.full((2,), 0.5, device=plain.device)
            activate_layer(model, stack, partner, half, len(stack.blocks))
            scores.append(logits_of(model(**{**rows, "input_ids": ids}))[1])
            hooks_of(model).forget()
        if not torch.equal(scores[0], scores[1]):
            return "own"
        if torch.equal(logits_of(model(**{**rows, "input_ids": _other_end(rows)}))[0], plain[0]):
            return "own"  # the long row does not see its end either: as with MRA, whose attention is 0 on a CPU
        if rows["attention_mask"].dim() != 2:  # such a mask cannot be moved along
            return "equal"
        if _same(logits_of(model(**padded_left(rows))), plain):
            return "left"
        if not takes(model, "position_ids"):
            return "equal"
        return "left, counted" if _same(logits_of(model(**padded_left(rows, counted=True))), plain) else "equal"


def _same(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


def _other_end(rows: Mapping[str, Any]) -> Tensor:
    """Return ids whose first row has other tokens in its second half, but for the last."""
    seen = visible_tokens(rows)
    places = (rows["input_ids"] if seen is None else seen)[0].nonzero().flatten()
    late = places[len(places) // 2 + 1 : -1]
    changed = rows["input_ids"].clone()
    changed[0, late] = changed[0, places[1 : 1 + len(late)]]
    return changed


def padded_left(batch: Mapping[str, Any], counted: bool = False) -> dict[str, Any]:
    """Return the batch with the padding moved from the right to the left.

    Args:
        counted: also give the positions that the tokens had, for a model that numbers the places.

    >>> batch = {"input_ids": torch.tensor([[5, 6, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    >>> padded_left(batch, counted=True)["input_ids"], padded_left(batch, counted=True)["position_ids"]
    (tensor([[0, 5, 6]]), tensor([[2, 0, 1]]))
    """
    mask = batch["attention_mask"]
    places = torch.arange(mask.shape[1], device=mask.device)
    behind = mask.shape[1] - 1 - (mask * places).argmax(-1)
    source = (places - behind[:, None]) % mask.shape[1]
    moved = {
        key: value.gather(1, source) if isinstance(value, Tensor) and value.shape == mask.shape else value
        for key, value in batch.items()
    }
    return {"position_ids": source, **moved} if counted else moved


def refuse_uneven(model: nn.Module, batch: Mapping[str, Any]) -> None:
    """Refuse rows of different length.

    Raises:
        ValueError: if there are such.
    """
    seen = visible_tokens(batch)
    if seen is not None and bool((seen.sum(-1) != seen[0].sum()).any()):
        raise ValueError(
            f"{type(model).__name__} does not mix rows of different length rightly: it reads each row's own length or "
            "last token somewhere. Pad on the left (tokenizer.padding_side='left'), or make batches of equal length"
        )
