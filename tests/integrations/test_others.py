"""Seq2SeqTrainer, PEFT, timm's models, Accelerate and Lightning: the same entry points on what others built."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    LlamaForSequenceClassification,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    Trainer,
    default_data_collator,
)

from hf_mixup import Mixup, MixupCallback, MixupConfig, MixupTrainer, MixupTrainerMixin
from tests.conftest import CLASSES, build, examples
from tests.entry_points import ENTRY_POINTS
from tests.integrations.parts import QUIET, moved, same, tiny, weights


class MixupSeq2SeqTrainer(MixupTrainerMixin, Seq2SeqTrainer):
    pass


def sequences(rows: int, seed: int = 0, shifted: bool = False) -> list[dict[str, Any]]:
    """Make sources and targets, some of which end early. The plain Trainer's smoothing needs them shifted, too."""
    g = torch.Generator().manual_seed(seed)
    made = []
    for row in range(rows):
        ids, labels = torch.randint(3, 60, (8,), generator=g), torch.randint(3, 60, (6,), generator=g)
        labels[6 - row % 3 :] = -100
        made.append({"input_ids": ids, "attention_mask": torch.ones(8, dtype=torch.long), "labels": labels})
        if shifted:
            made[-1]["decoder_input_ids"] = torch.cat([torch.zeros(1).long(), labels[:-1].clamp(min=0)])
    return made


def t5() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
    return T5ForConditionalGeneration(T5Config(vocab_size=60, decoder_start_token_id=0, **sizes))


def seq2seq(tmp: Path, entry_point: str, mixup: Any = None, **settings: Any) -> Any:
    args = Seq2SeqTrainingArguments(
        str(tmp), predict_with_generate=True, generation_max_length=5, **{**QUIET, **settings}
    )
    rows = sequences(16, shifted=bool(settings.get("label_smoothing_factor")))
    shared = {"train_dataset": rows, "eval_dataset": sequences(5, seed=1)}
    metrics = {"compute_metrics": lambda found: {"tokens": float(found.predictions.shape[1])}}
    if entry_point == "mixin":
        trainer = MixupSeq2SeqTrainer(t5(), args, mixup=mixup, **shared, **metrics)
    else:
        callbacks = [MixupCallback(mixup)] if entry_point == "callback" else []
        trainer = Seq2SeqTrainer(t5(), args, callbacks=callbacks, **shared, **metrics)
    trainer.train()
    return trainer


@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_seq2seq_off_is_the_plain_trainer(entry_point: str, tmp_path: Path) -> None:
    plain = seq2seq(tmp_path, "plain", gradient_accumulation_steps=2)
    off = seq2seq(tmp_path, entry_point, MixupConfig("embedding", prob=0), gradient_accumulation_steps=2)
    assert same(weights(plain), weights(off))
    assert plain.evaluate()["eval_loss"] == off.evaluate()["eval_loss"]


@pytest.mark.parametrize("method", ["embedding", "manifold"])
@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_seq2seq_mixed_training_and_generation(entry_point: str, method: str, tmp_path: Path) -> None:
    plain, mixed = seq2seq(tmp_path, "plain"), seq2seq(tmp_path, entry_point, MixupConfig(method, lam=0.6))
    assert moved(t5(), mixed)
    assert plain.state.log_history[0]["loss"] != mixed.state.log_history[0]["loss"]
    plain.model.load_state_dict(mixed.model.state_dict())
    found, expected = mixed.evaluate(), plain.evaluate()
    assert found["eval_loss"] == expected["eval_loss"]
    assert found["eval_tokens"] == expected["eval_tokens"] > 1  # it was generated
    both = [trainer.predict(sequences(5, seed=1)).predictions for trainer in (mixed, plain)]
    assert (both[0] == both[1]).all()


@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_token_losses_accumulate_exactly(entry_point: str, tmp_path: Path) -> None:
    """Targets of different length: a mean of means would differ."""
    config = MixupConfig("embedding", lam=0.0)
    small = seq2seq(
        tmp_path, entry_point, config, max_steps=1, gradient_accumulation_steps=4, per_device_train_batch_size=2
    )
    large = seq2seq(tmp_path, entry_point, config, max_steps=1, per_device_train_batch_size=8)
    assert small.state.log_history[0]["loss"] == pytest.approx(large.state.log_history[0]["loss"], rel=1e-5)
    assert small.state.log_history[0]["grad_norm"] == pytest.approx(large.state.log_history[0]["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_smoothing_of_the_trainer_or_its_refusal(entry_point: str, tmp_path: Path) -> None:
    """lam = 1 is the plain loss, with the plain Trainer's smoothing; hooks never see the labels that it takes away."""
    nearly = MixupConfig("embedding", lam=1 - 1e-7)
    if entry_point == "callback":
        with pytest.raises(ValueError, match="label_smoothing"):
            seq2seq(tmp_path, entry_point, nearly, label_smoothing_factor=0.1)
        return
    plain = seq2seq(tmp_path, "plain", label_smoothing_factor=0.1)
    mixed = seq2seq(tmp_path, entry_point, nearly, label_smoothing_factor=0.1)
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (plain, mixed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def lora(name: str) -> Any:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    if name == "bert":
        config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
        return peft.get_peft_model(build("bert"), config)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj", "v_proj"])
    return peft.get_peft_model(tiny(LlamaForSequenceClassification, num_labels=CLASSES), config)


@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize("entry_point", ["trainer", "callback", "collator"])
def test_lora(entry_point: str, name: str, arguments: Any) -> None:
    args = arguments(gradient_checkpointing=True, max_steps=2, logging_strategy="steps", logging_steps=1)
    rows = examples("bert", 8)
    plain = Trainer(lora(name), args, train_dataset=rows, eval_dataset=rows)
    off = ENTRY_POINTS[entry_point](
        lora(name), args, MixupConfig("manifold", prob=0), train_dataset=rows, eval_dataset=rows
    )
    mixed = ENTRY_POINTS[entry_point](
        lora(name), args, MixupConfig("manifold", lam=0.6), train_dataset=rows, eval_dataset=rows
    )
    for trainer in (plain, off, mixed):
        trainer.train()
    assert same(weights(plain), weights(off))
    assert plain.state.log_history[0]["loss"] != mixed.state.log_history[0]["loss"]
    start, end = lora(name).state_dict(), weights(mixed)
    assert {n for n in start if not torch.equal(start[n], end[n])} == {
        n for n, p in mixed.model.named_parameters() if p.requires_grad
    }  # adapters and head have moved, the base has not
    plain.model.load_state_dict(mixed.model.state_dict())
    assert plain.evaluate()["eval_loss"] == mixed.evaluate()["eval_loss"]


def timm_model(architecture: str, **extra: Any) -> TimmWrapperForImageClassification:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    config = TimmWrapperConfig(architecture=architecture, num_labels=CLASSES, model_args=extra)
    return TimmWrapperForImageClassification(config)


TIMM = {
    "test_vit": {"img_size": 16, "patch_size": 8},
    "test_resnet": {},
}


@pytest.mark.parametrize("method", ["mixup", "cutmix", "manifold"])
@pytest.mark.parametrize("architecture", TIMM)
def test_timm_models(architecture: str, method: str, arguments: Any) -> None:
    args = arguments(max_steps=2, logging_strategy="steps", logging_steps=1)
    rows = examples("resnet", 8)
    trainers = []
    for config in (None, MixupConfig(method, prob=0), MixupConfig(method, lam=0.6)):
        model = timm_model(architecture, **TIMM[architecture])
        if config is None:
            trainers.append(Trainer(model, args, train_dataset=rows, eval_dataset=rows))
        else:
            trainers.append(MixupTrainer(model, args, mixup=config, train_dataset=rows, eval_dataset=rows))
        trainers[-1].train()
    plain, off, mixed = trainers
    assert same(weights(plain), weights(off))
    assert plain.state.log_history[0]["loss"] != mixed.state.log_history[0]["loss"]
    assert moved(timm_model(architecture, **TIMM[architecture]), mixed)
    plain.model.load_state_dict(mixed.model.state_dict())
    assert plain.evaluate()["eval_loss"] == mixed.evaluate()["eval_loss"]


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_accelerate_loop(prob: float) -> None:
    """Accumulated micro-batches of a loop with Accelerate, against the same loop without it and without mixing."""
    from accelerate import Accelerator

    model, plain = build("resnet").train(), build("resnet").train()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    loader = DataLoader(examples("resnet", 16), 4, collate_fn=default_data_collator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    wrapped, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    mixup = Mixup(MixupConfig("mixup", prob=prob, lam=0.6))
    for batch in loader:
        with accelerator.accumulate(wrapped):
            with mixup(wrapped, batch) as mixed:
                outputs = wrapped(**mixed.inputs)
            accelerator.backward(mixed.loss(outputs))
            optimizer.step()
            optimizer.zero_grad()
    by_hand = torch.optim.AdamW(plain.parameters(), lr=1e-2)
    for index, batch in enumerate(DataLoader(examples("resnet", 16), 4, collate_fn=default_data_collator)):
        (plain(**batch).loss / 2).backward()
        if index % 2:
            by_hand.step()
            by_hand.zero_grad()
    assert close(model, plain) == (prob == 0)


def close(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters())
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_lightning_recipe(prob: float, tmp_path: Path) -> None:
    L = pytest.importorskip("lightning")
    spec = importlib.util.spec_from_file_location("recipe", Path(__file__).parents[2] / "recipes/lightning_loop.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)

    class Plain(L.LightningModule):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.model(**batch).loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.model.parameters(), lr=1e-2)

    config = MixupConfig("mixup", prob=prob, lam=0.6, disable_last_ratio=0.25)
    rates: list[float] = []

    class Watched(recipe.MixedClassifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            rates.append(self.mixup.clock.prob(self.mixup.method.prob, config.schedule))
            return super().training_step(batch, batch_idx)

    modules = [Watched(build("resnet"), config, 1e-2), Plain(build("resnet").train())]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    for module in modules:
        loader = DataLoader(examples("resnet", 32), 4, collate_fn=default_data_collator)
        trainer = L.Trainer(
            max_steps=4, accumulate_grad_batches=2, accelerator="cpu", logger=False, default_root_dir=tmp_path, **quiet
        )
        trainer.fit(module, loader)
    assert rates == [prob] * 6 + [0] * 2  # the last of four steps is unmixed
    assert close(modules[0].model, modules[1].model) == (prob == 0)
