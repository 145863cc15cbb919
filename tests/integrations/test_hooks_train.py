"""What is set up to mix is what trains: a mixed loss that nobody uses, and a model that nobody mixes, are errors."""

from __future__ import annotations

import copy
import multiprocessing
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from hf_mixup import Mixup, MixupCallback, MixupCollator, MixupConfig, MixupTrainer, MixupTrainerMixin
from hf_mixup.engine.active import active_hooks
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS

OUTSIDE = ("collator", "callback")


def trained(trainer_class: type[Trainer], entry_point: str, args: TrainingArguments, **settings: Any) -> Trainer:
    """Train a class of Trainer through one of the entry points that leave it as it is."""
    model, config = build("resnet"), MixupConfig("mixup", **settings)
    mixing: dict[str, Any] = {"callbacks": [MixupCallback(config)]}
    if entry_point == "collator":
        mixing = {"data_collator": MixupCollator(mixup=config, model=model)}
    trainer = trainer_class(model, args, train_dataset=examples("resnet", 12), **mixing)
    trainer.train()
    return trainer


class Getting(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        labels = inputs.get("labels")
        outputs = model(**inputs)
        logits = outputs.get("logits")
        loss = F.cross_entropy(logits, labels, weight=torch.ones(logits.shape[-1]))
        return (loss, outputs) if return_outputs else loss


class Indexing(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        outputs = model(inputs["pixel_values"], labels=inputs["labels"])
        loss = F.cross_entropy(outputs.logits, inputs["labels"])
        return (loss, outputs) if return_outputs else loss


class Popping(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs["logits"], labels)
        return (loss, outputs) if return_outputs else loss


class Positional(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        outputs = model(inputs["pixel_values"])
        loss = F.cross_entropy(outputs.logits, inputs["labels"])
        return (loss, outputs) if return_outputs else loss


class PastTheHooks(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        outputs = model.forward(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("trainer_class", [Getting, Indexing, Popping, Positional, PastTheHooks])
@pytest.mark.parametrize("entry_point", OUTSIDE)
def test_a_loss_that_knows_no_mixed_labels_is_an_error(
    entry_point: str, trainer_class: type[Trainer], accumulated: int, arguments: Any
) -> None:
    args = arguments(gradient_accumulation_steps=accumulated)
    with pytest.raises((RuntimeError, ValueError), match=rf"{trainer_class.__name__}\.compute_loss"):
        trained(trainer_class, entry_point, args)
    trained(trainer_class, entry_point, args, prob=0)


def test_the_error_comes_before_any_weight_has_changed(arguments: Any) -> None:
    model, before = build("resnet"), build("resnet").state_dict()
    trainer = Getting(model, arguments(), train_dataset=examples("resnet", 8), callbacks=[MixupCallback()])
    with pytest.raises(RuntimeError, match="no gradient reached the loss of the mixed batch"):
        trainer.train()
    names = dict(model.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in names.items())


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_labels_of_the_partner_never_lower_the_accuracy_in_silence(entry_point: str, arguments: Any) -> None:
    """lam = 0 and pairing "roll" over rows of two classes in turn give each row the other class's input."""

    class Ours(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = nn.Linear(4, 2)

        def forward(self, pixel_values: Any, labels: Any = None) -> Any:
            logits = self.head(pixel_values.flatten(1)[:, :4])
            return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}

    rows = [{"pixel_values": torch.full((1, 2, 2), 2.0 * (row % 2) - 1), "labels": row % 2} for row in range(16)]

    def trainer(trainer_class: type[Trainer] | None = None) -> Trainer:
        args = arguments(num_train_epochs=10, learning_rate=0.1, train_sampling_strategy="sequential")
        config = MixupConfig("mixup", lam=0.0, pairing="roll", self_check=False)
        shared = {"train_dataset": rows, "eval_dataset": rows, "compute_metrics": accuracy}
        if trainer_class is None:
            return ENTRY_POINTS[entry_point](Ours(), args, config, **shared)
        return trainer_class(Ours(), args, callbacks=[MixupCallback(config)], **shared)

    made = trainer()
    made.train()
    assert made.evaluate()["eval_accuracy"] == 1
    for trainer_class in (Getting, Popping):
        with pytest.raises((RuntimeError, ValueError), match="compute_loss"):
            trainer(trainer_class).train()


def accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


# Losses that do use the mixed one.


class OnTop(Trainer):
    """Adds to the loss in the model's outputs."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        outputs = model(**inputs)
        loss = 2 * outputs.loss + 0.01 * outputs.logits.square().mean()
        return (loss, outputs) if return_outputs else loss


class Twice(Trainer):
    """R-drop: two passes, one backward."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        first, second = model(**inputs), model(**inputs)
        return (first.loss + second.loss) / 2


class WithATeacher(Trainer):
    """Asks itself, without gradients, and once more with a graph that nobody uses."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        with torch.no_grad():
            wanted = model(**inputs).logits
        unused = model(**inputs).loss
        outputs = model(**inputs)
        return outputs.loss + 0.1 * (outputs.logits - wanted).square().mean() + 0 * unused.detach()


class Skipping(Trainer):
    """Leaves out every second batch."""

    calls = 0

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return torch.zeros(()) if self.calls % 2 else super().training_step(*args, **kwargs)


@pytest.mark.parametrize("trainer_class", [OnTop, Twice, WithATeacher, Skipping])
@pytest.mark.parametrize("entry_point", OUTSIDE)
def test_losses_that_use_the_mixed_one(entry_point: str, trainer_class: type[Trainer], arguments: Any) -> None:
    args = arguments(logging_strategy="steps", logging_steps=1, gradient_accumulation_steps=1)
    trainer = trained(trainer_class, entry_point, args)
    assert trainer.state.global_step == 3
    assert any(entry.get("mixup_rate") == 1 for entry in trainer.state.log_history)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_accumulation_steps": 2},
        {"bf16": True},
        {"gradient_checkpointing": True},
        {"eval_strategy": "steps", "eval_steps": 1},
        {"torch_compile": True, "torch_compile_backend": "eager"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_ways_of_training_that_use_the_mixed_loss(entry_point: str, settings: dict[str, Any], arguments: Any) -> None:
    torch._dynamo.reset()
    rows = examples("vit", 8)
    trainer = ENTRY_POINTS[entry_point](
        build("vit"), arguments(**settings), MixupConfig("mixup"), train_dataset=rows, eval_dataset=rows
    )
    assert trainer.train().global_step == 2 // settings.get("gradient_accumulation_steps", 1)
    torch._dynamo.reset()


# Subclasses of MixupTrainer.


def test_subclasses_that_train_on_another_loss(arguments: Any) -> None:
    class Without(MixupTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            return F.cross_entropy(model(pixel_values=inputs["pixel_values"]).logits, inputs["labels"])

    class Discarding(MixupTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            _, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
            return F.cross_entropy(outputs.logits, inputs["labels"])

    class Stepping(MixupTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = model(**inputs).loss
            loss.backward()
            return loss.detach()

    rows = examples("resnet", 8)
    for kind, name in [(Without, "compute_loss"), (Discarding, "compute_loss"), (Stepping, "training_step")]:
        with pytest.raises(RuntimeError, match=rf"{kind.__name__}\.{name}"):
            kind(build("resnet"), arguments(), mixup="mixup", train_dataset=rows).train()
        kind(build("resnet"), arguments(), mixup=MixupConfig("mixup", prob=0), train_dataset=rows).train()


def test_subclasses_that_build_upon_the_mixed_loss(arguments: Any) -> None:
    class Adding(MixupTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            return loss + 0.01 * sum(weight.square().sum() for weight in model.parameters())

    class ByHand(MixupTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            with self.mixup(model, inputs) as mixed:
                outputs = model(**mixed.inputs)
            return F.binary_cross_entropy_with_logits(outputs.logits, mixed.targets)

    class Before(OnTop, MixupTrainer):  # whose compute_loss takes the model's own loss
        pass

    for kind in (Adding, ByHand):
        trainer = kind(build("resnet"), arguments(), mixup="mixup", train_dataset=examples("resnet", 8))
        assert trainer.train().global_step == 2
    with pytest.raises(RuntimeError, match=r"nothing was mixed.*OnTop\.compute_loss"):
        Before(build("resnet"), arguments(), mixup="mixup", train_dataset=examples("resnet", 8)).train()


@pytest.mark.parametrize("skipped", [True, False])
def test_a_subclass_that_skips_or_changes_batches_mixes_its_own(skipped: bool, arguments: Any) -> None:
    """The micro-batches of a step are drawn ahead: each is the one that the subclass hands on."""
    seen: list[bool] = []

    class Choosing(MixupTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if skipped and inputs["labels"][0] % 2:
                return torch.zeros(())
            return super().training_step(model, inputs, *args, **kwargs)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if not skipped:
                inputs = {**inputs, "pixel_values": inputs["pixel_values"] * 0}
            expected = inputs["pixel_values"]

            def look(module: Any, given: Any, named: Any) -> None:
                if module.training:
                    seen.append(torch.equal(named["pixel_values"], expected))

            handle = model.register_forward_pre_hook(look, with_kwargs=True)
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            handle.remove()
            return loss

    args = arguments(gradient_accumulation_steps=2, train_sampling_strategy="sequential")
    rows = [{**row, "labels": index // 4 % 2} for index, row in enumerate(examples("resnet", 16))]
    Choosing(build("resnet"), args, mixup=MixupConfig("mixup", lam=1 - 1e-12), train_dataset=rows).train()
    assert seen == [True] * (2 if skipped else 4)


def test_the_mixin_behind_the_trainer_is_refused() -> None:
    with pytest.raises(TypeError, match="put MixupTrainerMixin before Trainer"):
        type("Behind", (Trainer, MixupTrainerMixin), {})


# Another model than the one with the hooks.


def with_lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))


def spawned(trainer: Trainer) -> Trainer:
    """Make a trainer start the processes of its data loader anew."""
    get = trainer.get_train_dataloader

    def get_spawned() -> DataLoader[Any]:
        loader = get()
        loader.multiprocessing_context = multiprocessing.get_context("spawn")
        return loader

    trainer.get_train_dataloader = get_spawned  # type: ignore[method-assign]
    return trainer


@pytest.mark.parametrize("workers", ["none", "fork", "spawn"])
@pytest.mark.parametrize("other", ["model_init", "another", "copy", "peft"])
def test_a_collator_for_another_model_is_an_error(other: str, workers: str, arguments: Any) -> None:
    if (other, workers) in [("copy", "spawn"), ("another", "spawn"), ("model_init", "spawn")]:
        pytest.skip("one case of each kind")
    hooked = build("bert")
    trains: dict[str, Any] = {
        "model_init": lambda: {"model_init": lambda: build("bert")},
        "another": lambda: {"model": build("bert")},
        "copy": lambda: {"model": copy.deepcopy(hooked)},
        "peft": lambda: {"model": with_lora(hooked)},
    }
    collator = MixupCollator(mixup="embedding", model=hooked)
    args = arguments(dataloader_num_workers=0 if workers == "none" else 1)
    trainer = Trainer(**trains[other](), args=args, data_collator=collator, train_dataset=examples("bert", 8))
    if workers == "spawn":
        spawned(trainer)
    with pytest.raises(RuntimeError, match=r"made for another model than the (Peft|BertFor).*model=trainer.model"):
        trainer.train()


def test_a_collator_trains_in_processes_of_any_kind(arguments: Any) -> None:
    model = build("resnet")
    args = arguments(dataloader_num_workers=1)
    trainer = Trainer(
        model, args, data_collator=MixupCollator(mixup="mixup", model=model), train_dataset=examples("resnet", 8)
    )
    assert spawned(trainer).train().global_step == 2


def test_a_collator_that_a_mixup_trainer_had(arguments: Any) -> None:
    model, collator = build("resnet"), MixupCollator(mixup="mixup")
    MixupTrainer(model, arguments(max_steps=1), data_collator=collator, train_dataset=examples("resnet", 4)).train()
    trainer = Trainer(model, arguments(), data_collator=collator, train_dataset=examples("resnet", 4))
    with pytest.raises(RuntimeError, match="nobody would mix"):
        trainer.train()


# Mixed twice.


def losses(trainer: Trainer) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_a_loop_of_ones_own_on_a_model_with_hooks(name: str) -> None:
    model, batch = build(name), batch_of(name)
    method = "cross_modal" if name == "clip" else "mixup"
    collator = MixupCollator(mixup=method, model=model)
    with pytest.raises(ValueError, match=rf"is mixed already, by a MixupCollator .*'{method}'.*collator\.remove\(\)"):
        Mixup(method)(model, batch)
    collator.remove()
    with Mixup(method)(model, batch) as mixed:
        assert torch.isfinite(mixed.loss(model(**mixed.inputs)))


def test_the_same_cell_run_twice(arguments: Any) -> None:
    args = arguments(logging_strategy="steps", logging_steps=1)
    config, rows = MixupConfig("mixup", lam=0.3), examples("resnet", 8)

    def cell(model: Any) -> Trainer:
        return Trainer(
            model, args, data_collator=MixupCollator(mixup=config, model=model), train_dataset=rows, eval_dataset=rows
        )

    expected = losses(cell(build("resnet")))
    model = build("resnet")
    first, second = cell(model), cell(model)
    assert losses(second) == expected
    with pytest.raises(RuntimeError, match="another one, or a MixupCallback, mixes"):
        first.train()


def test_a_callback_takes_the_place_of_an_earlier_collator(arguments: Any) -> None:
    model, rows = build("resnet"), examples("resnet", 8)
    collator = MixupCollator(mixup="mixup", model=model)
    Trainer(model, arguments(), callbacks=[MixupCallback("cutmix")], train_dataset=rows).train()
    assert active_hooks(model) is None
    with pytest.raises(RuntimeError, match="mixes the ResNet"):
        Trainer(model, arguments(), data_collator=collator, train_dataset=rows).train()


def test_two_that_mix_in_one_trainer_are_refused(arguments: Any) -> None:
    rows = examples("resnet", 8)
    model = build("resnet")
    both = Trainer(
        model,
        arguments(),
        data_collator=MixupCollator(mixup="mixup", model=model),
        callbacks=[MixupCallback()],
        train_dataset=rows,
    )
    two = Trainer(build("resnet"), arguments(), callbacks=[MixupCallback(), MixupCallback()], train_dataset=rows)
    own = MixupTrainer(build("resnet"), arguments(), mixup="mixup", callbacks=[MixupCallback()], train_dataset=rows)
    for trainer, message in [
        (both, "a MixupCollator and a MixupCallback"),
        (two, "2 MixupCallbacks"),
        (own, "MixupTrainer mixes by itself: leave the MixupCallback out"),
    ]:
        with pytest.raises(ValueError, match=message):
            trainer.train()


def test_a_collator_that_arms_the_model_of_a_mixup_trainer(arguments: Any) -> None:
    model, rows = build("resnet"), examples("resnet", 8)
    trainer = MixupTrainer(model, arguments(), mixup="mixup", train_dataset=rows)
    MixupCollator(mixup="mixup", model=model)
    with pytest.raises(ValueError, match=r"mixed already, .* mixed twice: take that off"):
        trainer.train()
    MixupTrainer(model, arguments(), mixup="mixup", train_dataset=rows).train()  # a new one takes its place


def test_a_model_that_an_earlier_collator_mixes_is_told(arguments: Any) -> None:
    model, rows = build("resnet"), examples("resnet", 8)
    collator = MixupCollator(mixup="mixup", model=model)
    with pytest.warns(UserWarning, match="call its `remove` to train plainly"):
        Trainer(model, arguments(), train_dataset=rows).train()
    collator.remove()
    assert active_hooks(model) is None


# All entry points log, save and document alike (see also test_trainer.py).


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_save_model_saves_the_settings(entry_point: str, arguments: Any, tmp_path: Any) -> None:
    config = MixupConfig("cutmix", alpha=0.7)
    trainer = ENTRY_POINTS[entry_point](
        build("resnet"), arguments(max_steps=1), config, train_dataset=examples("resnet", 8)
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "elsewhere"))
    trainer.save_model()
    for folder in (tmp_path / "elsewhere", trainer.args.output_dir):
        assert MixupConfig.from_pretrained(folder) == config


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_run_in_which_nothing_was_mixed_says_so(entry_point: str, arguments: Any) -> None:
    config = MixupConfig("mixup", prob=1e-9)
    trainer = ENTRY_POINTS[entry_point](build("resnet"), arguments(), config, train_dataset=examples("resnet", 8))
    with pytest.warns(UserWarning, match="nothing was mixed in 2 steps"):
        trainer.train()


# Trainers of the Trainer's kind, but with labels of their own.


def test_what_takes_the_labels_away_is_named(arguments: Any) -> None:
    def trainer(entry_point: str, args: Any, **settings: Any) -> Trainer:
        return ENTRY_POINTS[entry_point](
            build("resnet"), args, MixupConfig("mixup"), train_dataset=examples("resnet", 4), **settings
        )

    for entry_point in OUTSIDE:
        with pytest.raises(ValueError, match="compute_loss_func takes them away"):
            trainer(
                entry_point, arguments(), compute_loss_func=lambda outputs, labels, **kwargs: outputs.logits.sum()
            ).train()
        with pytest.raises(ValueError, match=r"label_smoothing_factor=0\.1.*Set label_smoothing=0\.1 in MixupConfig"):
            trainer(entry_point, arguments(label_smoothing_factor=0.1)).train()


def test_a_compute_loss_that_was_put_into_a_mixup_trainer(arguments: Any) -> None:
    trainer = MixupTrainer(build("resnet"), arguments(), mixup="mixup", train_dataset=examples("resnet", 4))
    trainer.compute_loss = lambda model, inputs, **kwargs: model(**inputs).loss  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="the compute_loss that was put into this MixupTrainer"):
        trainer.train()


@pytest.mark.parametrize("entry_point", OUTSIDE)
def test_several_gpus_in_one_process_are_refused(entry_point: str, arguments: Any) -> None:
    args = arguments()
    args._n_gpu = 2
    with pytest.raises(RuntimeError, match="accelerate launch"):
        ENTRY_POINTS[entry_point](
            build("resnet"), args, MixupConfig("mixup"), train_dataset=examples("resnet", 8)
        ).train()


# A loop of one's own.


@pytest.mark.parametrize("fused", [False, True])
def test_a_loop_that_does_not_use_the_mixed_loss(fused: bool) -> None:
    model, batch, mixup = build("resnet").train(), batch_of("resnet"), Mixup("mixup")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)

    def step(pick: Any) -> None:
        with mixup(model, batch) as mixed:
            outputs = model(**mixed.inputs)
        pick(mixed, outputs).backward()
        optimizer.step()
        optimizer.zero_grad()

    def forgotten(mixed: Any, outputs: Any) -> Any:
        mixed.loss(outputs)
        return F.cross_entropy(outputs.logits, batch["labels"])

    for _ in range(2):
        step(lambda mixed, outputs: mixed.loss(outputs))
        step(lambda mixed, outputs: F.cross_entropy(outputs.logits, mixed.targets))
    step(forgotten)
    with pytest.raises(RuntimeError, match="no gradient reached the loss of the batch that was mixed"):
        step(forgotten)


def test_losses_summed_over_several_batches_are_used() -> None:
    model, batch, mixup = build("resnet").train(), batch_of("resnet"), Mixup("mixup")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        total = torch.zeros(())
        for _ in range(3):
            with mixup(model, batch) as mixed:
                total = total + mixed.loss(model(**mixed.inputs))
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
