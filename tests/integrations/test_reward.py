"""TRL's RewardTrainer: chosen and rejected rows in one batch, mixed alike, by inheritance and by callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import LlamaForSequenceClassification

from hf_mixup import MixupCallback, MixupConfig, MixupTrainerMixin
from hf_mixup.engine.mixup import Mixup
from hf_mixup.integrations.trl import HalvesBatch
from tests.integrations.parts import QUIET, logged, moved, same, text, tiny, tokenizer, weights

trl = pytest.importorskip("trl")
LOGGED = ("loss", "accuracy", "margin", "min_reward", "mean_reward", "max_reward", "num_tokens")


class MixupRewardTrainer(MixupTrainerMixin, trl.RewardTrainer):
    pass


def data(rows: int = 12, margin: bool = False) -> Dataset:
    g = torch.Generator().manual_seed(0)
    made = []
    for row in range(rows):
        prompt = text(g)
        made.append({"prompt": prompt + " ", "chosen": text(g), "rejected": text(g)})
        if margin:
            made[-1]["margin"] = 0.1 * row
    return Dataset.from_list(made)


def train(tmp: Path, entry_point: str, mixup: Any = None, margin: bool = False, **settings: Any) -> Any:
    args = trl.RewardConfig(str(tmp), **{**QUIET, **settings})
    rows = data(margin=margin)
    shared = {"args": args, "train_dataset": rows, "eval_dataset": data(5), "processing_class": tokenizer()}
    model = tiny(LlamaForSequenceClassification, num_labels=1)
    if entry_point == "mixin":
        trainer = MixupRewardTrainer(model, mixup=mixup, **shared)
    else:
        callbacks = [MixupCallback(mixup)] if entry_point == "callback" else []
        trainer = trl.RewardTrainer(model, callbacks=callbacks, **shared)
    trainer.train()
    return trainer


@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_off_is_the_plain_trainer(entry_point: str, tmp_path: Path) -> None:
    plain = train(tmp_path, "plain", gradient_accumulation_steps=2)
    off = train(tmp_path, entry_point, MixupConfig("embedding", prob=0), gradient_accumulation_steps=2)
    assert same(weights(plain), weights(off))
    assert logged(plain, *LOGGED) == logged(off, *LOGGED)
    plainly, found = plain.evaluate(), off.evaluate()
    for name in ("eval_loss", "eval_accuracy", "eval_margin", "eval_num_tokens"):
        assert plainly[name] == found[name]


@pytest.mark.parametrize("method", ["embedding", "manifold"])
@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_mixed_training(entry_point: str, method: str, tmp_path: Path) -> None:
    plain = train(tmp_path, "plain")
    mixed = train(tmp_path, entry_point, MixupConfig(method, lam=0.6))
    for step, other in zip(logged(mixed, *LOGGED), logged(plain, *LOGGED)):
        loss, accuracy, margin, low, mean, high, tokens = step
        assert loss != other[0]
        assert 0 <= accuracy <= 1
        assert low <= mean <= high
        assert loss >= F.softplus(torch.tensor(-margin)) - 1e-4  # Jensen: the log is not a constant
        assert tokens == other[-1]
    assert [e["mixup_rate"] for e in mixed.state.log_history if "mixup_rate" in e] == [1, 1, 1]
    assert moved(train(tmp_path, "plain", max_steps=1, learning_rate=0.0).model, mixed)
    plain.model.load_state_dict(mixed.model.state_dict())
    assert plain.evaluate()["eval_loss"] == mixed.evaluate()["eval_loss"]


def test_both_halves_are_mixed_alike_and_margins_too(tmp_path: Path) -> None:
    """The loss by hand: a forward pass with the hidden states of each half blended, and the trainer's formula."""
    trainer = train(tmp_path, "mixin", MixupConfig("manifold", layers=[0]), margin=True, max_steps=1)
    model, batch = trainer.model.train(), next(iter(trainer.get_train_dataloader()))
    batch["input_ids"][batch["input_ids"] == 0] = 5  # rows of one length, pooled at the last token
    batch["attention_mask"][:] = 1
    seen = []
    trainer.mixup = Mixup(MixupConfig("manifold", layers=[0], lam_per="sample"))
    draw = HalvesBatch.from_batch.__func__
    try:
        HalvesBatch.from_batch = classmethod(lambda cls, *a: seen.append(draw(cls, *a)) or seen[-1])
        loss = trainer.compute_loss(model, dict(batch))
    finally:
        HalvesBatch.from_batch = classmethod(draw)
    (mixed,), half = seen, len(batch["margin"])
    partner, lam = mixed.partner[:half], mixed.lam[:half]
    assert torch.equal(mixed.partner[half:], partner + half)
    assert torch.equal(mixed.lam[half:], lam)
    embedded = model.model.embed_tokens(batch["input_ids"])
    rewards = []
    for part in (embedded[:half], embedded[half:]):
        blend = lam[:, None, None] * part + (1 - lam)[:, None, None] * part[partner]
        states = model.model(inputs_embeds=blend).last_hidden_state
        rewards.append(model.score(states)[:, -1, 0])
    margin = lam * batch["margin"] + (1 - lam) * batch["margin"][partner]
    expected = -F.logsigmoid(rewards[0] - rewards[1] - margin).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_accumulation_is_one_large_batch(entry_point: str, tmp_path: Path) -> None:
    config = MixupConfig("embedding", lam=0.0)
    small = train(tmp_path, entry_point, config, max_steps=1, gradient_accumulation_steps=2)
    large = train(tmp_path, entry_point, config, max_steps=1, per_device_train_batch_size=8)
    assert logged(small, "loss")[0] == pytest.approx(logged(large, "loss")[0], rel=1e-5)


def test_what_cannot_mix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="margin"):
        train(tmp_path, "callback", MixupConfig("embedding"), margin=True)
    for settings in ({"label_smoothing": 0.1}, {"pair_class": "same"}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            train(tmp_path, "mixin", MixupConfig("embedding", **settings))
    with pytest.raises(ValueError, match="3 rows"):
        HalvesBatch.from_batch(
            Mixup("embedding"), tiny(LlamaForSequenceClassification), {"input_ids": torch.ones(3, 4).long()}
        )
