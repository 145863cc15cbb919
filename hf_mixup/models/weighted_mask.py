"""Attention masks that weigh each token by the share of its sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_mixup.models.batches import pads_left
from hf_mixup.models.exchange import same_scores
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.outputs import logits_of
from hf_mixup.models.probe import eval_without_side_effects, full_pair, uneven_pair

Form = Literal["all", "causal"]
FORMS: tuple[Form, ...] = ("all", "causal")


def weighted_mask(model: nn.Module, batch: Mapping[str, Any], partner: Tensor, lam: Tensor) -> dict[str, Tensor]:
    """Return a mask, by its name, in which a token of the sample counts lam and one of the partner 1 - lam.

    The logarithm of that weight is added to the attention scores. A position where both samples have a token counts
    in full.

    Raises:
        ValueError: for a model or an attention backend that takes no such mask.
    """
    mask = batch.get("attention_mask")
    if not isinstance(mask, Tensor):
        return {}  # nothing is padded
    share = lam[:, None]
    visible = share * mask + (1 - share) * mask[partner]
    return {"attention_mask": additive(visible, _form_of(model, batch), _dtype(model))}


def additive(visible: Tensor, form: Form, dtype: torch.dtype) -> Tensor:
    """Return log(visible) [B, T] for each query, [B, 1, T, T]; for a hidden token the dtype's least number.

    >>> additive(torch.tensor([[1.0, 0.0]]), "all", torch.float32).exp()
    tensor([[[[1., 0.],
              [1., 0.]]]])
    """
    least, length = torch.finfo(dtype).min, visible.shape[1]
    seen = visible.log().clamp(min=least).to(dtype)[:, None, None].expand(-1, 1, length, -1)
    if form == "all":
        return seen
    later = torch.ones(length, length, dtype=torch.bool, device=visible.device).triu(1)
    return seen.masked_fill(later, least)


def _dtype(model: nn.Module) -> torch.dtype:
    return next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())


def _form_of(model: nn.Module, batch: Mapping[str, Any]) -> Form:
    """Return the form whose mask gives the scores of the model's own, tried on a long and a short sample; cached."""
    cache, name = hooks_of(model).cache, type(model).__name__
    backend = str(getattr(getattr(model, "config", None), "_attn_implementation", None))
    if "flash" in backend:
        raise ValueError(
            f"attention_mask_mode='weighted' adds numbers to attention scores, which {backend} of {name} does not take:"
            " load the model with attn_implementation='sdpa', or leave attention_mask_mode at 'union'"
        )
    if "weighted mask" not in cache:
        with eval_without_side_effects(model):
            pair = uneven_pair(batch, model, pads_left(batch)) or full_pair(batch, model)
            plain = _visible(logits_of(model(**pair)), pair)
            forms = [form for form in FORMS if _equals_plain(model, pair, form, plain)]
        cache["weighted mask"] = forms[0] if forms else None
    if cache["weighted mask"] is None:
        raise ValueError(
            f"attention_mask_mode='weighted': {name} takes no mask [B, 1, T, T] of numbers: leave it at 'union'"
        )
    return cache["weighted mask"]


def _equals_plain(model: nn.Module, pair: Mapping[str, Any], form: Form, plain: Tensor) -> bool:
    mask = additive(pair["attention_mask"].float(), form, _dtype(model))
    try:
        logits = logits_of(model(**{**pair, "attention_mask": mask}))
    except Exception:  # noqa: BLE001 - a model that expects [B, T] may raise anything
        return False
    return same_scores(_visible(logits, pair), plain)


def _visible(logits: Tensor, pair: Mapping[str, Any]) -> Tensor:
    """Return logits with 0 at padding."""
    mask = pair["attention_mask"]
    return logits * mask[..., None] if logits.dim() == 3 and logits.shape[:2] == mask.shape else logits
