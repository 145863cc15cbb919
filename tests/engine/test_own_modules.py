"""Modules of one's own, which return whatever they like: the loss is the right one, or is refused."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer

from hf_mixup import Mixup, MixupConfig
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS

LAM = 0.3
CONFIG = MixupConfig("mixup", lam=LAM, pairing="roll")
Named = namedtuple("Named", ["loss", "logits"])


class Own(nn.Module):
    """A linear classifier.

    Args:
        returned: what it returns of its loss, None without labels, and its logits.
        loss: of logits and labels.
    """

    def __init__(self, returned: Callable[[Any, Tensor], Any], loss: Callable[..., Tensor] = F.cross_entropy) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(768, 6), nn.Linear(6, 4)
        self.returned, self.own_loss = returned, loss

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.head(self.hidden(pixel_values.flatten(1)))
        return self.returned(None if labels is None else self.own_loss(logits, labels), logits)


RETURNED: dict[str, Callable[[Any, Tensor], Any]] = {
    "tuple": lambda loss, logits: (logits,) if loss is None else (loss, logits),
    "list": lambda loss, logits: [logits] if loss is None else [loss, logits],
    "named tuple": Named,
}


def trained(entry_point: str, model: nn.Module, rows: Any, arguments: Any) -> Trainer:
    args = arguments(max_steps=1, logging_strategy="steps", logging_steps=1, train_sampling_strategy="sequential")
    trainer = ENTRY_POINTS[entry_point](model, args, CONFIG, train_dataset=rows)  # type: ignore[arg-type]
    trainer.train()
    return trainer


@torch.no_grad()
def blended_loss(model: Own, rows: list[dict[str, Any]]) -> float:
    """Return the mixed loss of four rows, one by one and in float64."""
    total, weights = 0.0, [each.double() for each in (model.hidden.weight, model.head.weight)]
    for own, other in zip(rows, rows[-1:] + rows[:-1]):
        pixels = LAM * own["pixel_values"].double() + (1 - LAM) * other["pixel_values"].double()
        hidden = weights[0] @ pixels.flatten() + model.hidden.bias.double()
        log = (weights[1] @ hidden + model.head.bias.double()).log_softmax(-1)
        total -= float(LAM * log[own["labels"]] + (1 - LAM) * log[other["labels"]])
    return total / len(rows)


@pytest.mark.parametrize("returned", RETURNED)
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_outputs_that_are_no_mapping(entry_point: str, returned: str, arguments: Any) -> None:
    model, rows = Own(RETURNED[returned]), examples("vit", 4)
    expected = blended_loss(model, rows)
    trainer = trained(entry_point, model, rows, arguments)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("returned", [*RETURNED, "loss alone"])
def test_a_loss_is_compared_whatever_the_outputs_are(returned: str) -> None:
    def weighted(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, weight=torch.tensor([1.0, 5.0, 9.0, 2.0]))

    alone = {"loss alone": lambda loss, logits: logits if loss is None else loss}
    model = Own({**RETURNED, **alone}[returned], weighted)
    with pytest.raises(RuntimeError, match="mixing would leave out what it adds or weighs"):
        Mixup(CONFIG)(model, batch_of("vit", rows=4))


def test_scores_behind_hidden_states_are_not_taken_for_them() -> None:
    """Without labels the first of the tuple is another tensor than the logits."""
    states = torch.nn.Parameter(torch.randn(4, 6))
    model = Own(lambda loss, logits: (states[: len(logits)], logits) if loss is None else (loss, states, logits))
    with pytest.raises(RuntimeError, match=r"mixing would leave out.*loss='own'"):
        Mixup(CONFIG)(model, batch_of("vit", rows=4))


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_soft_labels_of_a_tuple(entry_point: str, arguments: Any) -> None:
    """Three times the binary cross-entropy is no loss that is mixed anyway, but linear in the labels."""

    def thrice(logits: Tensor, labels: Tensor) -> Tensor:
        return 3 * F.binary_cross_entropy_with_logits(logits, labels)

    model, rows = Own(RETURNED["tuple"], thrice), examples("vit", 4)
    pixels = torch.stack([row["pixel_values"] for row in rows])
    labels = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mixed = (LAM * each + (1 - LAM) * each.roll(1, 0) for each in (pixels, labels))
        expected = float(model(*mixed)[0])
    soft = [{**row, "labels": label.tolist()} for row, label in zip(rows, labels)]
    trainer = trained(entry_point, model, soft, arguments)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_forward_that_needs_labels() -> None:
    class Needing(Own):
        def forward(self, pixel_values: Tensor, labels: Tensor) -> Any:
            return super().forward(pixel_values, labels)

    with pytest.raises(RuntimeError, match=r"Needing.forward cannot do without labels.*default None.*loss='own'"):
        Mixup(CONFIG)(Needing(lambda loss, logits: {"loss": loss, "logits": logits}), batch_of("vit", rows=4))
    model = Needing(RETURNED["tuple"])
    with Mixup({**CONFIG.to_dict(), "loss": "own"})(model, batch_of("vit", rows=4)) as mixed:
        assert mixed.loss(mixed.forward(model)).isfinite()


def test_a_config_may_be_a_mapping() -> None:
    model = Own(RETURNED["tuple"])
    model.config = {"num_labels": 4}  # type: ignore[assignment]
    rows = examples("vit", 4)
    with Mixup(CONFIG)(model, batch_of("vit", rows=4)) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    assert float(loss) == pytest.approx(blended_loss(model, rows), rel=1e-5)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_samples_that_are_not_finite_are_named(value: float) -> None:
    batch = batch_of("vit", rows=4)
    batch["pixel_values"][:, 0, 3] = value
    with pytest.raises(RuntimeError, match="pixel_values holds nan or inf: leave such samples out"):
        Mixup(CONFIG)(build("vit"), batch)
    model = build("vit")
    torch.nn.init.constant_(model.classifier.weight, torch.nan)
    with pytest.raises(RuntimeError, match="hold none: look at its weights"):
        Mixup(CONFIG)(model, batch_of("vit", rows=4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pixels: F.dropout(pixels, 0.5), r"run again in evaluation mode.*needs training=self.training"),
        (lambda pixels: pixels.mul_(0.5), "or inputs that it changes in place"),
        (lambda pixels: pixels - pixels.mean(0), "depends on the others of its batch"),
    ],
)
def test_outputs_that_vary_without_mixing_are_no_fault_of_the_method(change: Any, message: str) -> None:
    class Varying(Own):
        def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Any:
            return super().forward(change(pixel_values), labels)

    model = Varying(lambda loss, logits: {"loss": loss, "logits": logits})
    with pytest.raises(RuntimeError, match=message):
        Mixup(CONFIG)(model, batch_of("vit", rows=4))


class Aged(nn.Module):
    """Scores two numbers [B, 2] and one [B]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3, 4)

    def forward(self, age: Tensor, size: Tensor | None = None) -> Tensor:
        size = age[:, None].expand(-1, 2) if size is None else size
        scores: Tensor = self.head(torch.cat([size, age[:, None]], 1))
        return scores


def test_one_number_a_sample_is_mixed_by_its_name() -> None:
    age, size, labels = torch.randn(4), torch.randn(4, 2), torch.arange(4)
    model = Aged()
    with pytest.raises(RuntimeError, match=r"leaves age as they are .*where `keys` names it: age"):
        Mixup(CONFIG)(model, {"age": age, "size": size, "labels": labels})
    with pytest.raises(ValueError, match=r"where `keys` names it: keys=\['age'\]"):
        Mixup(CONFIG)(model, {"age": age, "labels": labels})
    config = {**CONFIG.to_dict(), "keys": ["age", "size"]}
    with Mixup(config)(model, {"age": age, "size": size, "labels": labels}) as mixed:
        assert torch.allclose(mixed.inputs["age"], LAM * age + (1 - LAM) * age.roll(1))
