"""Interpolated adversarial training: mixed clean rows beside mixed adversarial ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.methods.adversarial import Adversarial
from hf_mixup.methods.base import Batch, Draw, Method, Request
from hf_mixup.models.batches import concat_batches, select_samples
from hf_mixup.models.noise import IDS


class InterpolatedAdversarial(Adversarial):
    """Mix the batch, and mix its adversarial copy alike; the loss is the mean of both (see `clean_weight`).

    The attack moves each row, unmixed, against its own label; see `adversarial` for its settings and cost.
    `interpolated_by` is the method that mixes, "embedding" for tokens, whose shifts are blended with them. Both halves
    have the same partners and lam, whereas a reimplementation of the paper draws anew for the second. An epsilon of 0
    is that method alone. freelb's points are mixed one by one.

    Raises:
        ValueError: for tokens where `interpolated_by` blends floats, and the other way round.

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
    blends = "what `interpolated_by` blends (default: mixup), beside it the same of rows moved up the gradient"
    paper = "arXiv:1906.06784"
    citation = (
        "@inproceedings{lamb2019interpolated, title={Interpolated Adversarial Training: Achieving Robust Neural "
        "Networks Without Sacrificing Too Much Accuracy}, author={Lamb, Alex and Verma, Vikas and Kannala, Juho and "
        "Bengio, Yoshua}, booktitle={AISec}, year={2019}}"
    )

    exchanges = True

    def __init__(self, config: Any) -> None:
        from hf_mixup.methods import METHODS

        super().__init__(config)
        self.inner: Method = METHODS[config.interpolated_by](config.for_method(config.interpolated_by))

    @property
    def enters_model(self) -> bool:  # type: ignore[override]
        """Whether rows are blended inside the model."""
        return self.inner.enters_model

    @property
    def for_pixels(self) -> bool:  # type: ignore[override]
        """Whether it has a rule for labels of pixels."""
        return self.inner.for_pixels

    @property
    def chooses_depths(self) -> bool:
        return self.inner.chooses_depths

    def depths(self, model: nn.Module, batch: Batch) -> list[int | None]:
        self._refuse(batch)
        return self.inner.depths(model, batch)

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        self.inner.prepare(model)

    def draw(self, request: Request) -> Draw:
        self._refuse(request.batch)
        draw = self.inner.draw(request)
        rows, whole = (draw.lam < 1).nonzero()[:, 0], torch.arange(request.rows)
        unmoved = self.config.epsilon == 0 or not len(rows)
        # A row that is left alone may still be the partner of one that is not.
        return self._attacked(request, replace(draw, method=self.name, rows=rows), whole[:0] if unmoved else whole)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        if draw.points is None or not self.enters_model:
            return super().apply(model, batch, draw, inplace)
        clean = [dict(batch)] if len(self._kept(draw)) else []
        parts = [*clean, *({**batch, **floats} for floats in self._floats(draw))]
        count, times = len(draw.lam), len(parts)
        partner = torch.cat([draw.partner + count * part for part in range(times)])
        repeated = replace(draw, partner=partner, lam=draw.lam.repeat(times))
        inputs = self.inner.apply(model, concat_batches(parts, batch, count), repeated, False)
        return self._shifted(model, inputs, draw, partner)

    def other_labels(self, labels: Tensor, draw: Draw) -> Tensor:
        return self.inner.other_labels(labels, draw)

    def label_lam(self, labels: Tensor, draw: Draw) -> Tensor:
        return self.inner.label_lam(labels, draw)

    def _clean(self, model: nn.Module, batch: Batch, draw: Draw) -> dict[str, Any]:
        return self.inner.apply(model, batch, draw, False)

    def _moved(self, model: nn.Module, batch: Batch, floats: dict[str, Tensor], draw: Draw) -> dict[str, Any]:
        mixed = self.inner.apply(model, {**batch, **floats}, draw, False)
        return select_samples(mixed, self._run(draw), len(draw.lam))

    def _kept(self, draw: Draw) -> Tensor:
        kept, whole = super()._kept(draw), torch.arange(len(draw.lam), device=draw.lam.device)
        return whole if self.enters_model and len(kept) else kept

    def _run(self, draw: Draw) -> Tensor:
        return torch.arange(len(draw.lam)) if self.enters_model else super()._run(draw)

    def _refuse(self, batch: Batch) -> None:
        tokens, by = IDS in batch and self.config.keys is None, self.config.interpolated_by
        if tokens and by != "embedding":
            raise ValueError(
                f"method {self.name!r} with interpolated_by={by!r} moves and mixes float inputs, and the batch has "
                "input_ids: set interpolated_by='embedding'"
            )
        if by == "embedding" and not tokens:
            raise ValueError(
                f"interpolated_by='embedding' needs tokens to move, and the batch has none: {', '.join(batch)}"
            )
