"""Samples of different length: the policy that fits a model, found by trying it on a long and a short sample.

Blended embeddings are visible wherever either sample has a token; where only one has, that token stands alone. Hidden
states keep the sample's own mask. In both cases a model that pools a sample at its last token has to find it there: it
is given the ids of the longer sample, or the samples are padded on the left, so that their last tokens meet. Where
neither helps, samples of different length are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_mixup.models.batches import IDS, MASK, pads_left, visible_tokens
from hf_mixup.models.blocks import Stack, activate_layer
from hf_mixup.models.embeddings import Ids, activate_embeddings
from hf_mixup.models.exchange import TOLERANCE, exchange_error, same_scores
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.inputs import takes
from hf_mixup.models.outputs import logits_of
from hf_mixup.models.probe import eval_without_side_effects, two_samples, uneven_pair
from hf_mixup.models.ragged import read_layout
from hf_mixup.models.trace import pick_of_two
from hf_mixup.models.weighted_mask import weighted_mask

Ends = Literal["own", "left", "left, counted", "equal"]
REFUSALS = (AssertionError, ValueError, IndexError, RuntimeError)
"""What a model raises that needs more than length: as many separators, the tokens of an image, ..."""
CHOICES: tuple[Ids, ...] = ("own", "longer")


def mix_embeddings(
    model: nn.Module,
    batch: Mapping[str, Any],
    partner: Tensor,
    lam: Tensor,
    mask: Literal["union", "weighted"] = "union",
) -> dict[str, Any]:
    """Activate the hooks of the token tables by the policy that fits the model; return the inputs of the mixed samples.

    Args:
        mask: how attention sees tokens that only one of the samples has, see method 'embedding'.

    Raises:
        ValueError: for samples of different length if no policy fits the model, or it takes no weighted mask.
    """
    if IDS not in batch:  # a decoder beside audio or images, whose samples all begin at its first position
        return activate_embeddings(model, batch, partner, lam)
    weighted = weighted_mask(model, batch, partner, lam) if mask == "weighted" else {}
    cache, key = hooks_of(model).cache, f"ids of {', '.join(sorted(batch))}"
    if key not in cache and MASK in batch:  # without a mask samples cannot differ in length
        # A model may count a sample's tokens from the front: what fits one side of padding need not fit the other.
        policies = {left: _ids_policy(model, batch, left) for left in (False, True)}
        if None not in policies.values():
            cache[key] = policies
        hooks_of(model).open[key] = partial(_tells_of_length, frozenset(batch), key)
    policies = cache.get(key, {False: "own", True: "own"})  # until there are samples to try them on
    # On a device, reading the mask has to wait for it: only where it matters.
    policy = policies[_pads_left(model, batch) if policies[False] != policies[True] else False]
    if policy == "equal":
        refuse_uneven(model, batch)
    return {**activate_embeddings(model, batch, partner, lam, "longer" if policy == "longer" else "own"), **weighted}


def _pads_left(model: nn.Module, batch: Mapping[str, Any]) -> bool:
    known = read_layout(model, batch).pads_left  # with what else was read of images
    return pads_left(batch) if known is None else known


def _ids_policy(model: nn.Module, batch: Mapping[str, Any], left: bool) -> Ids | Literal["equal"] | None:
    """Return the policy for samples padded on a side, None where the batch has no samples to try it on."""
    choices = batch["input_ids"].dim() == 3
    with eval_without_side_effects(model):
        pair = _pair_to_try(model, batch, left)
        if pair is None:
            return None
        pair = _with_one_image(pair)
        try:
            plain = logits_of(model(**pair))
        except REFUSALS:
            return "equal"
        for ids in CHOICES[:1] if choices else CHOICES:
            with suppress(*REFUSALS):  # a model with other positions than the mask's: no policy fits
                if exchange_error(model, pair, plain, partial(activate_embeddings, model, pair, ids=ids)) < TOLERANCE:
                    return ids
            hooks_of(model).forget()
    return "equal"


def _pair_to_try(model: nn.Module, batch: Mapping[str, Any], left: bool) -> dict[str, Any] | None:
    """Return two samples of different length, padded on a side; None where the batch has none."""
    return _choices(batch, model) if batch[IDS].dim() == 3 else uneven_pair(batch, model, left)


def _tells_of_length(names: Set[str], key: str, model: nn.Module, batch: Mapping[str, Any]) -> bool:
    """Whether a batch of these entries has samples on which a policy can be tried that was not found yet."""
    if key in hooks_of(model).cache or not names <= batch.keys():
        return False
    inputs = {name: batch[name] for name in names}
    return any(_pair_to_try(model, inputs, left) is not None for left in (False, True))


def _with_one_image(pair: Mapping[str, Any]) -> dict[str, Any]:
    """Return two samples whose floats are those of the first, since only tokens are exchanged."""
    floats = {
        key: value
        for key, value in pair.items()
        if isinstance(value, Tensor) and value.is_floating_point() and "mask" not in key
    }
    return {**pair, **pick_of_two(floats, [0, 0])}


def _choices(batch: Mapping[str, Any], model: nn.Module) -> dict[str, Any] | None:
    """Return the first two samples of a multiple-choice batch, None where they do not differ in length."""
    pair = two_samples(batch, model)
    mask = pair.get("attention_mask")
    return None if mask is None or torch.equal(mask[0], mask[1]) else pair


def mix_layer(
    model: nn.Module,
    stack: Stack,
    batch: Mapping[str, Any],
    partner: Tensor,
    lam: Tensor,
    depth: int,
    depths: Sequence[int | None] = (),
) -> dict[str, Any]:
    """Activate the hook of a block by the policy that fits the model; return the inputs, padded on the left if needed.

    Args:
        depth, depths: see `activate_layer`.

    Raises:
        ValueError: for samples of different length if no policy fits the model.
    """
    cache, key = hooks_of(model).cache, f"ends of {', '.join(sorted(batch))}"
    if key not in cache:
        cache[key] = _ends_policy(model, stack, batch)
    policy: Ends = cache[key]
    if policy == "equal":
        refuse_uneven(model, batch)
    activate_layer(model, stack, partner, lam, depth, depths=depths)
    return padded_left(batch, counted=policy == "left, counted") if policy.startswith("left") else dict(batch)


def _ends_policy(model: nn.Module, stack: Stack, batch: Mapping[str, Any]) -> Ends:
    """Return the policy: does a short sample, blended with a long one after the last block, see the end of that?"""
    with eval_without_side_effects(model):
        pair = uneven_pair(batch, model, pads_left(batch))
        if pair is None or pads_left(pair):
            return "own"
        try:
            plain = logits_of(model(**pair))
        except REFUSALS:
            return "equal"
        if plain.dim() > 2:  # one target a token: positions meet
            return "own"
        scores = []
        for ids in (pair["input_ids"], _other_end(pair)):
            partner, half = torch.tensor([1, 0], device=plain.device), torch.full((2,), 0.5, device=plain.device)
            activate_layer(model, stack, partner, half, len(stack.blocks))
            scores.append(logits_of(model(**{**pair, "input_ids": ids}))[1])
            hooks_of(model).forget()
        if not torch.equal(scores[0], scores[1]):
            return "own"
        if torch.equal(logits_of(model(**{**pair, "input_ids": _other_end(pair)}))[0], plain[0]):
            return "own"  # the long sample does not see its end either: as with MRA, whose attention is 0 on a CPU
        if pair["attention_mask"].dim() != 2:  # such a mask cannot be shifted
            return "equal"
        if same_scores(logits_of(model(**padded_left(pair))), plain):
            return "left"
        if not takes(model, "position_ids"):
            return "equal"
        return "left, counted" if same_scores(logits_of(model(**padded_left(pair, counted=True))), plain) else "equal"


def _other_end(pair: Mapping[str, Any]) -> Tensor:
    """Return ids whose first sample has other tokens in its second half, except for the last token."""
    visible = visible_tokens(pair)
    positions = (pair["input_ids"] if visible is None else visible)[0].nonzero().flatten()
    late = positions[len(positions) // 2 + 1 : -1]
    changed = pair["input_ids"].clone()
    changed[0, late] = changed[0, positions[1 : 1 + len(late)]]
    return changed


def padded_left(batch: Mapping[str, Any], counted: bool = False) -> dict[str, Any]:
    """Return the batch with the padding moved from the right to the left.

    Args:
        counted: also return the position ids that the tokens had, for a model that counts positions.

    >>> batch = {"input_ids": torch.tensor([[5, 6, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    >>> padded_left(batch, counted=True)["input_ids"], padded_left(batch, counted=True)["position_ids"]
    (tensor([[0, 5, 6]]), tensor([[2, 0, 1]]))
    """
    mask = batch["attention_mask"]
    positions = torch.arange(mask.shape[1], device=mask.device)
    padding = mask.shape[1] - 1 - (mask * positions).argmax(-1)
    source = (positions - padding[:, None]) % mask.shape[1]
    moved = {
        key: value.gather(1, source) if isinstance(value, Tensor) and value.shape == mask.shape else value
        for key, value in batch.items()
    }
    return {"position_ids": source, **moved} if counted else moved


def refuse_uneven(model: nn.Module, batch: Mapping[str, Any]) -> None:
    """Refuse samples of different length.

    Raises:
        ValueError: if there are any.
    """
    visible = visible_tokens(batch)
    if visible is not None and bool((visible.sum(-1) != visible[0].sum()).any()):
        raise ValueError(
            f"{type(model).__name__} does not mix samples of different length rightly: it reads each sample's own "
            "length or last token somewhere. Pad on the left (tokenizer.padding_side='left'), or make batches of equal "
            "length"
        )
