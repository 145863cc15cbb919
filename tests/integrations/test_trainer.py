"""What a Trainer user sees: logs, saved settings, the model card, schedules, subclasses, label smoothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import (
    BartConfig,
    BartForCausalLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
)

from hf_mixup import Mixup, MixupCallback, MixupCollator, MixupConfig, MixupTrainer, MixupTrainerMixin
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS


class Tracker(TrainerCallback):
    """Stands for what `report_to` adds: a tracker that sees the logs."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_logs_go_to_trackers_and_history(entry_point: str, arguments: Any) -> None:
    tracker = Tracker()
    args = arguments(logging_strategy="steps", logging_steps=2, max_steps=4)
    config = MixupConfig("cutmix", prob=0.5, prob_per="sample")
    trainer = ENTRY_POINTS[entry_point](
        build("resnet"), args, config, train_dataset=examples("resnet", 16), callbacks=[tracker]
    )
    trainer.train()
    for logs in (tracker.logs[0], trainer.state.log_history[0]):
        assert 0 <= logs["mixup_lam"] <= 1
        assert 0 <= logs["mixup_rate"] <= 1
        assert 0 <= logs["mixup_accuracy"] <= 1
    assert len(tracker.logs) == 3  # two steps' logs and the summary


def test_logged_numbers_are_the_means_of_the_batches(arguments: Any) -> None:
    seen: list[Any] = []

    class Watching(MixupTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            engine = self.mixup

            class Spy:
                config, plain = engine.config, engine.plain

                def __call__(self, *a: Any, **k: Any) -> Any:
                    seen.append(engine(*a, **k))
                    return seen[-1]

            self.mixup = Spy()  # type: ignore[assignment]
            try:
                return super().compute_loss(model, inputs, *args, **kwargs)
            finally:
                self.mixup = engine

    args = arguments(logging_strategy="steps", logging_steps=3, max_steps=3)
    trainer = Watching(
        build("resnet"),
        args,
        mixup={"lam_per": "sample", "prob": 0.6, "prob_per": "sample"},
        train_dataset=examples("resnet", 12),
    )
    trainer.train()
    logs = trainer.state.log_history[0]
    accuracy = []
    for mixed in seen:
        predicted = mixed._logits.argmax(-1)
        hit = (predicted == mixed.labels).float() * mixed.lam
        accuracy.append(hit + (predicted == mixed.labels[mixed.partner]).float() * (1 - mixed.lam))
    assert logs["mixup_lam"] == pytest.approx(float(torch.cat([m.lam for m in seen]).mean()), abs=1e-5)
    assert logs["mixup_rate"] == pytest.approx(float(torch.cat([m.lam < 1 for m in seen]).float().mean()), abs=1e-5)
    assert logs["mixup_accuracy"] == pytest.approx(float(torch.cat(accuracy).mean()), abs=1e-5)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_settings_are_saved_with_each_checkpoint(entry_point: str, arguments: Any) -> None:
    args = arguments(save_strategy="steps", save_steps=1, max_steps=2)
    config = MixupConfig("cutmix", alpha=0.7)
    trainer = ENTRY_POINTS[entry_point](build("resnet"), args, config, train_dataset=examples("resnet", 8))
    trainer.train()
    for step in (1, 2):
        assert MixupConfig.from_pretrained(Path(args.output_dir) / f"checkpoint-{step}") == config


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_model_card_names_method_settings_and_citation(entry_point: str, arguments: Any) -> None:
    args, config = arguments(max_steps=1), MixupConfig("cutmix", alpha=0.7)
    trainer = ENTRY_POINTS[entry_point](build("resnet"), args, config, train_dataset=examples("resnet", 8))
    for _ in range(2):  # training again does not repeat it either
        trainer.train()
    trainer.save_model()
    for _ in range(2):  # writing it again does not repeat the section
        trainer.create_model_card()
    card = ModelCard.load(Path(args.output_dir) / "README.md")
    card.validate = None  # the Hub checks it online; its structure is checked here
    assert {"hf-mixup", "cutmix"} <= set(card.data.tags)
    assert card.text.count("## Mixup training") == 1
    assert "| alpha | 0.7 |" in card.text
    assert "yun2019cutmix" in card.text
    assert MixupConfig.from_pretrained(args.output_dir).alpha == 0.7


def test_label_smoothing_of_the_trainer_is_honoured(arguments: Any) -> None:
    batch, losses = batch_of("resnet"), []
    model = build("resnet").train()
    for args, config in [
        (arguments(label_smoothing_factor=0.2), MixupConfig("mixup")),
        (arguments(), MixupConfig("mixup", label_smoothing=0.2)),
    ]:
        trainer = MixupTrainer(model, args, mixup=config, train_dataset=examples("resnet", 4))
        losses.append(float(trainer.compute_loss(model, dict(batch)).detach()))
    assert losses[0] == losses[1]
    with pytest.raises(ValueError, match="differ"):
        MixupTrainer(model, arguments(label_smoothing_factor=0.2), mixup=MixupConfig("mixup", label_smoothing=0.1))


def test_a_users_config_is_not_changed(arguments: Any) -> None:
    config = MixupConfig("mixup")
    MixupTrainer(build("resnet"), arguments(label_smoothing_factor=0.2), mixup=config)
    assert config == MixupConfig("mixup")


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"disable_last_epochs": 1}, [1, 1, 0, 0]),
        ({"disable_last_ratio": 0.25}, [1, 1, 1, 0]),
        ({"prob_warmup_ratio": 1e-9}, [0, 1, 1, 1]),
    ],
)
def test_schedule(entry_point: str, schedule: dict[str, float], expected: list[int], arguments: Any) -> None:
    args = arguments(logging_strategy="steps", logging_steps=1, num_train_epochs=2)
    config = MixupConfig("mixup", **schedule)
    trainer = ENTRY_POINTS[entry_point](build("resnet"), args, config, train_dataset=examples("resnet", 8))
    trainer.train()
    assert [e["mixup_rate"] for e in trainer.state.log_history if "mixup_rate" in e] == expected


def test_warm_up_is_linear() -> None:
    mixup = Mixup({"prob_warmup_ratio": 0.5, "prob": 0.8}, total_steps=100)
    probs = []
    for step in (0, 25, 50, 99):
        mixup.set_step(step)
        probs.append(mixup.clock.prob(mixup.method.prob, mixup.config.schedule))
    assert probs == pytest.approx([0, 0.4, 0.8, 0.8])


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_schedule_that_leaves_nothing_is_refused(entry_point: str, arguments: Any) -> None:
    config = MixupConfig("mixup", disable_last_ratio=1)
    trainer = ENTRY_POINTS[entry_point](build("resnet"), arguments(), config, train_dataset=examples("resnet", 4))
    with pytest.raises(ValueError, match=r"disable_last_ratio=1\.0 leaves nothing to mix in"):
        trainer.train()


def test_a_schedule_without_a_length_is_refused() -> None:
    with pytest.raises(ValueError, match="length of training"):
        Mixup({"disable_last_ratio": 0.1})(build("resnet"), batch_of("resnet"))
    model = build("resnet").train()
    MixupCollator(mixup="mixup", disable_last_ratio=0.5, model=model)  # in a loop that is no Trainer's
    with pytest.raises(ValueError, match="MixupCallback"):
        model(**batch_of("resnet"))


def test_mixin_brings_mixing_to_other_trainers(arguments: Any, tmp_path: Path) -> None:
    class MixedSeq2Seq(MixupTrainerMixin, Seq2SeqTrainer):
        pass

    args = Seq2SeqTrainingArguments(
        str(tmp_path), max_steps=2, logging_steps=1, report_to=[], use_cpu=True, save_strategy="no"
    )
    trainer = MixedSeq2Seq(build("bert"), args, mixup="manifold", train_dataset=examples("bert", 8))
    trainer.train()
    assert trainer.state.log_history[0]["mixup_rate"] == 1


def test_multi_label_and_regression_train_and_evaluate(arguments: Any) -> None:
    rows = examples("bert", 8)
    multi = [{**row, "labels": torch.eye(4)[row["labels"]] + torch.eye(4)[0]} for row in rows]
    multi = [{**row, "labels": row["labels"].clamp(max=1)} for row in multi]
    trainer = MixupTrainer(build("bert"), arguments(), mixup="manifold", train_dataset=multi, eval_dataset=multi)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0

    from transformers import BertForSequenceClassification

    from tests.conftest import CONFIGS

    config = CONFIGS["bert"]()
    config.num_labels = 1
    values = [{**row, "labels": float(index)} for index, row in enumerate(rows)]
    model = BertForSequenceClassification(config)
    trainer = MixupTrainer(model, arguments(), mixup="embedding", train_dataset=values, eval_dataset=values)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0


def test_a_last_batch_of_one_row_trains(arguments: Any) -> None:
    for entry_point in ENTRY_POINTS.values():
        trainer = entry_point(build("vit"), arguments(), MixupConfig("mixup"), train_dataset=examples("vit", 5))
        assert trainer.train().global_step == 2


def test_a_collator_hands_over_to_the_trainer(arguments: Any) -> None:
    """A collator with hooks on the model must not mix what MixupTrainer mixes already."""
    model = build("resnet")
    collator = MixupCollator(mixup="mixup", model=model)
    trainer = MixupTrainer(model, arguments(), data_collator=collator, train_dataset=examples("resnet", 8))
    assert not model._forward_pre_hooks
    trainer.train()
    assert trainer.mixup is collator.mixup
    with pytest.raises(ValueError, match="once"):
        MixupTrainer(model, arguments(), mixup="cutmix", data_collator=MixupCollator(mixup="mixup"))


def test_hooks_leave_the_model_with_the_callback(arguments: Any) -> None:
    model = build("resnet")
    trainer = Trainer(model, arguments(), train_dataset=examples("resnet", 8), callbacks=[MixupCallback("cutmix")])
    trainer.train()
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


def test_collator_pads_with_a_tokenizer() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"a": 1, "[PAD]": 0}, unk_token="a")), pad_token="[PAD]"
    )
    collator = MixupCollator(tokenizer, mixup="embedding", model=build("bert"))
    batch = collator([{"input_ids": [1, 1, 1], "label": 0}, {"input_ids": [1], "label": 2}])
    assert batch["input_ids"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [0, 2]
    assert collator.tokenizer is tokenizer  # the Trainer saves it with the model


def test_first_step_counts_labels_as_the_model_does(arguments: Any) -> None:
    """This decoder does not shift its labels, which only its own loss tells: before the first divisor is taken."""
    torch.manual_seed(0)
    sizes = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "d_model": 16}
    model = BartForCausalLM(BartConfig(vocab_size=30, max_position_embeddings=16, **sizes))
    ids = torch.randint(4, 30, (3, 6))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    trainer = MixupTrainer(model, arguments(), mixup="embedding", train_dataset=[])
    assert trainer._get_num_items_in_batch([batch, batch], torch.device("cpu")) == 2 * 3 * 6
