"""The ten invariants of the design, through every entry point, on image and text."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from accelerate import Accelerator
from transformers import PreTrainedModel, Trainer, TrainerCallback, default_data_collator

import hf_mixup.methods.base
from hf_mixup import Mixup, MixupCollator, MixupConfig, MixupTrainer
from hf_mixup.engine.schedule import Clock
from hf_mixup.experiments.mixing import SharedSettings
from tests.conftest import batch_of, build, examples
from tests.covering import covering
from tests.entry_points import ENTRY_POINTS
from tests.kill import Kill, Killed
from tests.settings import CASES

FAMILIES = [
    ("cutmix", "resnet"),
    ("mixup", "vit"),
    ("manifold", "bert"),
    ("embedding", "bert"),
    ("mixup", "layout_page"),
]
OFF: list[dict[str, float]] = [{"alpha": 0.0}, {"prob": 0.0}, {"lam": 1.0}]
WRITERS = [("mixup", "trocr"), ("mixup", "llava"), ("cross_modal", "llava")]
"""Methods on models that read images and write text."""


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], **tolerance: float) -> None:
    for key, value in expected.items():
        torch.testing.assert_close({key: found[key]}, {key: value}, **(tolerance or {"rtol": 0.0, "atol": 0.0}))


def dropout(model: PreTrainedModel) -> PreTrainedModel:
    """Switch dropout on, so that a test sees whether the random state was left alone."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    return model


@pytest.fixture
def neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blend rows 2i and 2i + 1, whatever the batch: partners that survive its being split."""

    def pair(n: int, **kwargs: Any) -> torch.Tensor:
        return torch.arange(n) ^ 1

    monkeypatch.setattr(hf_mixup.methods.base, "pair", pair)


# 1. Integer labels stay in the batch.


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_labels_stay_integers(entry_point: str, arguments: Any) -> None:
    seen: list[torch.dtype] = []

    class Spy(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(next(iter(kwargs["train_dataloader"]))["labels"].dtype)

    model = build("bert")
    trainer = ENTRY_POINTS[entry_point](
        model,
        arguments(),
        MixupConfig("manifold"),
        train_dataset=examples("bert", 8),
        eval_dataset=examples("bert", 6),
        callbacks=[Spy()],
        compute_metrics=lambda p: {
            "integers": float(np.issubdtype(p.label_ids.dtype, np.integer) and p.label_ids.ndim == 1)
        },
    )
    trainer.train()
    assert set(seen) == {torch.int64}
    assert model.config.problem_type is None
    assert trainer.evaluate()["eval_integers"] == 1


# 2. Evaluation never mixes.


@pytest.mark.parametrize(("method", "name", "entry_point", "workers"), covering(FAMILIES, ENTRY_POINTS, (0, 2)))
def test_evaluation_never_mixes(method: str, name: str, entry_point: str, workers: int, arguments: Any) -> None:
    model, data = build(name), examples(name, 8)
    args = arguments(dataloader_num_workers=workers, max_steps=1)
    trainer = ENTRY_POINTS[entry_point](model, args, MixupConfig(method), train_dataset=data, eval_dataset=data)
    trainer.train()
    plain = Trainer(model=copy.deepcopy(model), args=arguments(), eval_dataset=data)
    expected = plain.predict(data)
    found = trainer.predict(data)
    assert np.array_equal(found.predictions, expected.predictions)
    assert np.array_equal(found.label_ids, expected.label_ids)
    assert trainer.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]


# 3. Off means off.


@pytest.mark.parametrize(("method", "name", "entry_point", "off"), covering(FAMILIES, ENTRY_POINTS, OFF))
def test_off_is_the_plain_trainer(
    method: str, name: str, entry_point: str, off: dict[str, float], arguments: Any
) -> None:
    args = arguments(label_smoothing_factor=0.1 if entry_point == "trainer" else 0.0, gradient_accumulation_steps=2)
    plain = dropout(build(name))
    Trainer(model=plain, args=args, train_dataset=examples(name, 10)).train()
    model = dropout(build(name))
    ENTRY_POINTS[entry_point](model, args, MixupConfig(method, **off), train_dataset=examples(name, 10)).train()
    assert_same(weights(model), weights(plain))


# 4. Draw once, apply deterministically.


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(("method", "name"), FAMILIES)
def test_any_number_of_workers_draws_the_same(method: str, name: str, entry_point: str, arguments: Any) -> None:
    ends = []
    for workers in (0, 2):
        model = dropout(build(name))
        args = arguments(dataloader_num_workers=workers)
        ENTRY_POINTS[entry_point](model, args, MixupConfig(method), train_dataset=examples(name, 12)).train()
        ends.append(weights(model))
    assert_same(ends[1], ends[0])


class Pickling(TrainerCallback):
    """Copies what a worker of the data loader gets that is not forked, whenever a Trainer may start one."""

    def __init__(self) -> None:
        self.copies: list[Any] = []

    def on_step_end(self, *_: Any, train_dataloader: Any, **__: Any) -> None:
        self.copies.append(pickle.dumps((train_dataloader.dataset, train_dataloader.collate_fn)))

    on_epoch_end = on_train_end = on_step_end


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(("method", "name"), [("cutmix", "resnet"), ("manifold", "bert"), ("mixup", "layout_page")])
def test_workers_need_not_be_forked(method: str, name: str, entry_point: str, arguments: Any) -> None:
    seen, data = Pickling(), examples(name, 8)
    make = ENTRY_POINTS[entry_point]
    trainer = make(build(name), arguments(), MixupConfig(method), train_dataset=data, callbacks=[seen])
    trainer.train()
    assert len(seen.copies) == 4  # two steps, an epoch and the run
    expected = trainer.get_train_dataloader().collate_fn(data)
    for dataset, collate in map(pickle.loads, seen.copies):
        found = collate(dataset)
        assert_same({key: found[key] for key in expected}, expected)


# transformers 5.23 itself cannot resume a ViT: it saves the weights under names that its Trainer does not find again.
RESUMABLE = [(method, "resnet" if name == "vit" else name) for method, name in (*FAMILIES, ("mixup", "whisper"))]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(("method", "name"), RESUMABLE)
def test_a_killed_and_resumed_run_ends_the_same(method: str, name: str, entry_point: str, arguments: Any) -> None:
    args = arguments(save_strategy="steps", save_steps=3, num_train_epochs=2, gradient_accumulation_steps=2)
    config, data = MixupConfig(method, lam_per="sample"), examples(name, 26)

    def trainer(**kwargs: Any) -> Trainer:
        return ENTRY_POINTS[entry_point](dropout(build(name)), args, config, train_dataset=data, **kwargs)

    whole = trainer()
    whole.train()
    with pytest.raises(Killed):
        trainer(callbacks=[Kill(5)]).train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-3")
    assert resumed.state.global_step == whole.state.global_step == 8
    assert_same(weights(resumed.model), weights(whole.model))


# 5. One loss scale.


class Strict(torch.nn.Module):
    """A model whose forward takes no loss arguments, which the Trainer treats differently."""

    def __init__(self, inner: PreTrainedModel) -> None:
        super().__init__()
        self.inner, self.config, self.main_input_name = inner, inner.config, inner.main_input_name

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        return self.inner(pixel_values=pixel_values, labels=labels)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(
    "extra", [{}, {"class_weights": [0.5, 1.0, 2.0, 4.0]}, {"loss": "bce"}, {"label_smoothing": 0.1}]
)
@pytest.mark.usefixtures("neighbours")
def test_accumulated_micro_batches_equal_one_batch(entry_point: str, extra: dict[str, Any], arguments: Any) -> None:
    if "class_weights" in extra and entry_point in ("collator", "callback"):
        pytest.skip("refused, see test_loss_scale.py")
    ends = []
    for rows, steps in ((10, 1), (4, 3)):
        model = build("vit")
        args = arguments(
            per_device_train_batch_size=rows, gradient_accumulation_steps=steps, optim="sgd", num_train_epochs=2
        )
        config = MixupConfig("mixup", lam=0.3, **extra)
        ENTRY_POINTS[entry_point](model, args, config, train_dataset=examples("vit", 10)).train()
        ends.append(weights(model))
    assert_same(ends[1], ends[0], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("neighbours")
def test_accumulation_with_a_model_that_takes_no_loss_arguments(arguments: Any) -> None:
    ends = []
    for rows, steps in ((10, 1), (4, 3)):
        model = Strict(build("vit"))
        args = arguments(
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=steps,
            optim="sgd",
            label_smoothing_factor=0.1,
        )
        MixupTrainer(model, args, mixup=MixupConfig("mixup", lam=0.3), train_dataset=examples("vit", 10)).train()
        ends.append(weights(model))
    assert_same(ends[1], ends[0], rtol=1e-5, atol=1e-6)


# 6. Nothing changes under checkpointing, autocast, compilation, PEFT, channels_last.


@pytest.mark.parametrize(
    ("method", "name"), [("manifold", "bert"), ("embedding", "bert"), ("mixup", "vit"), ("manifold", "vit")]
)
def test_gradient_checkpointing_changes_nothing(method: str, name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model, batch = build(name).train(), batch_of(name)
        if checkpointing:
            model.gradient_checkpointing_enable()
        with Mixup(SharedSettings({"layers": [2]}).for_method(method))(model, batch) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        loss.backward()
        gradients.append({k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None})
    assert_same(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_hook_inside_a_checkpoint_blends_again_in_the_recomputation(reentrant: bool) -> None:
    """Older releases of transformers checkpoint a layer's call, hooks included."""
    from torch.utils.checkpoint import checkpoint

    from hf_mixup.models.hooks import hooks_of

    torch.manual_seed(0)
    layer, x = torch.nn.Linear(4, 4), torch.randn(3, 4, requires_grad=True)
    hooks = hooks_of(layer)
    gradients = []
    for checkpointed in (False, True):
        x.grad = layer.weight.grad = None
        hooks.track(hooks.after(layer).activate(torch.tensor([1, 2, 0]), torch.tensor([0.2, 0.5, 0.9])))
        y = checkpoint(lambda v: layer(v).tanh(), x, use_reentrant=reentrant) if checkpointed else layer(x).tanh()
        hooks.deactivate()
        y.square().sum().backward()
        gradients.append((x.grad.clone(), layer.weight.grad.clone()))
    for found, expected in zip(gradients[1], gradients[0]):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("method", "name"), CASES)
def test_autocast_keeps_lam_and_loss_in_float32(method: str, name: str) -> None:
    model, batch = build(name), batch_of(name)
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), Mixup(method)(model, batch) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        assert loss.dtype == mixed.lam.dtype == mixed.targets.dtype == torch.float32
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_channels_last_keeps_its_format() -> None:
    model, batch = build("resnet").to(memory_format=torch.channels_last), batch_of("resnet")
    for method in ("mixup", "cutmix"):
        with Mixup(method)(model, batch) as plain:
            pass
        last = {**batch, "pixel_values": batch["pixel_values"].to(memory_format=torch.channels_last)}
        with Mixup(method)(model, last) as mixed:
            pass
        assert mixed.inputs["pixel_values"].is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(mixed.inputs["pixel_values"], plain.inputs["pixel_values"])


@pytest.mark.parametrize("method", ["embedding", "manifold", "features"])
def test_peft_gives_the_loss_of_the_base_model(method: str) -> None:
    peft = pytest.importorskip("peft")
    batch = batch_of("bert", lengths=True)
    base = build("bert").eval()
    with Mixup(method)(base, batch) as mixed:
        expected = mixed.loss(base(**mixed.inputs))
    lora = peft.get_peft_model(
        build("bert"), peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"])
    ).eval()
    with Mixup(method)(lora, batch) as mixed:
        found = mixed.loss(lora(**mixed.inputs))
    torch.testing.assert_close(found, expected)
    found.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in lora.named_parameters() if "lora_B" in n)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("manifold", "bert"),
        ("embedding", "bert"),
        ("mixup", "vit"),
        ("manifold", "resnet"),
        ("mixup", "layout_page"),
        pytest.param(
            *("mixup", "llava"),
            marks=pytest.mark.skipif(torch.__version__ < "2.7", reason="LLaVA of the lowest releases does not compile"),
        ),
    ],
)
def test_compiled_models_mix_and_do_not_recompile(method: str, name: str) -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    model, batch = build(name).eval(), batch_of(name)
    eager, mixup = Mixup(method), Mixup(method)
    mixup.prepare(model)
    compiled = torch.compile(model, backend=counter)
    depths = set()
    for step in range(12):
        with mixup(compiled, batch) as mixed:
            found = mixed.loss(compiled(**mixed.inputs))
        depths.add(getattr(mixed.draw, "depth", None))
        if step == 8:
            frames = counter.frame_count
        with eager(model, batch) as mixed, torch.compiler.set_stance("force_eager"):
            expected = mixed.loss(model(**mixed.inputs))
        torch.testing.assert_close(found, expected)
    assert counter.frame_count == frames
    torch._dynamo.reset()


def test_a_model_compiled_before_it_was_prepared_is_not_left_unmixed_silently() -> None:
    torch._dynamo.reset()
    model, batch, mixup = build("bert").eval(), batch_of("bert"), Mixup({"method": "manifold", "lam": 0.4})
    compiled = torch.compile(model, backend="eager")
    compiled(**{k: v for k, v in batch.items() if k != "labels"})
    with mixup(compiled, batch) as mixed:
        outputs = compiled(**mixed.inputs)
    try:
        found = mixed.loss(outputs)
    except RuntimeError as error:
        assert "Mixup.prepare(model)" in str(error)  # noqa: PT017 - either it says so, or it has mixed
    else:
        with (
            torch.compiler.set_stance("force_eager"),
            Mixup({"method": "manifold", "layers": [mixed.draw.depth]})(
                model, batch, partner=mixed.partner, lam=0.4
            ) as again,
        ):
            torch.testing.assert_close(found, again.loss(model(**again.inputs)))
    torch._dynamo.reset()


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(("method", "name"), [("manifold", "bert"), ("cutmix", "resnet")])
def test_torch_compile_of_the_trainer_changes_nothing(method: str, name: str, entry_point: str, arguments: Any) -> None:
    losses = []
    for compiled in ({}, {"torch_compile": True, "torch_compile_backend": "eager"}):
        torch._dynamo.reset()
        args = arguments(logging_strategy="steps", logging_steps=1, **compiled)
        trainer = ENTRY_POINTS[entry_point](build(name), args, MixupConfig(method), train_dataset=examples(name, 12))
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    torch._dynamo.reset()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


# 7. One forward pass.


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(("method", "name"), FAMILIES)
def test_one_forward_pass_a_step(method: str, name: str, entry_point: str, arguments: Any) -> None:
    model = build(name)
    passes = {True: 0, False: 0}

    def count(module: torch.nn.Module, args: Any) -> None:
        passes[module.training] += 1

    model.register_forward_pre_hook(count)
    config = SharedSettings({"layers": [1]}).for_method(method)
    ENTRY_POINTS[entry_point](model, arguments(max_steps=5), config, train_dataset=examples(name, 12)).train()
    assert passes[True] == 5
    # Two rows at first use: the loss is tried, two rows are exchanged, and the places to enter the model are found.
    inside = method in ("manifold", "embedding") or name == "layout_page"
    clean = 3 if name == "resnet" else 0  # when training ends, the statistics of batch norm are estimated
    assert passes[False] - clean in (range(3, 20) if inside else [3])


# 9. Refuse loudly: see also test_bad_input.py.


def test_a_collator_that_nobody_adopted_raises_at_its_first_batch(arguments: Any) -> None:
    trainer = Trainer(
        model=build("resnet"), args=arguments(), data_collator=MixupCollator(), train_dataset=examples("resnet", 4)
    )
    with pytest.raises(RuntimeError, match="nobody would mix"):
        trainer.train()


# 10. The user's tensors are not modified.


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_the_data_set_is_not_touched(method: str, entry_point: str, arguments: Any) -> None:
    data = examples("resnet", 8)
    before = copy.deepcopy(data)
    ENTRY_POINTS[entry_point](build("resnet"), arguments(), MixupConfig(method), train_dataset=data).train()
    assert all(torch.equal(a["pixel_values"], b["pixel_values"]) for a, b in zip(data, before))


def test_batches_that_a_custom_collator_keeps_are_not_touched(arguments: Any) -> None:
    kept = default_data_collator(examples("resnet", 4))
    before = kept["pixel_values"].clone()
    MixupTrainer(
        build("resnet"),
        arguments(max_steps=2),
        mixup="mixup",
        data_collator=lambda rows: kept,
        train_dataset=examples("resnet", 4),
    ).train()
    assert torch.equal(kept["pixel_values"], before)


# The entry points against each other.


@pytest.mark.parametrize(("method", "name"), [*FAMILIES, *WRITERS])
def test_all_entry_points_give_the_same_losses_on_the_same_draws(
    method: str, name: str, arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = [0]

    def tick(clock: Clock, alike: bool = False) -> torch.Generator:
        count[0] += 1
        return torch.Generator().manual_seed(count[0])

    monkeypatch.setattr(Clock, "tick", tick)
    data, config, losses, ends = examples(name, 20), MixupConfig(method), {}, {}
    order: list[Any] = []
    args = arguments(logging_strategy="steps", logging_steps=1, optim="sgd", lr_scheduler_type="constant")
    for entry_point, make in ENTRY_POINTS.items():
        count[0], model = 0, build(name)
        trainer = make(model, args, config, train_dataset=data)
        loader = trainer.get_train_dataloader()
        order = order or list(loader)
        trainer.train()
        losses[entry_point] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        ends[entry_point] = weights(model)
    losses["loop"], ends["loop"] = accelerate_loop(build(name), order, config, args, count, loader)
    for entry_point in losses:
        assert losses[entry_point] == pytest.approx(losses["trainer"], rel=1e-6), entry_point
        assert_same(ends[entry_point], ends["trainer"], rtol=1e-6, atol=1e-7)


def accelerate_loop(
    model: PreTrainedModel, batches: list[Any], config: MixupConfig, args: Any, count: list[int], loader: Any
) -> tuple[list[float], dict[str, torch.Tensor]]:
    accelerator, mixup = Accelerator(cpu=True), Mixup(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.learning_rate)
    model, optimizer = accelerator.prepare(model.train(), optimizer)
    losses = []
    count[0] = 0
    for batch in batches:
        with mixup(model, batch) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    mixup.clock.seed = args.seed
    mixup.refresh_batch_norm(model, loader)
    return losses, weights(model)
