"""Refusals by the exchange of two samples: what a place in the batch changes, and ways out that work."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup import Mixup
from hf_mixup.engine.refusals import WAYS_OUT, Refusal
from tests import heads, streams

BATCH = {
    "pixel_values": torch.rand(4, 6, generator=torch.Generator().manual_seed(0)),
    "labels": torch.tensor([0, 1, 2, 0]),
}


class Counts(nn.Module):
    """Blocks of which each is told a sample's place in the batch, as by a model that counts the images of all samples.

    Args:
        by: how much a place counts.
    """

    def __init__(self, by: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        for block in self.blocks:
            nn.init.orthogonal_(block.weight)  # places and content count as much in each
        self.head, self.by, self.config = nn.Linear(6, 3), by, SimpleNamespace(num_labels=3)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        states, place = pixel_values, torch.arange(len(pixel_values))[:, None]
        for block in self.blocks:
            states = block(states + self.by * place)
        scores = self.head(states)
        return {"logits": scores} if labels is None else {"loss": F.cross_entropy(scores, labels), "logits": scores}


@pytest.mark.parametrize("loss", ["auto", "own"])
def test_hidden_states_of_another_place_are_refused(loss: str) -> None:
    model = Counts(2e-4)
    with pytest.raises(RuntimeError, match=r"'manifold' at depth 1: a sample's place in the batch .* Use 'mixup'"):
        Mixup({"method": "manifold", "layers": [1], "loss": loss})(model, BATCH)
    partner = torch.tensor([1, 0, 3, 2])
    with Mixup({"method": "mixup", "loss": loss})(model, BATCH, partner=partner, lam=0.0) as mixed:
        found = mixed.loss(mixed.forward(model))
    moved = {key: value[partner] for key, value in BATCH.items()}  # in the partner's place
    torch.testing.assert_close(found, model(**moved)["loss"])


@pytest.mark.parametrize("layers", [[0], [1], [3]])
def test_hidden_states_that_know_no_place_are_mixed(layers: list[int]) -> None:
    Mixup({"method": "manifold", "layers": layers})(Counts(0), BATCH)


def splinter() -> tuple[Any, dict[str, Any]]:
    from hf_mixup.testing.reach.survey import reference_of

    reference = reference_of("pretraining", "splinter")
    return reference.model, reference.batch


@pytest.mark.parametrize("build", [splinter, lambda: streams.make(heads.bert_pretraining)], ids=["splinter", "bert"])
def test_methods_that_are_offered_are_not_refused(build: Any) -> None:
    """All that a refusal names is tried, with the loss as it is set; nothing is named where all are refused."""
    model, batch = build()
    works: list[str] = []
    refused: list[str] = []
    for name in WAYS_OUT:
        try:
            Mixup(name)(model, batch)
            works.append(name)
        except (RuntimeError, ValueError):
            pass
    for name, loss in itertools.product((*WAYS_OUT, "cutmix", "regmixup"), ("auto", "own")):
        try:
            Mixup({"method": name, "loss": loss})(model, batch)
        except Refusal as refusal:
            offered = {each for each in WAYS_OUT if repr(each) in str(refusal).rpartition(". ")[2]}
            assert offered == set(works) - {name}
            refused.append(name)
        except (RuntimeError, ValueError):
            pass  # settings or inputs that do not go together, whatever the model
    assert refused
