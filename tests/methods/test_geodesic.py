"""Geodesic mixup of embeddings, by hand and as the authors train."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hf_mixup.functional import slerp
from tests.conftest import batch_of, build
from tests.methods.pairs import PARTNER, mixup_of, operator, projections, published_geodesic, symmetric_loss


@pytest.mark.parametrize("side", ["image", "text", "both"])
def test_geodesic_by_hand(side: str) -> None:
    model, batch, lam = build("clip").eval(), batch_of("clip"), torch.rand(6)
    with mixup_of("geodesic", side=side)(model, batch, partner=PARTNER, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    image, text = projections(model, batch)
    mix, q = operator(PARTNER, lam), torch.eye(6)
    if side != "text":
        image, q = slerp(image, image[PARTNER], lam), mix @ q
    if side != "image":
        text, q = slerp(text, text[PARTNER], lam), q @ mix.T
    logits = model.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    torch.testing.assert_close(loss.double(), symmetric_loss(logits, q), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
@pytest.mark.parametrize("side", ["image", "text", "both"])
def test_geodesic_beside_the_plain_loss(loss: str, side: str) -> None:
    """The plain loss and so much of that of the mixed pairs, whatever is mixed; one pass of the model."""
    model, batch, lam = build("clip").eval(), batch_of("clip"), torch.rand(6)
    given = {"partner": PARTNER, "lam": lam}
    runs = []
    handle = model.register_forward_hook(lambda *_: runs.append(1))
    with mixup_of("geodesic", side=side, loss_weight=0.15, loss=loss)(model, batch, **given) as mixed:
        found = mixed.loss(mixed.forward(model))
    handle.remove()
    assert runs == [1]
    assert torch.equal(mixed.targets, torch.eye(6))
    with mixup_of("geodesic", side=side, loss=loss)(model, batch, **given) as alone:
        of_mixed = alone.loss(alone.forward(model))
    with mixup_of("geodesic", loss=loss)(model, batch, partner=PARTNER, lam=1.0) as none:
        plain = none.loss(none.forward(model))
    torch.testing.assert_close(found, plain + 0.15 * of_mixed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("side", "theirs"), [("image", 0.05), ("text", 0.05), ("both", 0.1)])
def test_geodesic_with_a_weight_is_what_the_authors_train(side: str, theirs: float) -> None:
    """I + P on both sides sums to 2 there: half of our weight."""
    model, batch, lam, flip = build("clip").eval(), batch_of("clip"), 0.3, torch.arange(5, -1, -1)
    weight = 2 * theirs if side == "both" else theirs
    config = mixup_of("geodesic", side=side, loss_weight=weight, paper_compat=side == "both", pairing="flip")
    with config(model, batch, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    assert torch.equal(mixed.partner, flip)
    image, text = (F.normalize(each, dim=-1) for each in projections(model, batch))
    scale, eye = model.logit_scale.exp(), torch.eye(6, dtype=torch.float64)

    def on_the_arc(states: torch.Tensor) -> torch.Tensor:
        angle = (states * states[flip]).sum(-1, keepdim=True).acos()
        return ((lam * angle).sin() * states + ((1 - lam) * angle).sin() * states[flip]) / angle.sin()

    expected = published_geodesic(scale * image @ text.T, eye)
    if side == "both":
        mix, q = on_the_arc(image) @ on_the_arc(text).T, eye + eye.flip(0)
    else:
        mix = on_the_arc(image) @ text.T if side == "image" else image @ on_the_arc(text).T
        q = lam * eye + (1 - lam) * eye.flip(0)
    torch.testing.assert_close(
        loss.double(), expected + theirs * published_geodesic(scale * mix, q), rtol=1e-5, atol=1e-5
    )


def test_the_published_targets_of_geodesic_mixing() -> None:
    """I + P for a reversed batch, whatever lam."""
    model, batch, flip = build("clip").eval(), batch_of("clip"), torch.arange(5, -1, -1)
    with mixup_of("geodesic", paper_compat=True)(model, batch, partner=flip, lam=0.8) as mixed:
        mixed.loss(mixed.forward(model))
    torch.testing.assert_close(mixed.targets, (torch.eye(6) + torch.eye(6)[flip]) / 2)
