"""m2-Mix: mixed negatives, by hand."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from hf_mixup.functional import slerp
from tests.conftest import batch_of, build
from tests.methods.pairs import mixup_of, projections, published_geodesic, symmetric_loss


def test_m2_is_half_of_the_published_sum_of_both_directions() -> None:
    model, batch, lam = build("clip").eval(), batch_of("clip"), 0.3
    with mixup_of("m2", loss_weight=0.02, loss_temperature=0.07)(model, batch, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    image, text = (F.normalize(each, dim=-1) for each in projections(model, batch))
    scores, eye = image @ text.T, torch.eye(6)
    negatives = slerp(image, text, lam)
    theirs = torch.zeros((), dtype=torch.float64)
    for own, plain in ((image, scores), (text, scores.T)):
        logits = (plain * eye + own @ negatives.T * (1 - eye)) / 0.07
        theirs = theirs + F.cross_entropy(logits.double(), torch.arange(6))
    expected = published_geodesic(model.logit_scale.exp() * scores, eye.double()) + 0.01 * theirs
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


def test_m2_by_hand() -> None:
    model, batch, lam = build("clip").eval(), batch_of("clip"), torch.rand(6)
    with mixup_of("m2", loss_weight=0.3, loss_temperature=0.2)(model, batch, lam=lam) as mixed:
        loss = mixed.loss(mixed.forward(model))
    image, text = (F.normalize(each, dim=-1) for each in projections(model, batch))
    negatives = slerp(image, text, lam)
    expected = symmetric_loss(model.logit_scale.exp() * image @ text.T, torch.eye(6))
    for own, other in ((image, text), (text, image)):
        for i in range(6):
            scores = torch.stack([own[i] @ (other[j] if i == j else negatives[j]) for j in range(6)]).double() / 0.2
            expected = expected - 0.3 * scores.log_softmax(-1)[i] / 12
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
