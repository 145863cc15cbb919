"""A sample alone has no partner: what is logged says so, and a run of such batches is refused or warned of."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hf_mixup import Mixup, MixupConfig
from tests.conftest import batch_of, build, examples
from tests.entry_points import ENTRY_POINTS

NOTHING = r"batches of one sample have no other .*per_device_train_batch_size to 2 or more"


def run(entry_point: str, rows: int, arguments: Any, config: MixupConfig | None = None, **settings: Any) -> Any:
    args = arguments(logging_strategy="steps", logging_steps=1, max_steps=3, **settings)
    data = examples("resnet", rows)
    trainer = ENTRY_POINTS[entry_point](build("resnet"), args, config or MixupConfig("mixup"), train_dataset=data)
    trainer.train()
    return trainer


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_one_sample_a_batch(entry_point: str, arguments: Any) -> None:
    with pytest.raises(ValueError, match=NOTHING):
        run(entry_point, 8, arguments, per_device_train_batch_size=1)


@pytest.mark.parametrize("method", ["gaussian", "adversarial"])
@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_methods_without_partners(entry_point: str, method: str, arguments: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trainer = run(entry_point, 4, arguments, MixupConfig(method), per_device_train_batch_size=1)
    assert [log["mixup_rate"] for log in trainer.state.log_history if "mixup_rate" in log] in ([1, 1, 1], [])


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_off_is_nobodys_business(entry_point: str, arguments: Any) -> None:
    run(entry_point, 4, arguments, MixupConfig("mixup", prob=0), per_device_train_batch_size=1)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_what_is_left_of_an_epoch(entry_point: str, arguments: Any) -> None:
    trainer = run(entry_point, 9, arguments, per_device_train_batch_size=4)
    assert [log["mixup_rate"] for log in trainer.state.log_history if "mixup_rate" in log] == [1, 1, 0]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        *((method, "resnet") for method in ("mixup", "cutmix", "regmixup", "resizemix", "fmix", "gridmix")),
        *((method, "bert") for method in ("embedding", "manifold", "span_cut", "ssmix")),
    ],
)
def test_a_sample_alone_has_its_own_loss(method: str, name: str) -> None:
    model, batch = build(name).eval(), batch_of(name, rows=1)
    mixup = Mixup(method, tokenizer=SimpleNamespace(all_special_ids=[0], pad_token_id=0))
    with mixup(model, batch) as mixed:
        loss = mixed.loss(model(**mixed.inputs))
    assert mixed.rate == 0
    assert float(loss.detach()) == pytest.approx(float(model(**batch).loss.detach()), rel=1e-5)


def test_samples_that_keep_themselves_are_not_counted() -> None:
    """Of a class with one sample nobody else is its partner."""
    model, batch = build("resnet"), batch_of("resnet", rows=5)
    batch["labels"] = torch.tensor([0, 0, 1, 1, 2])
    with Mixup("mixup")(model, batch, lam=0.3) as mixed:
        assert mixed.rate == 1
    with Mixup(MixupConfig("mixup", pair_class="same"))(model, batch, lam=0.3) as mixed:
        assert mixed.rate == 0.8
    with Mixup("mixup")(model, batch, partner=torch.tensor([1, 0, 2, 3, 4]), lam=0.3) as mixed:
        assert mixed.rate == 0.4
    lam = torch.tensor([0.3, 1.0, 0.3, 0.3, 0.3])
    with Mixup("mixup")(model, batch, partner=torch.tensor([1, 0, 3, 2, 4]), lam=lam) as mixed:
        assert mixed.rate == 0.6


def test_a_loop_of_ones_own_is_warned_once() -> None:
    model, batch, mixup = build("resnet"), batch_of("resnet", rows=1), Mixup("mixup")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for _ in range(4):
            with mixup(model, batch) as mixed:
                mixed.loss(model(**mixed.inputs))
    assert [str(each.message)[:22] for each in heard if "one sample" in str(each.message)] == ["batches of one sample "]


@pytest.mark.parametrize("entry_point", ["mixin", "callback"])
def test_trainers_of_trl(entry_point: str, tmp_path: Any) -> None:
    pytest.importorskip("trl")
    from tests.integrations.test_reward import train as reward
    from tests.integrations.test_sft import train as sft

    for train in (sft, reward):
        with pytest.raises(ValueError, match=NOTHING):
            train(tmp_path, entry_point, MixupConfig("embedding"), per_device_train_batch_size=1)
