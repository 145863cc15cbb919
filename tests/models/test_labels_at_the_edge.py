"""Labels that transformers' own losses take, though they look odd: answers outside the row, one token a row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BartConfig,
    BartForQuestionAnswering,
    BertConfig,
    BertForQuestionAnswering,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    PreTrainedModel,
)

from hf_mixup import Mixup, MixupConfig
from hf_mixup.models.labels import read_labels
from tests.entry_points import ENTRY_POINTS
from tests.integrations.test_others import t5

SMALL = {"vocab_size": 60, "max_position_embeddings": 32}
BERT = {**SMALL, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "dropout": 0.0, "eos_token_id": 59}
DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "dropout": 0.0, "attention_dropout": 0.0}
READERS: dict[str, Any] = {
    "bert": lambda: BertForQuestionAnswering(BertConfig(**BERT, **STILL)),
    "distilbert": lambda: DistilBertForQuestionAnswering(DistilBertConfig(**SMALL, **DISTIL, qa_dropout=0.0)),
    "bart": lambda: BartForQuestionAnswering(BartConfig(**SMALL, **BART, **HEADS)),
}
PARTNER = torch.tensor([1, 0, 3, 2])
TOKENS = 8


def questions(outside: bool) -> dict[str, Tensor]:
    ids = torch.randint(3, 58, (4, TOKENS), generator=torch.Generator().manual_seed(0))
    starts, ends = torch.tensor([2, 0, 1, 5]), torch.tensor([4, 0, 1, 7])
    if outside:  # behind the last token, right behind it, and before the first
        starts, ends = torch.tensor([TOKENS + 5, -1, TOKENS, 5]), torch.tensor([500, -100, TOKENS, 7])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "start_positions": starts, "end_positions": ends}


def words(count: int = 1) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    ids, labels = torch.randint(3, 60, (4, 6), generator=g), torch.randint(3, 60, (4, count), generator=g)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def tags() -> tuple[PreTrainedModel, dict[str, Tensor]]:
    ids = torch.tensor([[5], [6], [7], [8]])
    return BertForTokenClassification(BertConfig(**BERT, **STILL, num_labels=3)), {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.tensor([[0], [2], [1], [1]]),
    }


def case(name: str) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    torch.manual_seed(0)
    if name in READERS:
        return READERS[name](), questions(outside=True)
    return tags() if name == "one tag" else (t5(), words())


CASES = [*READERS, "one word", "one tag"]


@pytest.mark.parametrize("method", ["embedding", "manifold"])
@pytest.mark.parametrize("name", CASES)
def test_both_ends_are_the_models_own_loss(name: str, method: str) -> None:
    model, batch = case(name)
    own = float(model(**batch).loss.detach())
    for lam in (0.0, 1.0):  # all samples are somebody's partner, so that the mean loss is the same
        with Mixup(method)(model, batch, partner=PARTNER, lam=lam) as mixed:
            assert float(mixed.loss(model(**mixed.inputs)).detach()) == pytest.approx(own, rel=1e-5)


def test_mixed_answers_are_the_blend_of_two_losses() -> None:
    model, batch = case("bert")
    with Mixup("embedding")(model, batch, partner=PARTNER, lam=0.3) as mixed:
        outputs = model(**mixed.inputs)
        loss = float(mixed.loss(outputs).detach())
    total = 0.0
    for logits, given in ((outputs.start_logits, "start_positions"), (outputs.end_logits, "end_positions")):
        scores = logits.log_softmax(-1)
        for row in range(4):
            for share, owner in ((0.3, row), (0.7, int(PARTNER[row]))):
                place = max(int(batch[given][owner]), 0)
                total -= share * float(scores[row, place]) if place < TOKENS else 0.0
    assert loss == pytest.approx(total / 4, rel=1e-5)  # two starts and two ends lie within


def test_answers_within_stay() -> None:
    batch = questions(outside=False)
    values = read_labels(READERS["bert"](), batch).values
    assert torch.equal(values, torch.stack([batch["start_positions"], batch["end_positions"]], 1))


@pytest.mark.parametrize("name", ["bert", "one word", "one tag"])
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_entry_point(entry_point: str, name: str, arguments: Any) -> None:
    model, batch = case(name)
    expected = float(model(**batch).loss.detach())
    rows = [{key: value[row] for key, value in batch.items()} for row in range(4)]
    args = arguments(max_steps=1, logging_strategy="steps", logging_steps=1)
    trainer = ENTRY_POINTS[entry_point](
        model, args, MixupConfig("embedding", lam=0.0, pairing="roll"), train_dataset=rows
    )
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-4)
