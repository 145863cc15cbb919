"""Pairs of texts in the two halves of a batch, as reward models are trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.context import Context
from hf_mixup.engine.unwrap import unwrap
from hf_mixup.functional.contrastive import mix_rows
from hf_mixup.integrations.trl.batch import OwnLossBatch
from hf_mixup.methods.base import BoxDraw, Draw
from hf_mixup.models.batches import count_samples, expand_shared


class HalvesBatch(OwnLossBatch):
    """A batch [2B] of chosen texts followed by the rejected ones; both halves are mixed with the same partner and lam.

    A blend of chosen texts is still the better one beside the same blend of rejected texts, so that the label
    "chosen" stays and only the inputs (and a `margin`) mix: the case of one class in Zhang et al. 2018, arXiv
    1710.09412, equation 1.

    Raises:
        ValueError: for an odd number of rows.
    """

    @classmethod
    def from_batch(cls, context: Context, model: nn.Module, batch: Mapping[str, Any]) -> HalvesBatch:
        batch = expand_shared(batch)
        inner, rows = unwrap(model), count_samples(batch)
        if rows % 2:
            raise ValueError(f"{rows} rows: expected as many chosen as rejected ones")
        labels = next(value for value in batch.values() if isinstance(value, Tensor)).new_zeros(rows, dtype=torch.long)
        draw = context.draw(inner, dict(batch), labels[: rows // 2])
        return cls(context, inner, dict(batch), labels, _for_both(draw), inplace=False)

    def seen(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the batch with the margins mixed as the texts are."""
        margin = inputs.get("margin")
        if margin is None:
            return inputs
        return {**inputs, "margin": mix_rows(margin, (self.partner[: len(margin)], self.lam[: len(margin)]))}


def _for_both(draw: Draw) -> Draw:
    """Return the parameters of one half [B] for both, [2B]."""
    both = replace(draw, partner=torch.cat([draw.partner, draw.partner + len(draw.partner)]), lam=draw.lam.repeat(2))
    if isinstance(both, BoxDraw) and both.boxes.dim() == 2:
        return replace(both, boxes=both.boxes.repeat(2, 1))
    return both
