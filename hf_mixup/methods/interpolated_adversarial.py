"""Interpolated adversarial training: mixed clean rows beside mixed adversarial ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hf_mixup.methods.adversarial import Adversarial
from hf_mixup.methods.base import Batch, Method, Params, Request
from hf_mixup.methods.mixup import blend_inputs
from hf_mixup.sites.rows import rows_of


class InterpolatedAdversarial(Adversarial):
    """Mix the batch, and mix its adversarial copy alike; the loss is the mean of both (see `clean_weight`).

    The attack moves each row, unmixed, against its own label; see `adversarial` for its settings and cost. Both halves
    have the same partners and lam, whereas reimplementations of the paper draw anew for the second. An epsilon of 0 is
    mixup. freelb's points are mixed one by one.

    Source: Lamb et al. 2019, "Interpolated Adversarial Training: Achieving Robust Neural Networks without Sacrificing
    Too Much Accuracy", arXiv 1906.06784, algorithm 1 (there pgd of 7 steps, alpha = 1).
    """

    name = "interpolated_adversarial"
    title = "Interpolated adversarial training"
    blends = "any float input, and beside it the same blend of the rows moved up the gradient"
    paper = "arXiv:1906.06784"
    citation = (
        "@inproceedings{lamb2019interpolated, title={Interpolated Adversarial Training: Achieving Robust Neural "
        "Networks Without Sacrificing Too Much Accuracy}, author={Lamb, Alex and Verma, Vikas and Kannala, Juho and "
        "Bengio, Yoshua}, booktitle={AISec}, year={2019}}"
    )

    def draw(self, request: Request) -> Params:
        if "input_ids" in request.batch and self.config.keys is None:
            raise ValueError(
                f"method {self.name!r} mixes float inputs, and the batch has input_ids: use 'adversarial', or 'switch' "
                "between that and 'embedding'"
            )
        params = Method.draw(self, request)
        rows = (params.lam < 1).nonzero()[:, 0]
        # A row that is left alone may still be the partner of one that is not.
        whole = torch.arange(request.rows)
        unmoved = self.config.epsilon == 0 or not len(rows)
        return self._attacked(request, replace(params, rows=rows), whole[:0] if unmoved else whole)

    def _clean(self, batch: Batch, params: Params) -> dict[str, Any]:
        return blend_inputs(batch, params, self.name, self.config.keys, inplace=False)

    def _moved(self, batch: Batch, points: dict[str, Tensor], params: Params) -> dict[str, Any]:
        rows = torch.arange(len(params.lam)) if params.rows is None else params.rows
        return rows_of(self._clean({**batch, **points}, params), rows, len(params.lam))
