"""Mixup of one side of image-text pairs, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig
from hf_mixup.models.dual_encoder import pair_logits_of
from tests import pair_models
from tests.conftest import batch_of, build
from tests.methods.inputs import loop_cut
from tests.methods.pairs import PARTNER, blended, mixup_of, operator, projections, symmetric_loss


@pytest.mark.parametrize("along", [None, "time", "both"])
def test_videos_of_pairs_are_cut(along: Any) -> None:
    model = pair_models.build("XCLIPModel")
    batch, partner = pair_models.batch(model), torch.tensor([2, 3, 1, 0])
    plain = pair_logits_of(model(**batch))[0]
    for lam, source in ((1.0, torch.arange(4)), (0.0, partner), (0.5, None)):
        mixup = Mixup(MixupConfig("one_sided", image_mix="cut", cut_along=along))
        with mixup(model, batch, partner=partner, lam=lam) as mixed:
            outputs = mixed.forward(model)
        assert torch.isfinite(mixed.loss(outputs))
        if source is not None:
            torch.testing.assert_close(pair_logits_of(outputs)[0], plain[source], rtol=1e-3, atol=1e-3)
        else:
            axes = {None: (3, 4), "time": (1,), "both": (1, 3, 4)}[along]
            expected, share = loop_cut(batch["pixel_values"], mixed.draw, axes)
            assert torch.equal(mixed.inputs["pixel_values"], expected)
            torch.testing.assert_close(mixed.lam, share)


@pytest.mark.parametrize("side", ["image", "text"])
def test_one_sided_by_hand(side: str) -> None:
    model, batch, lam = build("clip").eval(), batch_of("clip"), torch.rand(6)
    with mixup_of("one_sided", side=side)(model, batch, partner=PARTNER, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    image, text = projections(model, batch)
    mix = operator(PARTNER, lam)
    if side == "text":
        text = blended(text, lam)
    else:
        pixels = blended(batch["pixel_values"], lam)
        image = projections(model, {**batch, "pixel_values": pixels})[0]
    logits = model.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    q = mix if side == "image" else mix.T
    torch.testing.assert_close(loss.double(), symmetric_loss(logits, q), rtol=1e-5, atol=1e-5)
