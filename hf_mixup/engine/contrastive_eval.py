"""What a Trainer keeps of a dual encoder's unmixed batch: embeddings, which metrics compare over a whole split."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.data.pair_collator import PAIR_IDS, RETURN_LOSS, encoder_inputs
from hf_mixup.engine.caption_ids import caption_keys
from hf_mixup.engine.similarity_head import Head
from hf_mixup.functional import soft_info_nce
from hf_mixup.models.adapters import base_model
from hf_mixup.models.dual_encoder import embeds_of, pair_logits_of


def has_own_loss(model: nn.Module) -> bool:
    """Whether a dual encoder computes a contrastive loss itself if asked to.

    >>> has_own_loss(nn.Linear(2, 2))
    False
    """
    forward = base_model(model).forward  # PEFT's own signature says nothing
    return RETURN_LOSS in inspect.signature(forward).parameters


def own_inputs(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the batch as the model itself takes it: asked for its loss, and without what only mixing knows."""
    inputs = encoder_inputs(batch)
    return {**inputs, RETURN_LOSS: True} if has_own_loss(model) else inputs


@torch.no_grad()
def evaluate_pairs(model: nn.Module, inner: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, Any, Tensor | None]:
    """Return loss, (image embeddings [B, D], text embeddings [B, D], head [B, 2]) and ids [B] of an unmixed batch.

    Each row of the head is (scale, bias) of the similarities. The ids are the batch's `pair_ids`, or numbers that agree
    where captions do; equal ones belong together.

    Args:
        model: the model as it is run, wrapped or not.
        inner: the model itself.
    """
    outputs = model(**own_inputs(inner, batch))
    images, texts = embeds_of(outputs)
    by_image, by_text = pair_logits_of(outputs)
    loss = outputs.get("loss")
    if loss is None:
        loss = soft_info_nce(by_image, torch.eye(len(by_image), device=by_image.device), by_text)
    if texts.dim() != 2:  # embeddings of a text that depend on the image cannot be compared over a split
        return loss, None, None
    head, ids = Head(inner), batch.get(PAIR_IDS)
    scale = head.scales()[0].reshape(()).to(images.dtype)
    bias = images.new_zeros(()) if head.bias is None else head.bias.reshape(()).to(images.dtype)
    rows = torch.stack([scale, bias]).expand(len(images), 2)
    keys = caption_keys(batch["input_ids"], batch.get("attention_mask")) if ids is None else ids
    return loss, (images, texts, rows), keys
