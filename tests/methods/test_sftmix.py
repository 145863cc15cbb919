"""SFTMix: responses paired by confidence, against the same by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.functional import pair_by_confidence, token_losses
from hf_mixup.methods.sftmix import side_by_side
from hf_mixup.utils.constants import IGNORE_INDEX
from tests.conftest import batch_of, build
from tests.methods.texts import enlarge_weights


def causal() -> Any:
    torch.manual_seed(0)
    return enlarge_weights(
        GPT2LMHeadModel(GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=2, n_head=2)), 4
    ).double()


def responses() -> dict[str, Tensor]:
    """Make prompts and responses of different lengths; one sample has no label at all."""
    torch.manual_seed(2)
    ids = torch.randint(1, 30, (5, 10))
    labels, mask = ids.clone(), torch.ones_like(ids)
    for row, (start, end) in enumerate([(3, 8), (5, 10), (2, 9), (4, 5), (10, 10)]):
        labels[row, :start] = IGNORE_INDEX
        labels[row, end:], mask[row, end:] = IGNORE_INDEX, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def sftmix_by_hand(logits: Tensor, labels: Tensor, partner: Tensor, lam: Tensor, weight: float) -> Tensor:
    scores, total = logits.log_softmax(-1), torch.zeros((), dtype=torch.float64)
    answers = [[place for place in range(9) if labels[row, place + 1] != IGNORE_INDEX] for row in range(5)]
    for row in range(5):
        for place in answers[row]:
            total = total - scores[row, place, labels[row, place + 1]]
        if lam[row] == 1:
            continue
        for own, other in zip(answers[row], answers[partner[row]]):
            blended = lam[row] * logits[row, own] + (1 - lam[row]) * logits[partner[row], other]
            mixed = blended.log_softmax(-1)
            first, second = labels[row, own + 1], labels[partner[row], other + 1]
            total = total - weight * (lam[row] * mixed[first] + (1 - lam[row]) * mixed[second])
    return total / sum(len(answer) for answer in answers)


@pytest.mark.parametrize("name", ["sftmix", "intra"])
def test_methods_that_choose_partners_refuse_given_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"method '{name}' .*leave partner"):
        Mixup(name)(causal(), responses(), partner=torch.tensor([2, 0, 3, 1, 0]))


def test_sftmix_is_a_mixed_loss_beside_the_plain_one() -> None:
    model, batch = causal(), responses()
    lam = torch.tensor([0.3, 0.9, 0.5, 0.0, 1.0])
    with Mixup(MixupConfig("sftmix", loss_weight=0.7))(model, batch, lam=lam) as mixed:
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    logits, labels = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"]
    torch.testing.assert_close(outputs.logits, logits)
    means = []
    for row in range(5):
        losses = F.cross_entropy(logits[row, :-1], labels[row, 1:], reduction="none", ignore_index=IGNORE_INDEX)
        means.append(losses.sum() / (labels[row, 1:] != IGNORE_INDEX).sum().clamp(min=1))
    order = torch.stack(means).argsort().tolist()
    partner = torch.empty(5, dtype=torch.long)
    for one, other in ((0, 3), (1, 4), (3, 0), (4, 1), (2, 0)):
        partner[order[one]] = order[other]
    assert mixed.partner.tolist() == partner.tolist()
    expected = sftmix_by_hand(logits, labels, partner, lam.double(), 0.7)
    torch.testing.assert_close(loss, expected)
    for one, other in zip(*(torch.autograd.grad(each, list(model.parameters())) for each in (loss, expected))):
        torch.testing.assert_close(one, other)


def test_sftmix_without_weight_is_the_plain_loss() -> None:
    model, batch = causal(), responses()
    with Mixup(MixupConfig("sftmix", loss_weight=0.0))(model, batch) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    torch.testing.assert_close(loss, model(**batch).loss.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("rows", [1, 2, 3, 6, 7])
def test_confident_samples_meet_unsure_ones(rows: int) -> None:
    confidence = torch.rand(rows, generator=torch.Generator().manual_seed(rows))
    partner, order = pair_by_confidence(confidence), confidence.argsort(descending=True).tolist()
    for rank, row in enumerate(order[: rows // 2]):
        assert partner[row] == order[rows - rows // 2 + rank]
        assert partner[partner[row]] == row
    assert rows == 1 or (partner != torch.arange(rows)).all()
    with pytest.raises(ValueError, match=r"shape \[B\], got \[2, 2\]"):
        pair_by_confidence(torch.zeros(2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_token_losses_are_the_cross_entropy_of_each_token(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 7, 11).to(dtype), torch.randint(0, 11, (3, 7))
    labels[0, 2:] = IGNORE_INDEX
    wide = torch.promote_types(dtype, torch.float32)
    expected = F.cross_entropy(logits.to(wide).mT, labels, reduction="none")
    torch.testing.assert_close(token_losses(logits, labels), expected)


def test_responses_are_laid_side_by_side() -> None:
    labels = responses()["labels"]
    left_alone = torch.tensor([[False], [False], [False], [True], [False]])
    rows, places, others = side_by_side(labels, torch.tensor([1, 0, 3, 2, 1]), left_alone)
    found = list(zip(rows.tolist(), places.tolist(), others.tolist()))
    assert found == [(0, 3 + k, 5 + k) for k in range(5)] + [(1, 5 + k, 3 + k) for k in range(5)] + [(2, 2, 4)]


def test_sftmix_trains_and_refuses_what_it_cannot_pair(arguments: Any) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=2, n_head=2))
    data = [{key: value[row] for key, value in responses().items()} for row in range(4)]
    trainer = MixupTrainer(model, arguments(max_steps=3), mixup="sftmix", train_dataset=data)
    assert trainer.train().training_loss > 0
    with pytest.raises(ValueError, match="needs one label a token"):
        Mixup("sftmix")(build("bert"), batch_of("bert"))
    with pytest.raises(ValueError, match=r"pairing=.flip.: method .sftmix. does not read it"):
        Mixup(MixupConfig("sftmix", pairing="flip"))(causal(), responses())
