"""Positions, masks and types of tokens as users give them: one for all rows, one a row, counted from either side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
)

from hf_mixup import Mixup, MixupConfig
from hf_mixup.engine.batch import refuse_packed
from hf_mixup.models.batches import count_samples, select_samples, visible_tokens
from tests.conftest import CLASSES, build
from tests.entry_points import ENTRY_POINTS
from tests.integrations.parts import SMALL

PARTNER = torch.tensor([1, 0, 3, 2])
LONG = 10
GPT2 = {"vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "pad_token_id": 0}
QUIET = {"attn_pdrop": 0, "resid_pdrop": 0, "embd_pdrop": 0}
MODELS: dict[str, Any] = {
    "bert": lambda: build("bert"),
    "gpt2": lambda: GPT2ForSequenceClassification(GPT2Config(**GPT2, **QUIET, num_labels=CLASSES)),
    "llama": lambda: LlamaForSequenceClassification(LlamaConfig(**SMALL, num_labels=CLASSES)),
    "llama-lm": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
}


def made(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and name != "bert":
                parameter.mul_(8)
    return model.train()


def texts(lengths: tuple[int, ...] = (LONG, 6, 7, 4), left: bool = False) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    places = torch.arange(LONG).flip(0) if left else torch.arange(LONG)
    mask = (places < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": torch.randint(3, 60, (len(lengths), LONG), generator=g) * mask, "attention_mask": mask}


def counted(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"position_ids": (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)}


def as_map(batch: dict[str, Tensor], causal: bool, dtype: torch.dtype) -> Tensor:
    """Return the mask [B, T] as one of scores or of yes and no, [B, 1, T, T]."""
    seen = batch["attention_mask"].bool()[:, None, None].expand(-1, 1, LONG, LONG)
    seen = seen & torch.ones(LONG, LONG).tril().bool() if causal else seen
    return seen if dtype == torch.bool else torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(dtype).min)


GIVEN: dict[str, Any] = {
    "[1, T]": lambda batch: {"position_ids": torch.arange(LONG)[None]},
    "[B, T]": lambda batch: {"position_ids": torch.arange(LONG).expand(len(batch["input_ids"]), -1).clone()},
    "counted": counted,
    "cache_position": lambda batch: {"cache_position": torch.arange(LONG)},
    "no tensors": lambda batch: {"output_hidden_states": False, "return_dict": True},
}


def exchange_miss(model: PreTrainedModel, batch: dict[str, Any], method: str) -> float:
    """Return by how much the mixed outputs miss the partner's at lam = 0, as a share of the rows' difference."""
    with torch.no_grad():
        plain = model(**batch).logits[PARTNER]
        labels = torch.zeros(batch["input_ids"].shape[: plain.dim() - 1], dtype=torch.long)
        with Mixup(method)(model, {**batch, "labels": labels}, partner=PARTNER, lam=0.0) as mixed:
            found = model(**mixed.inputs).logits
    seen = visible_tokens(batch)
    if plain.dim() == 3 and seen is not None:
        shown = seen.expand(len(plain), -1)[PARTNER, :, None]
        found, plain = found * shown, plain * shown
    return float((found - plain).abs().max() / (plain - plain[PARTNER]).abs().max())


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", MODELS)
def test_rows_of_different_length_are_exchanged_exactly(name: str, given: str, left: bool) -> None:
    batch = texts(left=left)
    assert exchange_miss(made(name), {**batch, **GIVEN[given](batch)}, "embedding") < 1e-4


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", MODELS)
def test_hidden_states_of_equal_rows(name: str, given: str) -> None:
    batch = texts((LONG,) * 4)
    assert exchange_miss(made(name), {**batch, **GIVEN[given](batch)}, "manifold") < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
@pytest.mark.parametrize("name", MODELS)
def test_masks_with_a_place_for_each_pair_of_tokens(name: str, dtype: torch.dtype) -> None:
    batch = texts()
    whole = {**batch, "attention_mask": as_map(batch, name != "bert", dtype)}
    assert exchange_miss(made(name), whole, "embedding") < 1e-4
    shared = as_map(texts((LONG,)), name != "bert", dtype)
    assert shared.shape == (1, 1, LONG, LONG)
    assert exchange_miss(made(name), {**texts((LONG,) * 4), "attention_mask": shared}, "embedding") < 1e-4


def test_such_a_mask_beside_a_pooled_last_token() -> None:
    batch = texts()
    whole = {**batch, "attention_mask": as_map(batch, True, torch.float32)}
    with pytest.raises(ValueError, match="does not mix samples of different length"):
        exchange_miss(made("llama"), whole, "manifold")


@pytest.mark.parametrize("types", [torch.zeros(1, LONG), (torch.arange(LONG) > 4)[None]])
@pytest.mark.parametrize("method", ["embedding", "manifold"])
def test_types_of_tokens_for_all_rows(method: str, types: Tensor) -> None:
    batch = {**texts((LONG,) * 4), "token_type_ids": types.long()}
    assert exchange_miss(made("bert"), batch, method) < 1e-4
    alone = {**texts((LONG,) * 4), "attention_mask": torch.ones(1, LONG, dtype=torch.long)}
    assert exchange_miss(made("bert"), alone, method) < 1e-4


@pytest.mark.parametrize("given", ["[1, T]", "[B, T]", "counted"])
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_entry_point_takes_them(entry_point: str, given: str, arguments: Any) -> None:
    """With lam = 0 and each sample given away once, the first loss is that of the plain batch."""
    batch = texts()
    rows = [{key: value[row] for key, value in batch.items()} | {"labels": row} for row in range(4)]

    def collate(features: list[dict[str, Any]]) -> dict[str, Tensor]:
        made = {key: torch.stack([torch.as_tensor(each[key]) for each in features]) for key in features[0]}
        return {**made, **GIVEN[given](made)}

    model = made("llama")
    with torch.no_grad():
        whole = collate(rows)
        expected = float(model(**whole).loss)
    args = arguments(max_steps=1, logging_strategy="steps", logging_steps=1)
    config = MixupConfig("embedding", lam=0.0, pairing="roll")
    if entry_point in ("collator", "adopted"):
        from transformers import Trainer

        from hf_mixup import MixupCollator, MixupTrainer

        collator = MixupCollator(collate, config, model=model if entry_point == "collator" else None)
        kind = Trainer if entry_point == "collator" else MixupTrainer
        trainer = kind(model, args, data_collator=collator, train_dataset=rows)
    else:
        trainer = ENTRY_POINTS[entry_point](model, args, config, train_dataset=rows, data_collator=collate)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_what_is_packing_and_what_is_padding() -> None:
    mask = torch.tensor([[0, 0, 1, 1]])
    refuse_packed({"position_ids": torch.tensor([[1, 1, 0, 1]]), "attention_mask": mask})
    refuse_packed({"position_ids": torch.tensor([[1, 1, 0, 1]] * 2), "attention_mask": mask.expand(2, -1)})
    for batch in (
        {"position_ids": torch.tensor([[0, 1, 0, 1]])},
        {"position_ids": torch.tensor([[0, 1, 0, 1]] * 2)},
        {"position_ids": torch.tensor([[0, 1, 0, 1]]), "attention_mask": torch.ones(1, 4)},
    ):
        with pytest.raises(ValueError, match="'position_ids' tells of sequences packed"):
            refuse_packed(batch)


def test_one_number_a_token_is_none_of_a_row() -> None:
    """Also where there are as many tokens as rows."""
    batch = {"cache_position": torch.arange(3), "input_ids": torch.ones(3, 3)}
    assert select_samples(batch, torch.tensor([0]), 3)["cache_position"].tolist() == [0, 1, 2]
    assert count_samples({"cache_position": torch.arange(5), "input_ids": torch.ones(3, 5)}) == 3


class Counts(torch.nn.Module):
    """Refuses samples whose visible tokens hold no mark of an image, and counts positions from the front."""

    config = SimpleNamespace(image_token_id=9, num_labels=3, pad_token_id=0)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = torch.nn.Embedding(30, 8), torch.nn.Linear(8, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        if not bool(((input_ids == 9) & attention_mask.bool()).any(1).all()):
            raise ValueError("fewer marks than images")
        states = self.table(input_ids) * attention_mask[..., None]
        return {"logits": self.head(states.cumsum(1).tanh().sum(1))}


def test_a_model_that_refuses_the_samples_on_trial_is_mixed_where_lengths_are_equal() -> None:
    """Padded on the left, the mark of the shorter sample lies where the longer one has another token."""
    model, ids = Counts(), torch.randint(10, 29, (4, 8), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 9
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([0, 1, 2, 0])}
    partner = torch.tensor([1, 0, 3, 2])
    with torch.no_grad(), Mixup("embedding")(model, batch, partner=partner, lam=0.0) as mixed:
        logits = model(**mixed.inputs)["logits"]
    torch.testing.assert_close(logits, model(ids[partner], batch["attention_mask"])["logits"].detach())
