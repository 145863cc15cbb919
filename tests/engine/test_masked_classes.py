"""A class whose logit is -inf costs what it should: nothing where its weight is 0, infinitely much elsewhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup.functional import soft_cross_entropy, soft_info_nce, soft_sigmoid_loss, two_target_cross_entropy
from hf_mixup.functional.targets import binary_cross_entropy
from hf_mixup.models.losses import distilled_loss_sum, mixed_loss_sum, soft_scores

SINGLE = "single_label_classification"
MASKED = [[2.0, 0.0, -math.inf]]


def leaf(values: Any = MASKED, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, dtype=dtype).requires_grad_()


def check_finite(loss: Tensor, logits: Tensor, value: float | None = None) -> None:
    """The loss has this value and the gradient of each logit is finite, 0 for the masked class."""
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert torch.equal(gradient[logits == -math.inf], torch.zeros_like(gradient[logits == -math.inf]))
    assert loss.isfinite()
    if value is not None:
        assert loss.item() == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("compiled", [False, True])
def test_two_targets_one_of_them_masked(dtype: torch.dtype, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled:  # the form that has no backward pass of its own
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    logits, own, other = leaf(dtype=dtype), torch.tensor([0]), torch.tensor([2])
    one, zero = torch.ones(1), torch.zeros(1)
    check_finite(two_target_cross_entropy(logits, own, other, one, zero), logits, 0.1269)
    check_finite(two_target_cross_entropy(logits, other, own, zero, one), logits, 0.1269)
    for weight in (1e-6, 0.5, 1.0):  # what is wanted and impossible costs infinitely much
        assert two_target_cross_entropy(logits, own, other, one - weight, zero + weight).item() == math.inf


def test_the_weight_of_a_target_keeps_its_gradient() -> None:
    logits, own, other = leaf([[2.0, 0.0, 1.0]]), torch.tensor([0]), torch.tensor([2])
    weights = torch.ones(1).requires_grad_(), torch.zeros(1).requires_grad_()
    gradients = torch.autograd.grad(two_target_cross_entropy(logits, own, other, *weights), weights)
    each = F.cross_entropy(logits.expand(2, 3), torch.tensor([0, 2]), reduction="none")
    assert torch.stack(gradients).flatten().tolist() == pytest.approx(each.tolist())


@pytest.mark.parametrize("compiled", [False, True])
def test_class_weights_of_zero_and_full_smoothing(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled:
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    logits, own, other = leaf(), torch.tensor([0]), torch.tensor([2])
    half = torch.tensor([0.5])
    weights = torch.tensor([1.0, 1.0, 0.0])
    found = two_target_cross_entropy(logits, own, other, half, half, 0.0, weights)
    check_finite(found, logits, 0.5 * 0.1269)
    # The masked class, of weight 0, has no part in the smoothing: (0.9 * 0.127 + 0.1 / 3 * (0.127 + 2.127)) / 2 and
    # of the other target the uniform part alone.
    found = two_target_cross_entropy(logits, own, other, half, half, 0.1, weights)
    uniform = (0.1269 + 2.1269) / 3
    assert found.item() == pytest.approx(0.5 * (0.9 * 0.1269 + 0.1 * uniform) + 0.5 * 0.1 * uniform, abs=1e-3)
    assert torch.autograd.grad(found, logits)[0].isfinite().all()
    # All of the label smoothed away: the label itself counts nothing.
    found = two_target_cross_entropy(logits, other, own, half, half, 1.0, weights)
    assert found.item() == pytest.approx(uniform, abs=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_place_that_counts_nothing_leaks_nothing(bad: float, ignored: bool) -> None:
    """Padded places of some models hold NaN."""
    logits = leaf([[2.0, 0.0, 1.0], [bad] * 3])
    labels = torch.tensor([0, -100 if ignored else 1])
    weight = torch.tensor([1.0, 1.0 if ignored else 0.0])
    found = two_target_cross_entropy(logits, labels, labels, weight, torch.zeros(2), smoothing=0.1)
    assert found.isfinite()
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient[0].abs().sum() > 0
    assert torch.equal(gradient[1], torch.zeros(3))


def test_dense_targets_and_pairs() -> None:
    logits = leaf()
    check_finite(soft_cross_entropy(logits, torch.tensor([[1.0, 0.0, 0.0]])), logits, 0.1269)
    weights = torch.tensor([1.0, 1.0, 0.0])
    check_finite(soft_cross_entropy(logits, torch.tensor([[0.5, 0.0, 0.5]]), weights, "sum"), logits, 0.5 * 0.1269)
    assert soft_cross_entropy(logits, torch.tensor([[0.5, 0.0, 0.5]])).item() == math.inf
    pairs = leaf([[2.0, -math.inf], [-math.inf, 2.0]])
    check_finite(soft_info_nce(pairs, torch.eye(2)), pairs, 0.0)
    check_finite(soft_sigmoid_loss(pairs, torch.eye(2)), pairs, math.log1p(math.exp(-2)))


def test_binary_cross_entropy_is_that_of_torch_and_beyond_it() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = leaf((40 * torch.randn(5, 7, generator=generator)).tolist(), torch.float64)
    targets = torch.rand(5, 7, generator=generator).double()
    targets[0], targets[1] = 0, 1
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    found = binary_cross_entropy(logits, targets)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each.sum(), logits)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients)
    ends = leaf([-math.inf, math.inf, -math.inf, math.inf])
    assert binary_cross_entropy(ends, torch.tensor([0.0, 1.0, 0.3, 0.3])).tolist() == [0, 0, math.inf, math.inf]
    settled = binary_cross_entropy(ends[:2], torch.tensor([0.0, 1.0])).sum()
    assert torch.equal(torch.autograd.grad(settled, ends)[0], torch.zeros(4))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bce", [False, True])
def test_a_mixed_batch_in_which_nothing_is_mixed(smoothing: float, bce: bool) -> None:
    """The masked class is the partner's, and that of a further row; neither has any weight."""
    logits, labels, other = leaf(), torch.tensor([0]), torch.tensor([2])
    further = ((torch.tensor([2]), torch.zeros(1)),)
    weights = None if bce else torch.tensor([1.0, 1.0, 0.0 if smoothing else 1.0])
    found = mixed_loss_sum(logits, labels, other, torch.ones(1), SINGLE, smoothing, weights, bce, further)
    if bce and smoothing:  # which asks for a little of the masked class
        assert found.item() == math.inf
        return
    plain = math.log1p(math.exp(-2)) + math.log(2) if bce else 0.1269
    assert torch.autograd.grad(found, logits, retain_graph=True)[0].isfinite().all()
    if not smoothing:
        check_finite(found, logits, plain)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_of_no_weight(bad: float) -> None:
    values, labels = leaf([1.0]), torch.tensor([3.0])
    found = mixed_loss_sum(values, labels, torch.tensor([bad]), torch.ones(1), "regression")
    check_finite(found, values, 4.0)
    several = leaf([[2.0, -math.inf]])
    labels = torch.tensor([[1.0, 0.0]])
    found = mixed_loss_sum(several, labels, labels * bad, torch.ones(1), "multi_label_classification")
    check_finite(found, several, math.log1p(math.exp(-2)))


@pytest.mark.parametrize("bce", [False, True])
def test_a_teacher_that_masks_the_same_classes(bce: bool) -> None:
    logits = leaf([[2.0, 0.0, -math.inf], [-math.inf, 0.0, 1.0]])
    taught = soft_scores(torch.tensor([[1.0, 0.0, -math.inf], [1.0, 0.0, 1.0]]), 2.0, SINGLE, bce)
    mass = torch.tensor([1.0, 0.0])  # the second row wants what is masked, and counts nothing
    found = distilled_loss_sum(logits, taught, mass, 2.0, SINGLE, bce)
    check_finite(found, logits)
    assert found.item() > 0
    assert distilled_loss_sum(logits, taught, torch.ones(2), 2.0, SINGLE, bce).item() == math.inf


class Head(torch.nn.Module):
    """A classifier that masks its last class."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.linear(pixel_values.flatten(1)).masked_fill(torch.tensor([False, False, True]), -math.inf)
        found = {"logits": logits}
        return found if labels is None else {"loss": F.cross_entropy(logits, labels), **found}


def test_training_a_head_that_masks_a_class() -> None:
    from hf_mixup import Mixup, MixupConfig

    torch.manual_seed(0)
    model, engine = Head(), Mixup(MixupConfig(method="mixup", lam=1.0, self_check=False))
    batch = {"pixel_values": torch.randn(4, 1, 2, 2), "labels": torch.tensor([0, 1, 0, 1])}
    with engine(model, batch) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    loss.backward()
    assert loss.item() == pytest.approx(model(**batch)["loss"].item())
    assert model.linear.weight.grad is not None
    assert model.linear.weight.grad.isfinite().all()


def test_views_and_scores_of_a_head_that_masks_a_class() -> None:
    from types import SimpleNamespace

    from hf_mixup.augment.tta import TestTimeAugmentation, View
    from hf_mixup.metrics import calibration_metrics, compute_metrics

    torch.manual_seed(0)
    model, pixels = Head().eval(), torch.randn(6, 1, 2, 2)
    flip = View("flip", lambda model, batch: {**batch, "pixel_values": batch["pixel_values"].flip(-1)})
    for average in ("logits", "log_probabilities", "probabilities"):
        views = TestTimeAugmentation(model, [View("own"), flip], average=average)
        logits = views(pixel_values=pixels).logits
        assert logits[:, :2].isfinite().all()
        assert (logits[:, 2] == -math.inf).all()
    labels = logits.argmax(-1)
    scored = compute_metrics(SimpleNamespace(predictions=logits.numpy(), label_ids=labels.numpy()))  # type: ignore[arg-type]
    two = calibration_metrics(logits[:, :2].numpy(), labels.numpy())
    assert scored == pytest.approx(two)
    assert calibration_metrics(logits.numpy(), labels.numpy() * 0 + 2)["nll"] == math.inf
