"""Methods that perturb samples or add some (gaussian, regmixup, adversarial, ...), as they are trained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch.nn import functional as F
from transformers import Trainer

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.experiments.mixing import SharedSettings
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS
from tests.methods.attacks import logits

GAUSSIAN = {"method": "gaussian"}
FREELB = {"method": "adversarial", "attack": "freelb"}
IN_TEXT = {"method": "interpolated_adversarial", "by": "embedding"}


@pytest.mark.parametrize(
    ("config", "name"),
    [(GAUSSIAN, "bert"), (GAUSSIAN, "resnet"), ({"method": "regmixup"}, "vit"), (FREELB, "bert"), (IN_TEXT, "bert")],
    ids=str,
)
def test_compiled_models_give_the_same_and_do_not_recompile(config: dict[str, Any], name: str) -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    model, batch = build(name).eval(), batch_of(name)
    eager, mixup = Mixup(config), Mixup(config)
    mixup.prepare(model)
    compiled = torch.compile(model, backend=counter)
    for step in range(5):
        with mixup(compiled, batch) as mixed:
            found = mixed.loss(compiled(**mixed.inputs))
        with eager(model, batch) as mixed, torch.compiler.set_stance("force_eager"):
            expected = mixed.loss(model(**mixed.inputs))
        torch.testing.assert_close(found, expected)
        if step == 1:
            frames = counter.frame_count
    assert counter.frame_count == frames > 0
    torch._dynamo.reset()


PAIRS = [("gaussian", "vit"), ("gaussian", "bert"), ("regmixup", "vit")]


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_micro_batches_take_their_share_of_all_labels(method: str, name: str) -> None:
    """What is divided by the labels of the whole, as the Trainer counts them, is the sum over the own samples."""
    batch = batch_of(name, rows=6)
    batch["labels"][1] = -100
    model, mixup = build(name).eval(), Mixup(SharedSettings({"sigma": 0.4}).for_method(method))
    for part in (slice(0, 4), slice(4, 6)):
        with mixup(model, {key: value[part] for key, value in batch.items()}) as mixed:
            outputs = model(**mixed.inputs)
        share = mixed.loss(outputs, num_items_in_batch=5)
        torch.testing.assert_close(share * 5, mixed.loss(outputs) * (mixed.labels != -100).sum())
        assert share > 0


@pytest.mark.parametrize(
    ("name", "method", "off"),
    [
        ("resnet", "gaussian", {"prob": 0.0}),
        ("resnet", "gaussian", {"sigma": 0.0}),
        ("resnet", "regmixup", {"prob": 0.0}),
        ("resnet", "regmixup", {"alpha": 0.0}),
        ("resnet", "adversarial", {"prob": 0.0}),
        ("resnet", "adversarial", {"epsilon": 0.0}),
        ("bert", "adversarial", {"prob": 0.0}),
        ("bert", "adversarial", {"epsilon": 0.0}),
    ],
)
def test_off_is_the_plain_trainer(name: str, method: str, off: dict[str, float], arguments: Any) -> None:
    plain, model = build(name), build(name)
    Trainer(plain, arguments(max_steps=2), train_dataset=examples(name, 8)).train()
    config = MixupConfig(method, **off)
    assert config.plain
    MixupTrainer(model, arguments(max_steps=2), train_dataset=examples(name, 8), mixup=config).train()
    for key, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


@pytest.mark.parametrize(("method", "name"), PAIRS)
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_entry_points_train_to_the_same_weights(method: str, name: str, entry_point: str, arguments: Any) -> None:
    """Two accumulated micro-batches of two samples; a collator alone knows no step, and draws other noise."""
    made, sigma = [], 1e-6 if entry_point == "collator" else 0.3
    for each in ("trainer", entry_point):
        model, config = build(name), SharedSettings({"lam": 0.3, "pairing": "flip", "sigma": sigma, "draw_seed": 0})
        config = config.for_method(method)
        args = arguments(max_steps=1, per_device_train_batch_size=2, gradient_accumulation_steps=2, optim="sgd")
        trainer = ENTRY_POINTS[each](model, args, config, train_dataset=examples(name, 4))
        trainer.train()
        made.append((model.state_dict(), SimpleNamespace(**trainer.state.log_history[-1])))
    for key, value in made[0][0].items():
        torch.testing.assert_close(made[1][0][key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert made[1][1].train_loss == pytest.approx(made[0][1].train_loss, rel=1e-3)


@pytest.mark.parametrize("method", ["gaussian", "regmixup"])
def test_logs_tell_the_rate(method: str, arguments: Any) -> None:
    args = arguments(max_steps=2, logging_strategy="steps", logging_steps=1)
    trainer = MixupTrainer(
        build("resnet"),
        args,
        train_dataset=examples("resnet", 8),
        mixup=SharedSettings({"alpha": 10.0}).for_method(method),
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "mixup_rate" in entry]
    assert len(logs) == 2
    for entry in logs:
        assert entry["mixup_rate"] == 1
        assert entry["mixup_lam"] == 1 if method == "gaussian" else 0.1 < entry["mixup_lam"] < 0.9
        assert 0 <= entry["mixup_accuracy"] <= 1


@pytest.mark.parametrize(
    "methods",
    [["gaussian", "regmixup"], ["gaussian", "mixup"], ["adversarial", "interpolated_adversarial", "cutmix"]],
    ids=str,
)
def test_switch_may_choose_them(methods: list[str]) -> None:
    model, batch = build("vit").eval(), batch_of("vit")
    mixup, chosen = Mixup({"method": "switch", "methods": methods}), set()
    for _ in range(12):
        with mixup(model, batch) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        assert torch.isfinite(loss)
        chosen.add(mixed.draw.method)
    assert chosen == set(methods)


METHODS = [("adversarial", "vit", "pgd"), ("adversarial", "bert", "freelb"), ("interpolated_adversarial", "vit", None)]
TEXT = ("interpolated_adversarial", "bert", None)


def shared(settings: dict[str, Any]) -> MixupConfig:
    """Return the configuration of a method with those of the settings that it reads, also by what it mixes by."""
    own = dict(settings)
    if own["method"] == "interpolated_adversarial":
        mixing = {name: own.pop(name) for name in ("lam", "pairing") if name in own}
        own["by"] = {"method": own.get("by", "mixup"), **mixing}
    return SharedSettings(own).for_method(own["method"])


def by_tokens(method: str, name: str) -> dict[str, Any]:
    return {"by": "embedding"} if (method, name) == TEXT[:2] else {}


@pytest.mark.parametrize(("method", "name", "attack"), METHODS[1:])
@pytest.mark.parametrize("entry_point", [entry_point for entry_point in ENTRY_POINTS if entry_point != "trainer"])
def test_adversarial_entry_points_train_to_the_same_weights(
    method: str, name: str, attack: Any, entry_point: str, arguments: Any
) -> None:
    """Two accumulated micro-batches of two samples; a collator alone knows no step, and draws other starts."""
    made = []
    config = {"method": method, "attack": attack, "lam": 0.3, "pairing": "flip", "draw_seed": 0, "epsilon": 0.3}
    if entry_point == "collator":
        config["attack"] = "fgm"
    for each in ("trainer", entry_point):
        model = build(name)
        args = arguments(max_steps=1, per_device_train_batch_size=2, gradient_accumulation_steps=2, optim="sgd")
        own = shared(config)
        trainer = ENTRY_POINTS[each](model, args, own, train_dataset=examples(name, 4))
        trainer.train()
        made.append((model.state_dict(), trainer.state.log_history[-1]["train_loss"]))
        assert trainer.evaluate(examples(name, 4))["eval_loss"] == pytest.approx(
            F.cross_entropy(logits(model.eval(), batch_of(name, rows=4)), batch_of(name, rows=4)["labels"]).item()
        )
    for key, value in made[0][0].items():
        torch.testing.assert_close(made[1][0][key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert made[1][1] == pytest.approx(made[0][1], rel=1e-3)


@pytest.mark.parametrize(("method", "name", "attack"), METHODS)
def test_adversarial_micro_batches_take_their_share(method: str, name: str, attack: Any) -> None:
    """Rows do not bear on each other in the attack: parts of a batch add up to the whole."""
    model, batch = build(name).eval(), batch_of(name, rows=6)
    config = {"method": method, "attack": {"pgd": "fgsm", "freelb": "fgm"}.get(attack, attack), "lam": 0.4}
    batch["labels"][1] = -100
    total = 0.0
    for part in (slice(0, 4), slice(4, 6)):
        with Mixup(shared({**config, "pairing": "flip"}))(
            model, {key: value[part] for key, value in batch.items()}
        ) as mixed:
            total += mixed.loss(model(**mixed.inputs), num_items_in_batch=5)
    partner = torch.tensor([3, 2, 1, 0, 5, 4]) if method.startswith("inter") else None
    with Mixup(shared(config))(model, batch, partner=partner) as mixed:
        torch.testing.assert_close(total, mixed.loss(model(**mixed.inputs), num_items_in_batch=5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("method", "name", "attack"), [*METHODS, TEXT])
@pytest.mark.parametrize("setting", ["checkpointing", "autocast"])
def test_checkpointing_and_autocast_change_rounding_alone(method: str, name: str, attack: Any, setting: str) -> None:
    gradients = []
    for on in (False, True):
        model, batch = build(name).train(), batch_of(name, lengths=True)
        if on and setting == "checkpointing":
            model.gradient_checkpointing_enable()
        low = torch.autocast("cpu", torch.bfloat16, enabled=on and setting == "autocast")
        config = {"method": method, "attack": attack, "epsilon": 0.05, **by_tokens(method, name)}
        with low, Mixup(config)(model, batch) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        loss.backward()
        assert loss.dtype == torch.float32
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    if setting == "checkpointing":
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)
    else:
        one, other = (torch.cat([g.flatten() for g in each.values()]) for each in gradients)
        assert F.cosine_similarity(one, other, dim=0) > 0.98
