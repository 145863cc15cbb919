"""Mixup of inputs with a mask of their own."""

from __future__ import annotations

import torch

from tests.methods.inputs import drawn, ragged


def test_blended_series_are_observed_where_both_were() -> None:
    batch, partner = ragged("series"), torch.tensor([1, 2, 3, 4, 0])
    observed = batch["past_observed_mask"]
    for lam, expected in ((1.0, observed), (0.0, observed[partner]), (0.4, observed & observed[partner])):
        _, mixed = drawn("mixup", batch, partner=partner, dictated=torch.full((5,), lam))
        assert torch.equal(mixed["past_observed_mask"], expected)
