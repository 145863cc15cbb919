"""Targets and loss of a mixed batch of pairs, over the rows of all processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup.config import MixupConfig
from hf_mixup.contrastive.gather import first_row, gather_rows, world_size
from hf_mixup.contrastive.head import Head
from hf_mixup.functional.contrastive import (
    Mix,
    contrastive_cross_entropy,
    mix_lengths,
    pair_targets,
    scaled_overlap,
    soft_sigmoid_loss,
)
from hf_mixup.methods.base import Params
from hf_mixup.methods.m2 import M2
from hf_mixup.methods.pairs import PairMethod
from hf_mixup.sites.towers import embeds_of, pair_logits_of


class PairObjective:
    """What the pairs of one batch are to be like, and how far they are from it.

    Each process scores its own rows against the rows of all processes (or all against all, `local_loss=False`).
    Partners lie inside a process, so that the mix operator of the whole batch is block-diagonal.

    Args:
        method: the method that mixed, or None for unmixed pairs.
        keys: numbers that agree where captions do, long [B].
        ids: the same for `pair_ids`, or None.
    """

    def __init__(
        self, config: MixupConfig, method: PairMethod | None, params: Params, keys: Tensor, ids: Tensor | None
    ) -> None:
        self.config, self._method, self._lam = config, method, params.lam
        image, text = (None, None) if method is None else method.sides(params)
        self._block = _relevance(config, keys, keys, ids, ids)  # of this process's rows
        self._lengths = [mix_lengths(self._block, mix) for mix in (image, text)]
        every_key, every_id = gather_rows(keys), None if ids is None else gather_rows(ids)
        every_image, every_text = _gathered(image), _gathered(text)
        start = first_row(len(keys))
        self.rows = slice(0, len(every_key)) if not config.local_loss else slice(start, start + len(keys))
        if not config.local_loss:
            keys, ids, image, text = every_key, every_id, every_image, every_text
        self.relevance = _relevance(config, keys, every_key, ids, every_id, self.rows.start)
        self.by_image = pair_targets(self.relevance, image, every_text)
        self.by_text = pair_targets(self.relevance, text, every_image)

    @property
    def targets(self) -> Tensor:
        """Q: pictures of this process (rows) by captions of all (columns), each row summing to 1."""
        return self.by_image / self.by_image.sum(-1, keepdim=True).clamp(min=1e-12)

    def logits(self, outputs: Mapping[str, Any], head: Head | None) -> tuple[Tensor, Tensor]:
        """Return similarities by picture and by text of this process's rows, [n, N] each."""
        if head is None:
            return pair_logits_of(outputs)  # one process: the model's own
        images, texts = (F.normalize(each, dim=-1) for each in embeds_of(outputs))
        every_image, every_text = gather_rows(images), gather_rows(texts)
        own_images, own_texts = every_image[self.rows], every_text[self.rows]
        return head.logits(own_images, every_text)[0], head.logits(every_image, own_texts)[1]

    def loss(self, by_image: Tensor, by_text: Tensor, outputs: Mapping[str, Any], sigmoid: bool) -> Tensor:
        """Return the mean loss of this process's rows, 0-d."""
        smoothing = self.config.label_smoothing
        if sigmoid:
            loss = soft_sigmoid_loss(by_image, self._overlaps(), smoothing)
        else:
            loss = (
                contrastive_cross_entropy(by_image, self.by_image, smoothing)
                + contrastive_cross_entropy(by_text, self.by_text, smoothing)
            ) / 2
        if isinstance(self._method, M2):
            images, texts = (gather_rows(each) for each in embeds_of(outputs))
            loss = loss + self._method.extra_loss(images, texts, gather_rows(self._lam), self.rows, self.relevance)
        return loss

    def _overlaps(self) -> Tensor:
        image, text = self._lengths
        rows = gather_rows(image)[self.rows] if not self.config.local_loss else image
        return scaled_overlap(self.by_image, rows, gather_rows(text))


def _relevance(
    config: MixupConfig,
    row_keys: Tensor,
    keys: Tensor,
    row_ids: Tensor | None,
    ids: Tensor | None,
    start: int = 0,
) -> Tensor:
    """Return 1.0 where a row and a column belong together, [n, N]; row 0 is column `start`."""
    if not config.duplicates:
        own = torch.arange(len(row_keys), device=keys.device) + start
        return F.one_hot(own, len(keys)).float()
    same = row_keys[:, None] == keys[None, :]
    if row_ids is not None and ids is not None:
        same = same | (row_ids[:, None] == ids[None, :])
    return same.float()


def _gathered(mix: Mix | None) -> Mix | None:
    """Return the mix of all processes' rows; a process's partners are its own rows."""
    if mix is None or world_size() == 1:
        return mix
    partner, lam = mix
    return gather_rows(partner + first_row(len(partner))), gather_rows(lam)
