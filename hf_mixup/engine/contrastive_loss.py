"""Targets and loss of a mixed batch of pairs, over the rows of all processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup.engine.all_gather import first_row, gather_rows
from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.similarity_head import Head
from hf_mixup.functional.contrastive import (
    Mix,
    contrastive_cross_entropy,
    mix_rows,
    scaled_overlap,
    soft_sigmoid_loss,
)
from hf_mixup.methods._pairs import PairMethod, along_the_arc
from hf_mixup.methods.base import Draw
from hf_mixup.methods.geodesic import GeodesicMixup
from hf_mixup.methods.m2 import M2Mix
from hf_mixup.models.dual_encoder import embeds_of, pair_logits_of


class PairObjective:
    """What the pairs of one batch are to be like, and how far they are from it.

    Each process scores its own rows against the rows of all processes (or all against all, `local_loss=False`); a part
    of them at a time, if the whole would take too much memory. Partners lie inside a process. What is exchanged between
    processes does not depend on what was drawn, since each draws for itself.

    Args:
        method: the method that mixed, or None for unmixed pairs.
        keys: numbers that agree where captions do, long [B].
        ids: the same for `pair_ids`, or None.

    Attributes:
        rows: numbers of the rows scored here among those of all processes, long [n].
    """

    def __init__(
        self, config: MixupConfig, method: PairMethod | None, draw: Draw, keys: Tensor, ids: Tensor | None
    ) -> None:
        self.config, self._method = config, method
        image, text = (None, None) if method is None else method.sides(draw)
        self._keys = gather_rows(keys)
        self._ids = None if ids is None else gather_rows(ids)
        self._image, self._text = _gathered(image, draw), _gathered(text, draw)
        self._lam = gather_rows(draw.lam)
        # How pairs are mixed that are scored beside the plain ones: their embeddings, and their targets.
        self._beside: list[tuple[Mix, Mix]] = []
        if isinstance(method, GeodesicMixup) and method.beside:
            self._beside = self._mixed_beside(method, draw)
        every = torch.arange(len(self._keys), device=keys.device)
        start = first_row(len(keys))
        self.rows = every[start : start + len(keys)] if config.local_loss else every

    def _mixed_beside(self, method: GeodesicMixup, draw: Draw) -> list[tuple[Mix, Mix]]:
        """Return the mixes of embeddings and targets, of all rows; nothing more is exchanged for them.

        Rows of a process that drew another method may be mixed already: they stay as they are.
        """
        whole = replace(draw, partner=self._image[0], lam=self._lam)
        arcs, targets = [], []
        for (partner, before), arc, mix in zip((self._image, self._text), method.arcs(whole), method.mixes(whole)):
            arcs.append((partner, torch.where(before < 1, 1.0, before if arc is None else arc[1])))
            targets.append((partner, torch.where(before < 1, before, before if mix is None else mix[1])))
        return [(arcs[0], arcs[1]), (targets[0], targets[1])]

    def targets(self, rows: Tensor) -> Tensor:
        """Return Q for images by their numbers [n] against all captions, [n, N]; rows sum to 1."""
        return _shares(self._overlap(rows, self._image, self._text))

    def score(
        self, outputs: Mapping[str, Any], head: Head | None, rows: Tensor, sigmoid: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss of the rows [n], 0-d, and the targets' mass on the caption found for each image, [n].

        Args:
            head: computes similarities from the embeddings of all processes; None takes the model's own, of one.
        """
        if head is None:
            by_image, by_text = (each[rows] for each in pair_logits_of(outputs))
            images, texts = embeds_of(outputs)
        else:
            images, texts = (gather_rows(F.normalize(each, dim=-1)) for each in embeds_of(outputs))
            by_image, by_text = head.logits(images[rows], texts)[0], head.logits(images, texts[rows])[1]
        overlap = self._overlap(rows, self._image, self._text)
        loss = self._loss(by_image, by_text, overlap, rows, (self._image, self._text), sigmoid)
        if isinstance(self._method, M2Mix):
            loss = loss + self._method.extra_loss(images, texts, self._lam, rows, self._relevance(rows))
        if self._beside and head is not None and isinstance(self._method, GeodesicMixup):
            loss = loss + (self._method.loss_weight or 0.0) * self._loss_beside(images, texts, head, rows, sigmoid)
        return loss, _shares(overlap).gather(1, by_image.detach().argmax(-1, keepdim=True))[:, 0]

    def _loss_beside(self, images: Tensor, texts: Tensor, head: Head, rows: Tensor, sigmoid: bool) -> Tensor:
        """Return the loss of the pairs that are mixed as embeddings, behind the model."""
        (image, text), sides = self._beside
        images, texts = along_the_arc(images, *image), along_the_arc(texts, *text)
        by_image, by_text = head.logits(images[rows], texts)[0], head.logits(images, texts[rows])[1]
        return self._loss(by_image, by_text, self._overlap(rows, *sides), rows, sides, sigmoid)

    def _loss(
        self, by_image: Tensor, by_text: Tensor, overlap: Tensor, rows: Tensor, sides: tuple[Mix, Mix], sigmoid: bool
    ) -> Tensor:
        (image, text), smoothing = sides, self.config.label_smoothing
        if sigmoid:
            scaled = scaled_overlap(overlap, self._lengths(image)[rows], self._lengths(text))
            return soft_sigmoid_loss(by_image, scaled, smoothing)
        other = self._overlap(rows, text, image)
        return (
            contrastive_cross_entropy(by_image, overlap, smoothing)
            + contrastive_cross_entropy(by_text, other, smoothing)
        ) / 2

    def _relevance(self, rows: Tensor) -> Tensor:
        """Return 1.0 where a row [n] and one of all rows belong together, [n, N]."""
        if not self.config.duplicates:
            return F.one_hot(rows, len(self._keys)).float()
        same = self._keys[rows][:, None] == self._keys[None, :]
        if self._ids is not None:
            same = same | (self._ids[rows][:, None] == self._ids[None, :])
        return same.float()

    def _overlap(self, rows: Tensor, mix: Mix, columns: Mix) -> Tensor:
        """Return the rows of M R M_columns^T, as `pair_targets` does for all rows."""
        partner, lam = mix[0][rows], mix[1][rows][:, None]
        relevance = lam * self._relevance(rows) + (1 - lam) * self._relevance(partner)
        return mix_rows(relevance.mT, columns).mT

    def _lengths(self, mix: Mix) -> Tensor:
        """Return the lengths of the mixes of all rows, [N], as `mix_lengths` does."""
        partner, lam = mix
        related = self._keys == self._keys[partner]
        if self._ids is not None:
            related = related | (self._ids == self._ids[partner])
        if not self.config.duplicates:
            related = partner == torch.arange(len(partner), device=partner.device)
        return (lam**2 + (1 - lam) ** 2 + 2 * lam * (1 - lam) * related).sqrt()


def _shares(overlap: Tensor) -> Tensor:
    return overlap / overlap.sum(-1, keepdim=True).clamp(min=1e-12)


def _gathered(mix: Mix | None, draw: Draw) -> Mix:
    """Return the mix of all processes' rows; a process's partners are its own rows. None is one with lam = 1."""
    partner, lam = mix or (draw.partner, torch.ones_like(draw.lam))
    return gather_rows(partner + first_row(len(partner))), gather_rows(lam)
