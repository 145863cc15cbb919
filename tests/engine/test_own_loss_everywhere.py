"""`loss="own"` beside every head of the registry, and under whatever a training run does to a model."""

from __future__ import annotations

import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from hf_mixup import Mixup, MixupConfig
from hf_mixup.models.labels import read_labels
from hf_mixup.testing.batches import make_batch, tiny
from hf_mixup.testing.build import CannotBuild, build
from hf_mixup.testing.exchange import is_refusal
from hf_mixup.testing.families import SCORED, Family, architectures
from tests import conftest, streams
from tests.conftest import examples
from tests.engine.test_own_loss import BERT, OWN, PARTNER, losses_of, samples, scored, train
from tests.entry_points import ENTRY_POINTS

METHODS = ("embedding", "manifold", "mixup")
PASSED = ("equal", "refused", "cannot be built", "differs: the model seeds itself")


def compare(family: Family, model_type: str) -> str:
    """Return how the loss and all gradients of both ways differ, at the first method that goes with this head."""
    try:
        model = build(family, model_type)
    except CannotBuild as error:
        return f"cannot be built: {error}"
    batch, found = make_batch(family, model, 4), {}
    reason = ""
    for method in METHODS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for loss in ("auto", "own"):
                    found[loss] = scored(deepcopy(model), batch, {"method": method, "loss": loss, "draw_seed": 1})
        except Exception as error:  # noqa: BLE001 - what is no refusal is what is looked for
            if not is_refusal(error):
                return f"{method}, {type(error).__name__}: {error}"
            reason = f"refused: {error}"
            continue
        (one, slopes), (other, others) = found["auto"], found["own"]
        far = float((slopes - others).norm() / others.norm())
        blends = read_labels(model, batch).kind == "regression"  # of which the loss lacks a constant
        near = blends or abs(one - other) <= 1e-3 * abs(other)
        if near and far < 1e-2:
            return "equal"
        if scored(deepcopy(model), batch, {"method": method, "draw_seed": 1})[0] != one:
            return "differs: the model seeds itself anew in each pass, as Reformer does"
        return f"{method}: loss {one} and {other}, gradients {far:.2g} apart"
    return reason


def spread(family: Family, count: int) -> list[str]:
    """Return some architectures of a family, from all over the alphabet."""
    names = architectures(family)
    return names[:: max(1, len(names) // count)]


@pytest.mark.parametrize("family", SCORED)
def test_it_equals_the_rule_of_every_family(family: Family) -> None:
    found = {name: compare(family, name) for name in spread(family, 4)}
    assert not {name: each for name, each in found.items() if not each.startswith(PASSED)}
    if family == "time-series-prediction":  # past and future are blended alike, which is one loss
        assert any("own loss is taken" in each for each in found.values())
    else:
        assert "equal" in found.values()


@pytest.mark.slow
@pytest.mark.parametrize("family", SCORED)
def test_it_equals_the_rule_of_every_architecture(family: Family) -> None:
    found = {name: compare(family, name) for name in architectures(family)}
    assert not {name: each for name, each in found.items() if not each.startswith(PASSED)}


def uneven_tokens() -> tuple[Any, dict[str, Any]]:
    """A head that takes `num_items_in_batch` and ignores it, with more labels in some samples than in others."""
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = tr.BertForTokenClassification(tr.BertConfig(**BERT, **still, num_labels=5))
    batch = {**streams.text(), "labels": torch.randint(0, 5, (4, 8))}
    batch["labels"][0, 3:], batch["labels"][1, 5:] = -100, -100
    return model, batch


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_micro_batches_have_their_share_of_the_mean(entry_point: str, tmp_path: Path) -> None:
    """Where a plain Trainer would train on the sum of the means: as the rule does, which is one large batch."""
    model, batch = uneven_tokens()
    other = deepcopy(model)
    config = MixupConfig("embedding", lam=0.3, pairing="flip", **OWN)
    found = losses_of(train(entry_point, model, tmp_path, config, samples(batch)))
    wanted = losses_of(train("trainer", other, tmp_path, config.replace(loss="auto"), samples(batch)))
    assert found == pytest.approx(wanted, rel=1e-5)
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["embedding", "manifold"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(method: str, reentrant: bool) -> None:
    """Dropout is drawn again in the backward pass of either forward pass, as it was there."""
    model, batch = tiny("sequence-classification", "bert")
    settings = {"method": method, **OWN, "layers": [1]} if method == "manifold" else {"method": method, **OWN}
    plain = scored(deepcopy(model), batch, settings)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    found = scored(model, batch, settings)
    assert found[0] == pytest.approx(plain[0], rel=1e-6)
    torch.testing.assert_close(found[1], plain[1])


def test_autocast_changes_nothing_but_rounding() -> None:
    model, batch = tiny("sequence-classification", "bert")
    with torch.autocast("cpu", torch.bfloat16):
        one, other = (scored(deepcopy(model), batch, {"method": "manifold", "loss": each}) for each in ("own", "auto"))
    assert one[0] == pytest.approx(other[0], rel=1e-2)
    assert float((one[1] - other[1]).norm() / other[1].norm()) < 0.05


def test_a_compiled_model_is_run_twice_as_any_other() -> None:
    model, batch = tiny("sequence-classification", "bert")
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    plain = scored(deepcopy(model), batch, {"method": "embedding", **OWN})
    mixup = Mixup({"method": "embedding", **OWN})
    mixup.prepare(model)
    compiled = torch.compile(model, backend="eager")
    model.train().zero_grad()
    with mixup(compiled, batch, PARTNER, torch.tensor(0.3, dtype=torch.float64)) as mixed:
        outputs = mixed.forward(compiled)
        loss = mixed.loss(outputs)
    loss.backward()
    assert float(loss) == pytest.approx(plain[0], rel=1e-5)
    found = torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])
    torch.testing.assert_close(found, plain[1])


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(("method", "name"), [("manifold", "bert"), ("cutmix", "resnet")])
def test_torch_compile_of_the_trainer_changes_nothing(method: str, name: str, entry_point: str, arguments: Any) -> None:
    losses = []
    for compiled in ({}, {"torch_compile": True, "torch_compile_backend": "eager"}):
        torch._dynamo.reset()
        args = arguments(logging_strategy="steps", logging_steps=1, **compiled)
        config = MixupConfig(method, **OWN)
        trainer = ENTRY_POINTS[entry_point](conftest.build(name), args, config, train_dataset=examples(name, 12))
        trainer.train()
        losses.append(losses_of(trainer))
    torch._dynamo.reset()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_frozen_parts_stay_and_the_rest_learns_as_ever() -> None:
    model, batch = tiny("image-classification", "resnet")
    for name, each in model.named_parameters():
        each.requires_grad_("classifier" in name)
    one, other = (scored(deepcopy(model), batch, {"method": "mixup", "loss": each}) for each in ("own", "auto"))
    torch.testing.assert_close(one[1], other[1])
    assert len(one[1]) == sum(each.numel() for each in model.classifier.parameters())


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_evaluation_is_the_models_own(entry_point: str, tmp_path: Path) -> None:
    model, batch = streams.make(streams.transcripts)
    trainer = train(entry_point, model, tmp_path, MixupConfig("mixup", lam=0.3, **OWN), samples(batch))
    found = trainer.evaluate(samples(batch)[:2])["eval_loss"]
    with torch.no_grad():
        clean = model.eval()(**{key: each[:2] for key, each in batch.items()}).loss
    assert found == pytest.approx(float(clean), rel=1e-4)
