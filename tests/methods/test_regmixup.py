"""RegMixup: the mixed loss beside the clean one, against loops that share no code with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup import Mixup
from tests.conftest import CLASSES, batch_of, build


@pytest.mark.parametrize("name", ["resnet", "vit"])
@pytest.mark.parametrize(
    "extra",
    [{}, {"lam_per": "sample", "loss_weight": 0.3}, {"prob": 0.5, "prob_per": "sample"}, {"label_smoothing": 0.1}],
)
@pytest.mark.parametrize("rows", [1, 5])
def test_regmixup_is_two_losses_sample_by_sample(name: str, extra: dict[str, Any], rows: int) -> None:
    model, batch = build(name).double().eval(), batch_of(name, rows=rows)
    batch["pixel_values"] = batch["pixel_values"].double()
    batch["labels"][-1] = -100
    mixup = Mixup({"method": "regmixup", "alpha": 10.0, **extra})
    smoothing, eta = extra.get("label_smoothing", 0.0), extra.get("loss_weight", 1.0)

    def loss(pixels: Tensor, label: int) -> Tensor:
        if label == -100:
            return torch.zeros((), dtype=torch.float64)
        scores = model(pixel_values=pixels[None]).logits[0].log_softmax(-1)
        return -(1 - smoothing) * scores[label] - smoothing * scores.mean()

    for _ in range(3):
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        pixels, labels, total = batch["pixel_values"], batch["labels"].tolist(), 0.0
        for row, (partner, lam) in enumerate(zip(mixed.partner.tolist(), mixed.lam.double(), strict=True)):
            total = total + loss(pixels[row], labels[row])
            if lam < 1:
                blended = lam * pixels[row] + (1 - lam) * pixels[partner]
                total = total + eta * lam * loss(blended, labels[row])
                total = total + eta * (1 - lam) * loss(blended, labels[partner])
        counted = max(sum(label != -100 for label in labels), 1e-12)
        torch.testing.assert_close(mixed.loss(outputs), torch.as_tensor(total / counted, dtype=torch.float64))
        assert len(outputs.logits) == rows + len(mixed.draw.rows)
        assert mixed.labels.shape == (rows,)
        assert mixed.targets.shape == (rows, CLASSES)


def test_regmixup_gradients_are_those_of_both_halves_in_one_pass() -> None:
    """Batch normalisation sees clean and mixed samples together, as in the paper's code."""
    model, by_hand, batch = build("resnet").train(), build("resnet").train(), batch_of("resnet")
    partner, lam = torch.tensor([1, 2, 3, 4, 5, 0]), 0.4
    with Mixup("regmixup")(model, batch, partner=partner, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
    mixed.loss(outputs).backward()
    pixels, labels = batch["pixel_values"], batch["labels"]
    blended = lam * pixels + (1 - lam) * pixels[partner]
    clean, mix = by_hand(pixel_values=torch.cat([pixels, blended])).logits.chunk(2)
    expected = F.cross_entropy(clean, labels)
    expected = expected + lam * F.cross_entropy(mix, labels) + (1 - lam) * F.cross_entropy(mix, labels[partner])
    expected.backward()
    for (name, one), other in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    for one, other in zip(model.buffers(), by_hand.buffers(), strict=True):
        torch.testing.assert_close(one, other)
    hit = mix.argmax(-1)
    accuracy = (lam * (hit == labels) + (1 - lam) * (hit == labels[partner])).mean()
    torch.testing.assert_close(mixed.accuracy(), accuracy)


@pytest.mark.parametrize("labels", [torch.rand(3, CLASSES).round(), torch.randn(3)])
def test_regmixup_of_other_problem_types(labels: Tensor) -> None:
    model, batch = build("resnet").eval(), batch_of("resnet", rows=3)
    if labels.dim() == 1:
        model.config.num_labels, model.classifier[1] = 1, torch.nn.Linear(12, 1)
    partner, lam = torch.tensor([1, 2, 0]), torch.tensor([0.2, 1.0, 0.4])
    with Mixup("regmixup")(model, {**batch, "labels": labels}, partner=partner, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
    share = lam.reshape(-1, *(1,) * (labels.dim() - 1))
    mix_labels = share * labels + (1 - share) * labels[partner]
    pixels, wide = batch["pixel_values"], lam[:, None, None, None]
    blended = wide * pixels + (1 - wide) * pixels[partner]
    score = F.mse_loss if labels.dim() == 1 else F.binary_cross_entropy_with_logits
    clean, mix = (model(pixel_values=each).logits.reshape(labels.shape) for each in (pixels, blended))
    kept = torch.tensor([0, 2])  # the second sample is left alone
    expected = score(clean, labels) + score(mix[kept], mix_labels[kept], reduction="sum") / labels.numel()
    torch.testing.assert_close(mixed.loss(outputs), expected)


def test_regmixup_carries_what_goes_with_a_sample() -> None:
    """Masks of audio clips are united for the mixed half alone; names in a list and flags follow their samples."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    clips = torch.tensor([[1.0, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]])
    batch = {"input_values": clips, "attention_mask": mask, "names": ["a", "b", "c"], "speed": torch.arange(3)}
    batch |= {"flag": True, "scale": torch.tensor(2.0), "labels": torch.tensor([0, 1, 0])}
    mixup = Mixup({"method": "regmixup", "self_check": False})
    partner, lam = torch.tensor([1, 0, 1]), torch.tensor([0.5, 1.0, 0.25])
    with mixup(torch.nn.Linear(2, 2), batch, partner=partner, lam=lam) as mixed:
        found = mixed.inputs
    expected = torch.stack([0.5 * clips[0] + 0.5 * clips[1], 0.25 * clips[2] + 0.75 * clips[1]])
    torch.testing.assert_close(found["input_values"], torch.cat([clips, expected]))
    assert found["attention_mask"].tolist() == [*mask.tolist(), [1, 1, 1, 1], [1, 1, 0, 0]]
    assert found["names"] == ["a", "b", "c", "a", "c"]
    assert found["speed"].tolist() == [0, 1, 2, 0, 2]
    assert found["flag"] is True
    assert found["scale"] == 2
    assert mixed.rate == 2 / 3


def test_regmixup_left_alone_is_the_plain_loss() -> None:
    model, batch = build("resnet").eval(), batch_of("resnet")
    with Mixup({"method": "regmixup", "prob": 0.0})(model, batch) as mixed:
        outputs = model(**mixed.inputs)
    assert mixed.inputs["pixel_values"] is batch["pixel_values"]
    torch.testing.assert_close(mixed.loss(outputs), F.cross_entropy(outputs.logits, batch["labels"]))


def test_regmixup_refuses_tokens() -> None:
    with pytest.raises(ValueError, match="'embedding'"):
        Mixup("regmixup")(build("bert"), batch_of("bert"))
