"""Series that are forecast: past and future blended alike, categories swapped, the model's own loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    PatchTSMixerConfig,
    PatchTSMixerForPrediction,
    PatchTSTConfig,
    PatchTSTForPrediction,
    TimeSeriesTransformerConfig,
    TimeSeriesTransformerForPrediction,
    Trainer,
)

import hf_mixup.methods.base
from hf_mixup import Mixup, MixupCollator, MixupConfig, MixupTrainer
from hf_mixup.engine.forecasting import ForecastBatch

Sizes = dict[str, tuple[int, ...]]
ROWS, AHEAD = 5, 6
PARTNER = torch.tensor([3, 0, 1, 2, 2])
PATCHES = {"num_input_channels": 2, "context_length": 24, "prediction_length": AHEAD, "patch_length": 4, "d_model": 16}


def patchtst() -> tuple[Any, Sizes]:
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    model = PatchTSTForPrediction(PatchTSTConfig(**PATCHES, **layers))
    return model, {"past_values": (24, 2), "past_observed_mask": (24, 2), "future_values": (AHEAD, 2)}


def mixer() -> tuple[Any, Sizes]:
    model = PatchTSMixerForPrediction(PatchTSMixerConfig(**PATCHES, num_layers=1))
    return model, {"past_values": (24, 2), "observed_mask": (24, 2), "future_values": (AHEAD, 2)}


def transformer() -> tuple[Any, Sizes]:
    stacks = {f"{side}_{name}": size for side in ("encoder", "decoder")
              for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))}  # fmt: skip
    static = {"num_static_categorical_features": 2, "cardinality": [7, 7], "embedding_dimension": [3, 3]}
    config = TimeSeriesTransformerConfig(
        prediction_length=AHEAD, context_length=12, lags_sequence=[1, 2, 3], num_time_features=2, d_model=16,
        num_static_real_features=1, **static, **stacks,
    )  # fmt: skip
    sizes: Sizes = {"past_values": (15,), "past_time_features": (15, 2), "past_observed_mask": (15,)}
    sizes |= {"static_categorical_features": (2,), "static_real_features": (1,), "future_values": (AHEAD,)}
    sizes |= {"future_time_features": (AHEAD, 2), "future_observed_mask": (AHEAD,)}
    return TimeSeriesTransformerForPrediction(config), sizes


MODELS = {"patchtst": patchtst, "mixer": mixer, "transformer": transformer}


def model_and_batch(name: str, rows: int = ROWS) -> tuple[Any, dict[str, Tensor]]:
    torch.manual_seed(0)
    model, sizes = MODELS[name]()
    rng, batch = torch.Generator().manual_seed(1), {}
    for key, size in sizes.items():
        if "mask" in key:
            batch[key] = (torch.rand(rows, *size, generator=rng) < 0.7).float()
        elif "categorical" in key:
            batch[key] = torch.randint(7, (rows, *size), generator=rng)
        else:
            batch[key] = torch.rand(rows, *size, generator=rng) + 0.5
    return model.eval(), batch


@pytest.mark.parametrize(
    ("name", "method"),
    [("patchtst", "mixup"), ("mixer", "mixup"), ("transformer", "tabular"), ("transformer", "cmixup")],
)
def test_all_of_a_series_is_blended_alike(name: str, method: str) -> None:
    model, batch = model_and_batch(name)
    before = {key: value.clone() for key, value in batch.items()}
    for lam, source in ((1.0, torch.arange(ROWS)), (0.0, PARTNER)):
        with Mixup(method)(model, batch, partner=PARTNER, lam=lam) as mixed:
            for key, value in batch.items():
                assert torch.equal(mixed.inputs[key], value[source]), key
    with Mixup(method)(model, batch, partner=PARTNER, lam=0.3) as mixed:
        assert isinstance(mixed, ForecastBatch)
        for key, value in batch.items():
            own, other, found = value, value[PARTNER], mixed.inputs[key]
            if "mask" in key:
                assert torch.equal(found, own * other), key
            elif "categorical" in key:
                assert ((found == own) | (found == other)).all()
            else:
                torch.testing.assert_close(found, 0.3 * own + 0.7 * other)
        torch.manual_seed(0)
        loss = mixed.loss(mixed.forward(model))
        torch.manual_seed(0)
        torch.testing.assert_close(loss, model(**mixed.inputs).loss)
    assert torch.equal(mixed.targets, mixed.inputs["future_values"])
    assert mixed.accuracy() is None
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    for key, value in before.items():
        assert torch.equal(batch[key], value)


def test_cmixup_takes_a_near_future() -> None:
    model, batch = model_and_batch("patchtst", rows=4)
    batch["future_values"] = torch.tensor([0.0, 9.0, 0.1, 9.1])[:, None, None].expand(4, AHEAD, 2)
    with Mixup(MixupConfig("cmixup", label_bandwidth=0.5))(model, batch) as mixed:
        assert mixed.partner.tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("entry_point", ["trainer", "collator"])
def test_trains_and_evaluates_by_the_entry_points(entry_point: str, arguments: Any) -> None:
    model, batch = model_and_batch("patchtst", rows=8)
    data = [{key: value[row] for key, value in batch.items()} for row in range(8)]
    args = arguments(max_steps=4, logging_strategy="steps", logging_steps=1, label_names=["future_values"])
    mixing: dict[str, Any] = {"mixup": MixupConfig("mixup", lam=0.4)} if entry_point == "trainer" else {
        "data_collator": MixupCollator(mixup="mixup", lam=0.4, model=model)
    }  # fmt: skip
    kind = MixupTrainer if entry_point == "trainer" else Trainer
    trainer = kind(model, args, train_dataset=data, eval_dataset=data, **mixing)
    before = {key: value.clone() for key, value in model.named_parameters()}
    trainer.train()
    assert any(not torch.equal(before[key], value) for key, value in model.named_parameters())
    found = trainer.evaluate()["eval_loss"]
    if entry_point == "collator":
        trainer.data_collator.remove()
    assert Trainer(model, args, eval_dataset=data).evaluate()["eval_loss"] == found
    if entry_point == "trainer":
        assert trainer.state.log_history[0]["mixup_lam"] == pytest.approx(0.4)


def test_accumulated_batches_count_as_one(arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches of 4 with the partners of one of 8: the same weights but for rounding."""
    monkeypatch.setattr(hf_mixup.methods.base, "pair", lambda n, **kwargs: torch.arange(n) ^ 1)
    ends = []
    for steps in (1, 2):
        model, batch = model_and_batch("patchtst", rows=8)
        data = [{key: value[row] for key, value in batch.items()} for row in range(8)]
        args = arguments(
            max_steps=1, gradient_accumulation_steps=steps, per_device_train_batch_size=8 // steps, optim="sgd",
            train_sampling_strategy="sequential",
        )  # fmt: skip
        MixupTrainer(model, args, mixup=MixupConfig("mixup", lam=0.4), train_dataset=data).train()
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-6)


def test_what_does_not_go_with_a_forecast_is_refused() -> None:
    model, batch = model_and_batch("transformer")
    for settings, error, message in (
        ({"method": "cutmix"}, ValueError, "'cutmix' does not mix forecasts, .* as 'mixup', 'cmixup' and 'tabular' do"),
        ({"method": "switch"}, ValueError, "'switch' does not mix forecasts"),
        ({"method": "mixup"}, TypeError, "static_categorical_features holds torch.int64.*method='tabular'"),
        ({"method": "tabular", "label_smoothing": 0.1}, ValueError, "its own loss is taken"),
    ):
        with pytest.raises(error, match=message), Mixup(settings)(model, batch):
            pass
    mixed = Mixup("tabular")(model, batch)
    with mixed, pytest.raises(ValueError, match="returned no loss"):
        mixed.loss({"loss": None})
