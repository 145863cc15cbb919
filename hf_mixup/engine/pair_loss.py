"""Trying, once, whether the loss that a dual encoder computes itself is the one of mixed pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.contrastive_eval import has_own_loss, own_inputs
from hf_mixup.engine.self_check import same_loss, uneven_pairs
from hf_mixup.engine.similarity_head import Head, uses_sigmoid
from hf_mixup.functional.contrastive import contrastive_cross_entropy, soft_info_nce, soft_sigmoid_loss
from hf_mixup.models.dual_encoder import pair_logits_of
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.probe import eval_without_side_effects

CHECKED = ("pair loss", None)
STEEP = 0.01  # a temperature at which two pairs score far apart, whatever the model has learnt


def check_pair_loss_once(model: nn.Module, inputs: Mapping[str, Any], config: MixupConfig) -> None:
    """Hold the loss of pairs that are not mixed against the model's own on two of them, at the first batch.

    A model without a loss of its own, or that computes none of two pairs, is passed over. One direction taken twice
    (CLAP) is taken for both.

    Raises:
        RuntimeError: if they differ, naming the label smoothing with which they would not.
    """
    checked = hooks_of(model).checked
    if CHECKED in checked or not has_own_loss(model):
        return
    rows, sigmoid = uneven_pairs(model, inputs), uses_sigmoid(model, config)
    with eval_without_side_effects(model), Head(model).held_at(STEEP):
        found = _scored(model, rows)
        if found is not None and not _is_plain(model, *found, sigmoid):
            _refuse(model, rows, found, sigmoid)
    if not torch.equal(*rows["input_ids"]):  # else one pair was doubled, which proves nothing
        checked.add(CHECKED)


Scored = tuple[Tensor, Tensor, Tensor]
"""A model's own loss of two pairs, and their similarities by image and by text, [2, 2]."""


def _scored(model: nn.Module, rows: Mapping[str, Any]) -> Scored | None:
    try:
        outputs = model(**own_inputs(model, rows))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None
    own, logits = outputs.get("loss"), pair_logits_of(outputs)
    fits = isinstance(own, Tensor) and own.numel() == 1 and all(each.shape == (2, 2) for each in logits)
    return (own, *logits) if fits else None


def _loss(by_image: Tensor, by_text: Tensor, sigmoid: bool, smoothing: float = 0.0) -> Tensor:
    targets = torch.eye(2, device=by_image.device)
    if sigmoid:
        return soft_sigmoid_loss(by_image, targets, smoothing)
    return soft_info_nce(by_image, targets, by_text, smoothing)


def _is_plain(model: nn.Module, own: Tensor, by_image: Tensor, by_text: Tensor, sigmoid: bool) -> bool:
    ours = [_loss(by_image, by_text, sigmoid)]
    if not sigmoid:
        ours += [contrastive_cross_entropy(each, torch.eye(2, device=each.device)) for each in (by_image, by_text)]
    return any(same_loss(model, own, each) for each in ours)


def _refuse(model: nn.Module, rows: dict[str, Any], found: Scored, sigmoid: bool) -> None:
    plain, name = "sigmoid" if sigmoid else "infonce", type(model).__name__
    out = f"loss={plain!r} to train on the mixed loss all the same"
    smoothing = _smoothing(model, rows, found, sigmoid)
    if smoothing is not None:
        raise RuntimeError(
            f"{name} smooths the labels of its own loss by {smoothing:g}, and mixed pairs would have none: set "
            f"label_smoothing={smoothing:g}, or {out}"
        )
    raise RuntimeError(
        f"the loss of {name} on two pairs is {float(found[0]):.4g}, where that of mixed pairs is "
        f"{float(_loss(*found[1:], sigmoid)):.4g}: mixing would leave out what it adds or weighs. Set {out}"
    )


def _smoothing(model: nn.Module, rows: dict[str, Any], found: Scored, sigmoid: bool) -> float | None:
    """Return the label smoothing by which the model's own loss is that of mixed pairs; None where there is none.

    The loss is linear in it, so that two pairs tell which it would be, and the same with other captions whether it is.
    """
    own, by_image, by_text = found
    sharp, even = (float(_loss(by_image, by_text, sigmoid, share)) for share in (0.0, 1.0))
    share = round((float(own) - sharp) / (even - sharp), 4) if even != sharp else 0.0
    sides: tuple[str, ...] = ("input_ids", "attention_mask", "token_type_ids")
    captions = {key: rows[key].flip(0) for key in sides if key in rows}
    crossed = _scored(model, {**rows, **captions})
    if crossed is None or not 0 < share < 1:
        return None
    both = all(same_loss(model, each[0], _loss(*each[1:], sigmoid, share)) for each in (found, crossed))
    return share if both else None
