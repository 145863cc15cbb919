"""Running statistics of batch normalisation: of clean samples where a model is evaluated or saved, else as ever."""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler
from transformers import Trainer, TrainerCallback

from hf_mixup import EMACallback, Mixup, MixupTrainer
from hf_mixup.engine import batch_norm as engine
from hf_mixup.engine.clean_batches import clean_batches
from hf_mixup.integrations.batch_norm import AVERAGE_NAME
from hf_mixup.integrations.ema import EMA_NAME
from hf_mixup.models.batch_norm import layers_in_training
from tests.contrasts import arguments, batch_of, by_torch, clean_loss, contrasts, resnet, trained
from tests.entry_points import ENTRY_POINTS

EACH = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "max_steps": 6}


def state(model: nn.Module) -> dict[str, Tensor]:
    held = [*model.named_parameters(), *model.named_buffers()]  # `state_dict` gives an average's place up
    return {name: value.detach().clone() for name, value in held}


def statistics(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if "running" in name}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    return trained(str(tmp_path_factory.mktemp("off")), refresh=False, rows=contrasts(384)).model


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_classes_that_differ_in_contrast(entry_point: str, without: nn.Module, tmp_path: Path) -> None:
    """Mixed training looks harmful where it is not; by all ways to train the clean loss is that of clean statistics."""
    model, test = trained(str(tmp_path), entry_point, rows=contrasts(384)).model, contrasts(384, seed=1)
    expected = clean_loss(by_torch(without, contrasts(384)), test)
    assert same(dict(model.named_parameters()), dict(without.named_parameters()))  # training is the same
    assert clean_loss(model, test) == pytest.approx(expected, abs=0.03)
    assert clean_loss(without, test) > 2 * expected


def loop(model: nn.Module, mixup: Mixup, batches: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for batch in batches:
        with mixup(model.train(), batch) as mixed:
            mixed.loss(model(**mixed.inputs)).backward()
        optimizer.step()
        optimizer.zero_grad()


def stacked(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return batch_of(rows)


def test_a_loop_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    model, mixup = resnet(), Mixup({"alpha": 4})
    loader = DataLoader(contrasts(96), batch_size=96, shuffle=True, collate_fn=stacked)
    loop(model, mixup, [*loader] * 4)
    before, rng = state(model), torch.get_rng_state()
    with caplog.at_level(logging.INFO, logger="hf_mixup"), mixup.refresh_batch_norm(model, loader) as refreshed:
        assert refreshed.samples == 96
        for name, value in by_torch(model, contrasts(96)).named_buffers():
            if "running" in name:
                torch.testing.assert_close(model.get_buffer(name), value, rtol=1e-4, atol=1e-5)
    assert same(state(model), before)
    assert all(each.training for each in model.modules())
    assert torch.equal(torch.get_rng_state(), rng)
    assert "batch norm layers: estimated from 96 clean samples in" in caplog.text
    mixup.refresh_batch_norm(model, loader)  # without `with` they stay
    assert not same(state(model), before)
    with pytest.raises(ValueError, match=r"refresh before model.eval\(\)"):
        mixup.refresh_batch_norm(model.eval(), loader)


def test_a_population_and_not_a_mean_of_batches() -> None:
    """Against float64, over batches of unequal size, and a layer that two kinds of input pass."""
    norm = nn.BatchNorm1d(3)
    parts = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) * n + n for n in (2, 7, 4)]
    found = engine.estimate(norm, [norm], parts, 0, lambda batch: (norm(batch), norm(input=-3 * batch)))
    whole = torch.cat([*parts, *(-3 * each for each in parts)]).double()
    mean, variance = found.statistics[norm]
    torch.testing.assert_close(mean.double(), whole.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variance.double(), whole.var(0), rtol=1e-5, atol=1e-5)
    assert norm.num_batches_tracked == 0
    assert found.samples == 13


class Untouched:
    """A loader that nobody may read."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError


@pytest.mark.parametrize("why", ["off", "prob", "nothing mixed", "other norms", "frozen"])
def test_no_pass_where_none_is_wanted(why: str) -> None:
    model = resnet()
    mixup = Mixup({"refresh_batch_norm": why != "off", "prob": float(why != "prob")})
    batch = batch_of(contrasts(6))
    if why != "nothing mixed":
        with mixup(model.train(), batch) as mixed:
            model(**mixed.inputs)
    if why == "other norms":
        model = nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), nn.GroupNorm(1, 3), nn.LayerNorm(3))
    for each in model.modules() if why == "frozen" else ():
        if isinstance(each, nn.BatchNorm2d):
            each.eval()
    assert mixup.refresh_batch_norm(model, Untouched()) is None


def test_frozen_layers_and_half_precision() -> None:
    """What training does not move stays; dropout drops nothing; statistics of bfloat16 are summed in float32."""
    still, stopped, plain = nn.BatchNorm1d(4).eval(), nn.BatchNorm1d(4, momentum=0.0), nn.BatchNorm1d(4)
    none = nn.BatchNorm1d(4, track_running_stats=False)
    model = nn.Sequential(still, stopped, none, nn.Dropout(0.9), plain).bfloat16()
    before, rows = state(model), (torch.randn(4096, 4) * 5 + 3).bfloat16()
    layers = layers_in_training(model)
    assert layers == [plain]
    found = engine.estimate(model, layers, [rows], 0, model)
    assert same(state(model), before)
    entered = model[:3](rows).double()  # each normalised by what it holds, or by the batch
    torch.testing.assert_close(found.statistics[plain][0].double(), entered.mean(0), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(found.statistics[plain][1].double(), entered.var(0), rtol=1e-2, atol=1e-2)


def test_compiled_in_place() -> None:
    """Compiled code passes over hooks, so that the pass runs as it is written."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model.compile(backend="eager")
    rows = torch.randn(64, 3)
    model(rows)
    found = engine.estimate(model, [model[1]], [rows], 0, model)
    torch.testing.assert_close(found.statistics[model[1]][0], model[0](rows).mean(0), rtol=1e-4, atol=1e-5)


class Noisy:
    """Augments by all generators that there are."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, row: int) -> Tensor:
        return torch.tensor([row, torch.rand(()), random.random(), np.random.rand()])


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_the_training_loader_never_notices(generator: torch.Generator | None) -> None:
    seen: list[list[Tensor]] = []
    for refreshes in (False, True):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        if generator is not None:
            generator.manual_seed(3)
        loader, norm = DataLoader(Noisy(), batch_size=8, shuffle=True, generator=generator), nn.BatchNorm1d(4)
        seen.append([])
        for _ in range(2):
            for batch in loader:
                seen[-1].append(batch)
                if refreshes:
                    found = [engine.estimate(norm, [norm], loader, 0, norm) for _ in range(2)]
                    assert found[0].samples == 64
                    assert torch.equal(found[0].statistics[norm][0], found[1].statistics[norm][0])  # the same each time
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))


def test_batches_are_spread_over_the_epoch_and_kept_to_the_sampler() -> None:
    in_order = [batch.tolist() for batch in clean_batches(DataLoader(range(100), batch_size=4), 16, seed=0)]
    assert in_order == [[0, 1, 2, 3], [24, 25, 26, 27], [48, 49, 50, 51], [72, 73, 74, 75]]
    held_out = SubsetRandomSampler(range(50), generator=torch.Generator())
    chosen = torch.cat([*clean_batches(DataLoader(range(100), batch_size=10, sampler=held_out), 30, seed=0)])
    assert len(chosen) == 30
    assert int(chosen.max()) < 50
    rest = [*clean_batches(DataLoader(range(9), batch_size=8), 2000, seed=0)]
    assert [len(each) for each in rest] == [8]  # a single sample has no statistics


class Stream(IterableDataset[Any]):
    """Samples one after the other; `once` hands out one iterator for all."""

    def __init__(self, rows: list[Any], once: bool) -> None:
        self.rows = iter(rows) if once else rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


@pytest.mark.parametrize("entry_point", ["trainer", "collator"])
@pytest.mark.parametrize("once", [False, True])
def test_streams(once: bool, entry_point: str, tmp_path: Path) -> None:
    """One that can be read again is; of one that cannot, training gets every sample, and a warning tells."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plain, refreshed = (
            trained(str(tmp_path / str(on)), entry_point, on, rows=Stream(contrasts(192), once), **EACH).model
            for on in (False, True)
        )
    assert same(dict(plain.named_parameters()), dict(refreshed.named_parameters()))
    assert same(state(plain), state(refreshed)) == once
    assert sum("Stream can be read only once" in str(each.message) for each in told) == once


class Watching(TrainerCallback):
    """Keeps the statistics that each evaluation used, and those that training goes on with."""

    def __init__(self) -> None:
        self.used: list[dict[str, Tensor]] = []
        self.trained: list[dict[str, Tensor]] = []

    def on_prediction_step(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        self.used.append(statistics(state(model)))

    def on_step_begin(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        self.trained.append(state(model))


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_training_goes_on_as_if_nobody_had_evaluated(entry_point: str, tmp_path: Path) -> None:
    plain, watching = Watching(), Watching()
    never = trained(str(tmp_path / "a"), entry_point, False, callbacks=[plain], max_steps=6)
    rows = contrasts(96)
    often = trained(str(tmp_path / "b"), entry_point, rows=rows, callbacks=[watching], **EACH)
    assert all(same(one, other) for one, other in zip(plain.trained, watching.trained, strict=True))
    for number, step in enumerate((2, 4, 6)):  # three batches an evaluation
        folder = tmp_path / "b" / f"checkpoint-{step}"
        saved, average = load_file(folder / "model.safetensors"), torch.load(folder / AVERAGE_NAME)
        assert all(same(statistics(saved), each) for each in watching.used[3 * number : 3 * number + 3])
        moved = plain.trained[step] if step < 6 else state(never.model)
        assert average
        for name, (mean, variance) in average.items():
            assert torch.equal(mean, moved[f"{name}.running_mean"])
            assert torch.equal(variance, moved[f"{name}.running_var"])
    assert same(statistics(state(often.model)), watching.used[-1])  # what training leaves
    cost = [each["mixup_batch_norm_seconds"] for each in often.state.log_history if "eval_loss" in each]
    assert len(cost) == 3
    assert min(cost) > 0
    assert "mixup_batch_norm_seconds" not in never.state.log_history[-1]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_resumed_run_has_the_same_bits(entry_point: str, tmp_path: Path) -> None:
    """Also where mixing has ended before the checkpoint: its statistics are those of clean samples all the same."""
    found = []
    for settings in ({}, {"resume": str(tmp_path / "checkpoint-4"), "model": resnet(seed=5)}):
        late = {"mixup": {"disable_last_ratio": 0.5}}
        found.append(state(trained(str(tmp_path), entry_point, **settings, **late, **EACH).model))
        found.append(load_file(tmp_path / "checkpoint-6" / "model.safetensors"))
        found.append(
            {name: torch.cat(value) for name, value in torch.load(tmp_path / "checkpoint-6" / AVERAGE_NAME).items()}
        )
    assert all(same(one, other) for one, other in zip(found[:3], found[3:]))
    assert same(found[0], found[1])


@pytest.mark.parametrize("averages", [False, True])
def test_the_best_checkpoint_keeps_what_was_evaluated(averages: bool, tmp_path: Path) -> None:
    class Worse(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
            metrics["eval_loss"] = float(state.global_step)

    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": False}
    watching = Watching()
    callbacks = [watching, Worse(), *([EMACallback(decay=0.5)] if averages else [])]
    trainer = trained(str(tmp_path), callbacks=callbacks, **EACH, **best)
    assert str(trainer.state.best_model_checkpoint).endswith("checkpoint-2")
    assert same(statistics(state(trainer.model)), watching.used[0])


@pytest.mark.parametrize("first", [True, False])
def test_the_average_has_statistics_of_its_own(first: bool, tmp_path: Path) -> None:
    """Evaluated, saved and left under its own weights, whichever callback comes first; also without an evaluation."""
    for folder, settings in (("a", EACH), ("b", {**EACH, "eval_strategy": "no"})):
        ema, watching = EMACallback(decay=0.5), Watching()
        callbacks = [ema, watching] if first else [watching, ema]
        model = trained(str(tmp_path / folder), "callback", callbacks=callbacks, **settings).model
        raw, own = (load_file(tmp_path / folder / "checkpoint-6" / name) for name in ("model.safetensors", EMA_NAME))
        assert same(statistics(own), statistics(state(model)))
        assert same(statistics(own), statistics(ema.average))
        assert not same(statistics(own), statistics(raw))
        if watching.used:
            assert same(watching.used[-1], statistics(own))
        expected = resnet()
        for weights, values in ((own, own), (raw, raw)):
            expected.load_state_dict(weights, strict=False)
            for name, value in statistics(state(by_torch(expected, contrasts(96)))).items():
                torch.testing.assert_close(values[name], value, rtol=0.2, atol=0.1)  # theirs are batches of 32


def test_off_is_the_plain_trainer_to_the_bit(tmp_path: Path) -> None:
    """Mixing nothing reads no clean sample, and writes no file of its own."""
    args = arguments(str(tmp_path / "a"), **EACH)
    plain = Trainer(resnet(), args, train_dataset=contrasts(96), eval_dataset=contrasts(24, seed=1))
    plain.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        off = trained(str(tmp_path / "b"), mixup={"prob": 0.0}, **EACH)
    assert same(state(plain.model), state(off.model))
    assert not [*tmp_path.rglob(AVERAGE_NAME)]


def test_samples_are_about_two_thousand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a large dataset a part is read, by the Trainer's own collator and columns."""
    read: list[int] = []

    def count(model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if not model.training:
            read.append(len(kwargs["labels"]))

    monkeypatch.setattr(engine, "SAMPLES", 20)
    model, args = resnet(), arguments(str(tmp_path), per_device_train_batch_size=8, max_steps=2)
    trainer = MixupTrainer(model, args, mixup={"self_check": False}, train_dataset=contrasts(96))
    model.register_forward_pre_hook(count, with_kwargs=True)
    trainer.train()
    assert read == [8, 8, 8]


def test_a_model_that_is_called_otherwise_keeps_what_it_has() -> None:
    norm = nn.BatchNorm1d(3)
    with pytest.warns(UserWarning, match=r"keeps running statistics of mixed samples .* refresh_batch_norm=False"):
        assert engine.estimate(norm, [norm], [{"inputs": torch.ones(2, 3)}], 0, lambda batch: norm(**batch)) is None
    assert norm.training
