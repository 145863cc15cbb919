"""TRL's SFTTrainer, whose head is fused with the loss: mixing by inheritance and by callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from hf_mixup import MixupCallback, MixupCollator, MixupConfig, MixupTrainerMixin
from hf_mixup.engine.mixup import Mixup
from hf_mixup.integrations.trl import FusedBatch
from tests.integrations.parts import QUIET, logged, moved, same, text, tiny, tokenizer, weights

trl = pytest.importorskip("trl")
LOGGED = ("loss", "entropy", "mean_token_accuracy", "num_tokens")


class MixupSFTTrainer(MixupTrainerMixin, trl.SFTTrainer):
    pass


def data(rows: int = 12) -> Dataset:
    g = torch.Generator().manual_seed(0)
    return Dataset.from_list([{"prompt": text(g) + " ", "completion": text(g)} for _ in range(rows)])


def train(tmp: Path, entry_point: str, mixup: Any = None, peft: bool = False, **settings: Any) -> Any:
    args = trl.SFTConfig(str(tmp), **{**QUIET, **settings})
    shared = {"args": args, "train_dataset": data(), "eval_dataset": data(5), "processing_class": tokenizer()}
    if peft:
        from peft import LoraConfig

        shared["peft_config"] = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    model = tiny(LlamaForCausalLM)
    if entry_point == "mixin":
        trainer = MixupSFTTrainer(model, mixup=mixup, **shared)
    else:
        callbacks = [MixupCallback(mixup)] if entry_point == "callback" else []
        trainer = trl.SFTTrainer(model, callbacks=callbacks, **shared)
    trainer.train()
    return trainer


@pytest.mark.parametrize("peft", [False, True])
@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_off_is_the_plain_trainer(entry_point: str, peft: bool, tmp_path: Path) -> None:
    plain = train(tmp_path, "plain", peft=peft, gradient_accumulation_steps=2)
    off = train(tmp_path, entry_point, MixupConfig("embedding", prob=0), peft, gradient_accumulation_steps=2)
    assert same(weights(plain), weights(off))
    assert logged(plain, *LOGGED) == logged(off, *LOGGED)
    plainly, found = plain.evaluate(), off.evaluate()
    for name in ("eval_loss", "eval_entropy", "eval_mean_token_accuracy", "eval_num_tokens"):
        assert plainly[name] == found[name]


@pytest.mark.parametrize("peft", [False, True])
@pytest.mark.parametrize("method", ["embedding", "manifold"])
@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_mixed_training(entry_point: str, method: str, peft: bool, tmp_path: Path) -> None:
    plain = train(tmp_path, "plain", peft=peft)
    mixed = train(tmp_path, entry_point, MixupConfig(method, lam=0.6), peft)
    steps, others = logged(mixed, *LOGGED), logged(plain, *LOGGED)
    for (loss, entropy, accuracy, tokens), other in zip(steps, others):
        assert loss != other[0]
        assert 0 < entropy < torch.log(torch.tensor(63.0))
        assert 0 <= accuracy <= 1
        assert tokens == other[3]  # what was read, whatever it was mixed with
    assert [e["mixup_rate"] for e in mixed.state.log_history if "mixup_rate" in e] == [1, 1, 1]
    before = train(tmp_path, "plain", peft=peft, max_steps=1, learning_rate=0.0)
    assert moved(before.model, mixed)
    plain.model.load_state_dict(mixed.model.state_dict())  # the same weights evaluate alike: nothing is mixed there
    assert plain.evaluate()["eval_loss"] == mixed.evaluate()["eval_loss"]


def test_fused_batch_is_the_blend_of_two_cross_entropies(tmp_path: Path) -> None:
    """Loss, entropy and hits by hand, from the logits that the fused head never builds."""
    trainer = train(tmp_path, "mixin", MixupConfig("manifold", layers=[1], lam_per="sample"), max_steps=1)
    model, batch = trainer.model.train(), next(iter(trainer.get_train_dataloader()))
    kinds = dict(batch)
    mixup = Mixup(MixupConfig("manifold", layers=[1], lam_per="sample"))
    with FusedBatch.from_batch(mixup, model, kinds) as mixed:
        out = mixed.standing_for(model)(**kinds, fused_lm_head=True)
    partner, lam = mixed.partner, mixed.lam
    seen = []

    def blend(module: Any, args: Any, output: Any) -> Any:
        seen.append(module)
        weight = lam.reshape(-1, 1, 1)
        return weight * output + (1 - weight) * output[partner]

    handle = model.model.layers[0].register_forward_hook(blend)
    with torch.no_grad():
        logits = model(batch["input_ids"], batch["attention_mask"]).logits[:, :-1].double()
    handle.remove()
    assert len(seen) == 1
    labels = batch["labels"][:, 1:]
    total = mass = hits = entropy = 0.0
    for row in range(len(labels)):
        for share, label in ((lam[row], labels[row]), (1 - lam[row], labels[partner[row]])):
            for place in (label != -100).nonzero()[:, 0]:
                scores = logits[row, place]
                total += share * F.cross_entropy(scores, label[place])
                hits += share * (scores.argmax() == label[place])
                entropy += share * torch.distributions.Categorical(logits=scores).entropy()
                mass += share
    assert -float(out.log_probs.detach().sum()) == pytest.approx(float(total), rel=1e-5)
    assert float(out.label_mask.sum()) == pytest.approx(float(mass), rel=1e-6)
    assert float(out.is_top1.detach().sum()) == pytest.approx(float(hits), abs=1e-5)
    assert float(out.entropy.detach().sum()) == pytest.approx(float(entropy), rel=1e-4)
    assert float(out.loss.detach()) == pytest.approx(float(total / mass), rel=1e-5)


@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_accumulation_is_one_large_batch(entry_point: str, tmp_path: Path) -> None:
    """With lam = 0 every row becomes its partner, whoever that is: two micro-batches are then one batch of eight."""
    one = MixupConfig("embedding", lam=0.0)
    small = train(tmp_path, entry_point, one, max_steps=1, gradient_accumulation_steps=2)
    large = train(tmp_path, entry_point, one, max_steps=1, per_device_train_batch_size=8)
    assert logged(small, "loss")[0] == pytest.approx(logged(large, "loss")[0], rel=1e-5)
    for name, value in weights(small).items():
        torch.testing.assert_close(value, weights(large)[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
@pytest.mark.parametrize(
    ("settings", "mixup", "word"),
    [
        ({"packing": True}, {}, "packing=True"),
        ({"padding_free": True, "max_length": None}, {}, "padding_free=True"),
        ({"loss_type": "dft"}, {}, "loss_type"),
        ({"label_smoothing_factor": 0.1}, {}, "label_smoothing_factor"),
        ({}, {"label_smoothing": 0.1}, "label_smoothing"),
        ({}, {"method": "sftmix"}, "method 'sftmix' has a loss of its own, and SFTTrainer"),
        ({}, {"method": "switch", "methods": ["manifold", "sentence"]}, "method 'sentence' has a loss"),
        ({}, {"class_weights": [1.0, 2.0]}, "class_weights"),
    ],
)
def test_what_cannot_mix_is_refused(entry_point: str, settings: Any, mixup: Any, word: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=word):
        train(tmp_path, entry_point, MixupConfig(**{"method": "embedding", **mixup}), **settings)


def test_a_collator_points_to_the_callback(tmp_path: Path) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    model = tiny(LlamaForCausalLM)
    collator = MixupCollator(DataCollatorForLanguageModeling(pad_token_id=0), "embedding", model=model)
    args = trl.SFTConfig(str(tmp_path), **QUIET)
    trainer = trl.SFTTrainer(model, args, collator, train_dataset=data(), processing_class=tokenizer())
    with pytest.raises(ValueError, match="MixupCallback"):
        trainer.train()
