"""Heads that are no plain classifiers: answers, captions, spans of pages, cells of tables, pretraining."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig
from tests import heads, streams
from tests.engine.test_own_loss import OWN, PARTNER, doubled, scored

UNEVEN = torch.tensor([1, 0, 0, 1])  # no permutation, so that the mean losses of the two ends differ


def method_of(batch: streams.Batch) -> str:
    return "embedding" if "input_ids" in batch and "visual_embeds" not in batch else "manifold"


def end(model: Any, batch: streams.Batch, settings: dict[str, Any], lam: float) -> Tensor:
    with torch.no_grad(), Mixup(settings)(model, batch, partner=UNEVEN, lam=lam) as mixed:
        return mixed.loss(mixed.forward(model))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("loss", ["auto", "own"])
@pytest.mark.parametrize("build", [*heads.EXACT, *heads.OBJECTIVES, *heads.OWN_ONLY], ids=lambda build: build.__name__)
def test_the_ends_are_the_sample_and_its_partner(build: heads.Build, loss: str, inside: bool) -> None:
    model, batch = streams.make(build)
    settings = {"method": method_of(batch) if inside else "mixup", "loss": loss}
    if loss == "auto" and build in heads.OWN_ONLY:
        with pytest.raises((RuntimeError, ValueError), match=r"With loss='own' a model computes its loss itself"):
            Mixup(settings)(model, batch)
        return
    rows = {key: streams.rows_at(value, UNEVEN) for key, value in batch.items()}
    own, partners = (model(**each).loss.detach() for each in (batch, rows))
    assert (own - partners).abs() > 1e-5
    torch.testing.assert_close(end(model, batch, settings, 1.0), own)
    torch.testing.assert_close(end(model, batch, settings, 0.0), partners)


@pytest.mark.parametrize("build", heads.EXACT, ids=lambda build: build.__name__)
def test_in_between_it_is_the_models_own_loss_with_each_label(build: heads.Build) -> None:
    """In float64, dropout included: the value (but for a constant, where labels are soft), and all gradients."""
    model, batch = streams.make(build)
    exact = build not in (heads.splinter_spans, heads.kosmos2)  # which run in no float64
    model, batch = doubled(model, batch) if exact else (model, batch)
    method, (rtol, atol) = method_of(batch), (1e-6, 1e-7) if exact else (1e-3, 1e-6)
    found = {loss: scored(deepcopy(model), batch, {"method": method, "loss": loss}) for loss in ("auto", "own")}
    torch.testing.assert_close(found["auto"][1], found["own"][1], rtol=rtol, atol=atol)
    if build is not heads.visual_bert_answers:
        assert found["auto"][0] == pytest.approx(found["own"][0], rel=1e-6)
        return
    labels, others = batch["labels"], batch["labels"][PARTNER]
    blend = 0.3 * labels + 0.7 * others
    entropies = (torch.xlogy(each, each).sum() / len(labels) for each in (blend, labels, others))
    mixed, own, partners = map(float, entropies)
    assert found["auto"][0] - mixed == pytest.approx(found["own"][0] - 0.3 * own - 0.7 * partners, rel=1e-6)


class Captioner(nn.Module):
    """Scores some places before its words, and some behind; the label of a word may be scored at the place before."""

    def __init__(self, front: int, behind: int, moves: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.moves, self.config = front, moves, None
        self.seen, self.places = nn.Linear(4, 8), nn.Parameter(torch.randn(front + 6 + behind, 8))
        self.head = nn.Linear(8, 30)
        nn.init.normal_(self.head.weight)  # so that no other place scores alike

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head((self.seen(pixel_values)[:, None] + self.places).tanh())
        if labels is None:
            return {"logits": logits}
        scores = logits[:, self.front : self.front + labels.shape[1]]
        scores, labels = (scores[:, :-1], labels[:, 1:]) if self.moves else (scores, labels)
        return {"loss": F.cross_entropy(scores.flatten(0, 1), labels.flatten()), "logits": logits}


def pictures() -> streams.Batch:
    torch.manual_seed(0)
    return {"pixel_values": torch.randn(4, 4), "labels": torch.randint(0, 30, (4, 6))}


@pytest.mark.parametrize("moves", [0, 1])
@pytest.mark.parametrize(("front", "behind"), [(5, 0), (0, 5), (4, 1), (0, 0), (1, 0)])
def test_which_scores_belong_to_the_labels_is_found_by_the_models_own_loss(front: int, behind: int, moves: int) -> None:
    model, batch = doubled(Captioner(front, behind, moves), pictures())
    found = {}
    for loss in ("auto", "own"):
        with Mixup({"method": "mixup", "loss": loss})(model, batch, PARTNER, 0.3) as mixed:
            found[loss] = mixed.loss(mixed.forward(model))
    torch.testing.assert_close(found["auto"], found["own"], rtol=1e-6, atol=1e-7)


def test_no_places_fit_a_loss_of_another_kind() -> None:
    with pytest.raises(RuntimeError, match="With loss='own'"):
        Mixup("mixup")(Captioner(2, 2, 0), pictures())


def test_a_model_that_runs_with_labels_only_is_not_looked_into() -> None:
    model, batch = streams.make(heads.blip_answers)
    with pytest.raises(
        RuntimeError, match=r"does not run without labels, decoder_input_ids, so that method 'manifold'"
    ):
        Mixup({"method": "manifold", **OWN})(model, batch)


def test_answers_outside_the_classes_are_named() -> None:
    model, batch = streams.make(heads.lxmert_answers)
    batch["labels"][2] = 6
    with pytest.raises(ValueError, match="label 6 is outside the model's 6 classes"):
        Mixup(MixupConfig("embedding"))(model, batch)


@pytest.mark.parametrize("method", ["mixup", "embedding", "manifold"])
def test_positions_of_questions_are_content_that_may_not_stay_behind(method: str) -> None:
    """Splinter's head reads the place of a question off the inputs, past every place where samples are mixed."""
    torch.manual_seed(0)
    model = transformers.SplinterForPreTraining(transformers.SplinterConfig(**heads.BERT, question_token_id=3)).eval()
    ends = {"start_positions": torch.tensor([[3], [4], [2], [5]]), "end_positions": torch.tensor([[5], [6], [4], [7]])}
    batch = {**streams.text(), "question_positions": torch.tensor([[2], [5], [3], [4]]), **ends}
    with pytest.raises(RuntimeError, match="SplinterForPreTraining does not mix rightly with method"):
        Mixup({"method": method, "loss": "own"})(model, batch)
    same = {**batch, "question_positions": torch.full((4, 1), 2)}
    with Mixup({"method": method, "loss": "own"})(model, same) as mixed:
        mixed.loss(mixed.forward(model)).backward()
