"""What span_cut and ssmix share: which tokens are exchanged, what goes with them, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    GPT2Config,
    GPT2LMHeadModel,
)

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.methods._spans import exchange, ordinary_tokens
from hf_mixup.methods.base import TokenDraw
from tests.conftest import build, examples
from tests.methods.texts import BERT, SIZES, SPECIAL, classifier, mixed_texts, texts, words_of


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("pairs", [False, True])
def test_ordinary_tokens_are_the_words(left: bool, pairs: bool) -> None:
    batch = texts([5, 0, 1, 8, 2], left, pairs=pairs)
    expected = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    for row in range(5):
        expected[row, words_of(batch, row)] = True
    assert torch.equal(ordinary_tokens(batch, SPECIAL), expected)
    assert torch.equal(ordinary_tokens(batch, None), expected)  # CLS and SEP are the ends of each row
    without = {"input_ids": batch["input_ids"]}
    if not left:
        assert torch.equal(ordinary_tokens(without, SPECIAL), expected)


def test_the_ends_of_a_sample_stay_whatever_they_are() -> None:
    batch = {"input_ids": torch.tensor([[7, 8, 9, 8, 5]])}
    assert ordinary_tokens(batch, SPECIAL).tolist() == [[False, True, True, True, False]]
    batch = {"input_ids": torch.tensor([[8, 8, 9, 5, 4, 5]])}
    assert ordinary_tokens(batch, None).tolist() == [[False, False, True, False, True, False]]
    nothing = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.zeros(1, 3)}
    assert not ordinary_tokens(nothing, SPECIAL).any()


def test_what_goes_with_the_tokens() -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 50, (2, 6))
    batch = {
        "input_ids": ids,
        "bbox": torch.randint(0, 9, (2, 6, 4)),
        "token_type_ids": torch.randint(0, 2, (2, 6)),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1] * 6]),
        "global_attention_mask": torch.tensor([[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]),
        "position_ids": torch.tensor([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]),
        "pixel_values": torch.rand(2, 6, 3),
        "use_cache": False,
    }
    before = {key: value.clone() if isinstance(value, Tensor) else value for key, value in batch.items()}
    places = torch.tensor([[-1, 1, 4, -1, -1, -1], [-1, -1, -1, 2, -1, -1]])
    found = exchange(batch, TokenDraw("span_cut", torch.tensor([1, 0]), torch.ones(2), positions=places))
    for key, value in before.items():
        assert batch[key] is value or torch.equal(batch[key], value)  # type: ignore[arg-type]
        expected = value.clone() if isinstance(value, Tensor) else value
        if key in ("input_ids", "bbox", "token_type_ids"):
            expected[0, 1], expected[0, 2], expected[1, 3] = value[1, 1], value[1, 4], value[0, 2]
        assert found[key] is value or torch.equal(found[key], expected)


@pytest.mark.parametrize("name", ["span_cut", "ssmix"])
def test_refusals(name: str) -> None:
    batch = texts([5, 3])
    mixup, rows = Mixup(name), torch.tensor([0, 1])
    ids = batch["input_ids"]
    bert = {key: getattr(BERT, key) for key in ("vocab_size", "max_position_embeddings", *SIZES)}
    cases: list[tuple[Any, dict[str, Tensor], str]] = [
        (BertForMaskedLM(BERT), {**batch, "labels": ids}, "would change the text that BertForMaskedLM predicts"),
        (
            GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=16, n_embd=16, n_layer=1, n_head=2)),
            {"input_ids": ids, "labels": ids},
            "would change the text that GPT2LMHeadModel predicts",
        ),
        (
            BertForQuestionAnswering(BertConfig(**bert)),
            {**batch, "start_positions": rows, "end_positions": rows},
            r"found \[2, 2\] beside input_ids \[2, 9\]: the ends of an answer",
        ),
        (
            BertForMultipleChoice(BertConfig(**bert)),
            {key: value[:, None].repeat(1, 3, 1) for key, value in batch.items()} | {"labels": rows},
            r"needs input_ids \[B, T\], found shape \[2, 3, 9\]",
        ),
        (classifier(), {"inputs_embeds": torch.rand(2, 5, 16), "labels": rows}, r"found none: .*inputs_embeds"),
        (
            classifier(),
            {**batch, "attention_mask": torch.ones(2, 1, 9, 9), "labels": rows},
            r"needs an attention_mask \[B, T\], found \[2, 1, 9, 9\]",
        ),
    ]
    for model, inputs, message in cases:
        with pytest.raises(ValueError, match=message):
            mixup(model.eval(), inputs, lam=0.5)


@pytest.mark.parametrize("name", ["span_cut", "ssmix"])
@pytest.mark.parametrize("counts", [[6], [0, 0], [0, 1, 2], [7, 0, 3, 1, 2]], ids=str)
@pytest.mark.parametrize("left", [False, True])
def test_few_samples_and_few_words(name: str, counts: list[int], left: bool) -> None:
    batch = texts(counts, left)
    mixed = mixed_texts(MixupConfig(name, lam_per="sample"), batch, lam=0.05)
    if name == "ssmix" and len(counts) == 1:
        assert not isinstance(mixed.draw, TokenDraw)
        assert mixed.lam.tolist() == [1.0]
        return
    for row, other in enumerate(mixed.partner.tolist()):
        own, theirs = words_of(batch, row), words_of(batch, other)
        taken = mixed.draw.positions[row][mixed.draw.positions[row] >= 0]
        assert set(taken.tolist()) <= set(theirs)
        assert (len(taken) == 0) == (mixed.lam[row] == 1)
        kept = [t for t in range(batch["input_ids"].shape[1]) if t not in own]
        assert torch.equal(mixed.inputs["input_ids"][row, kept], batch["input_ids"][row, kept])


@pytest.mark.parametrize("name", ["span_cut", "ssmix"])
def test_training(name: str, arguments: Any) -> None:
    config = MixupConfig(name, lam=0.6)
    model = build("bert")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = MixupTrainer(
        model,
        arguments(max_steps=2, logging_strategy="steps", logging_steps=1),
        mixup=config,
        train_dataset=examples("bert", 8, lengths=True),
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert len(logs) == 2
    assert all(0 < log["mixup_lam"] < 1 for log in logs)
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
