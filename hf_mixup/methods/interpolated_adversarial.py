"""Interpolated adversarial training: mixed clean samples beside mixed adversarial ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.methods.adversarial import AdversarialTraining, AttackDraw
from hf_mixup.methods.base import Batch, Method, Request, setting
from hf_mixup.methods.registry import build, register
from hf_mixup.models.batches import concat_batches, select_samples
from hf_mixup.models.noise import IDS
from hf_mixup.models.streams import is_looked_up
from hf_mixup.utils.suggest import did_you_mean

MIXES = ("mixup", "cutmix", "resizemix", "fmix", "gridmix", "saliencymix", "manifold", "features", "embedding")
"""The methods that it can mix by."""


@register
class InterpolatedAdversarialTraining(AdversarialTraining):
    """Mix the batch, and an attacked copy of it in the same way; the loss is the mean of both (see `clean_weight`).

    The attack moves each sample before it is mixed, against its own label; see `adversarial` for its settings and cost.
    `by` is the method that mixes. For tokens it is "embedding"; the shifts of tokens are blended with them. Both halves
    have the same partners and lam, whereas a reimplementation of the paper draws anew for the second. An epsilon of 0
    is that method alone. freelb's points are mixed one by one.

    Raises:
        ValueError: for tokens where `by` blends floats, and the other way round.

    Source: Lamb et al. 2019, "Interpolated Adversarial Training: Achieving Robust Neural Networks without Sacrificing
    Too Much Accuracy", arXiv 1906.06784 (there mixup or manifold mixup, and pgd).

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> settings = {"method": "interpolated_adversarial", "attack": "fgsm", "epsilon": 8 / 255}
    >>> with Mixup(settings)(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.inputs["pixel_values"].shape  # four mixed rows, then the same mixed from attacked ones
    torch.Size([8, 3, 64, 64])
    """

    name = "interpolated_adversarial"
    title = "Interpolated adversarial training"
    blends = "what `by` blends (default: mixup), beside it the same of rows moved up the gradient"
    modalities = ("image", "audio", "video")
    paper = "arXiv:1906.06784"
    begin_with = "by=mixup:clean_weight=0.5"
    citation = (
        "@inproceedings{lamb2019interpolated, title={Interpolated Adversarial Training: Achieving Robust Neural "
        "Networks Without Sacrificing Too Much Accuracy}, author={Lamb, Alex and Verma, Vikas and Kannala, Juho and "
        "Bengio, Yoshua}, booktitle={AISec}, year={2019}}"
    )

    exchanges = True

    by: Method | str | dict[str, Any] = setting(
        "mixup", "The method that mixes clean and attacked samples, with settings of its own; of tokens embedding."
    )

    def __post_init__(self) -> None:
        self.inner = self.by = build(self.by)
        if self.inner.name not in MIXES:
            name = self.inner.name
            raise ValueError(f"by={name!r} does not mix attacked samples: {did_you_mean(name, MIXES)}")
        super().__post_init__()

    @property
    def off(self) -> bool:
        return self.prob == 0 or self.inner.off

    def enters(self, model: nn.Module, batch: Batch) -> bool:
        return self.inner.enters(model, batch)

    @property
    def chooses_depths(self) -> bool:
        return self.inner.chooses_depths

    def depths(self, model: nn.Module, batch: Batch) -> list[int | None]:
        self._refuse(batch)
        return self.inner.depths(model, batch)

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        self.inner.prepare(model)

    def draw(self, request: Request) -> AttackDraw:
        self._refuse(request.batch)
        mixed = self.inner.draw(self.asked(request, self.inner))
        rows, whole = (mixed.lam < 1).nonzero()[:, 0], torch.arange(request.rows)
        unmoved = self.epsilon == 0 or not len(rows)
        # A sample that is left alone may still be the partner of one that is not.
        return self._attacked(request, replace(mixed, rows=rows), whole[:0] if unmoved else whole)

    def draw_given(self, partner: Tensor, lam: Tensor, depth: int | None = None) -> AttackDraw:
        mixed = self.inner.draw_given(partner, lam, depth)
        return mixed.more(AttackDraw, method=self.name, clean=mixed, points={}, seed=0)

    def apply(self, model: nn.Module, batch: Batch, draw: AttackDraw, inplace: bool) -> dict[str, Any]:
        if not draw.points or not self.inner.enters_model:
            return super().apply(model, batch, draw, inplace)
        clean = [dict(batch)] if len(self._kept(draw)) else []
        parts = [*clean, *({**batch, **floats} for floats in self._floats(draw))]
        count, times = len(draw.lam), len(parts)
        partner = torch.cat([draw.partner + count * part for part in range(times)])
        repeated = replace(draw.clean, partner=partner, lam=draw.lam.repeat(times))
        inputs = self.inner.apply(model, concat_batches(parts, batch, count), repeated, False)
        return self._shifted(model, inputs, draw, partner)

    def other_labels(self, labels: Tensor, draw: AttackDraw) -> Tensor:
        return self.inner.other_labels(labels, draw.clean)

    def label_lam(self, labels: Tensor, draw: AttackDraw) -> Tensor:
        return self.inner.label_lam(labels, draw.clean)

    def _clean(self, model: nn.Module, batch: Batch, draw: AttackDraw) -> dict[str, Any]:
        return self.inner.apply(model, batch, draw.clean, False)

    def _moved(self, model: nn.Module, batch: Batch, floats: dict[str, Tensor], draw: AttackDraw) -> dict[str, Any]:
        mixed = self.inner.apply(model, {**batch, **floats}, draw.clean, False)
        return select_samples(mixed, self._run(draw), len(draw.lam))

    def _kept(self, draw: AttackDraw) -> Tensor:
        kept, whole = super()._kept(draw), torch.arange(len(draw.lam), device=draw.lam.device)
        return whole if self.inner.enters_model and len(kept) else kept

    def _run(self, draw: AttackDraw) -> Tensor:
        return torch.arange(len(draw.lam)) if self.inner.enters_model else super()._run(draw)

    def _refuse(self, batch: Batch) -> None:
        tokens, by = IDS in batch and self.keys is None, self.inner.name
        if by != "embedding" and self.keys is None and is_looked_up(batch):
            raise ValueError(
                f"method {self.name!r} with by={by!r} moves and mixes float inputs, and the batch has tokens: "
                "set by='embedding', or name in `keys` what is moved"
            )
        if by == "embedding" and not tokens:
            raise ValueError(f"by='embedding' needs tokens to move, and the batch has none: {', '.join(batch)}")
