"""Training data that is streamed: every sample, in its turn, whoever reads it and whenever a run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments, set_seed

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.experiments.tasks import TASKS, TaskArguments
from hf_mixup.experiments.tasks import stream as streaming
from hf_mixup.experiments.tasks.data import load_raw, load_splits
from hf_mixup.experiments.tasks.prepare import make_trainer, prepare
from hf_mixup.experiments.tasks.shards import Shard, read_shards
from hf_mixup.experiments.tasks.stream import Batches, Stream
from tests.experiments.test_tasks import ROWS
from tests.shards import captioned, lines, numbered, table_task, tables, tars


def arguments(folder: Path, **settings: Any) -> TrainingArguments:
    usual = {"per_device_train_batch_size": 4, "max_steps": 4, "save_strategy": "no", "disable_tqdm": True}
    return TrainingArguments(str(folder), **{**usual, "use_cpu": True, "report_to": "none", **settings})


def ids_of(paths: list[Path], args: TrainingArguments, **settings: Any) -> Iterator[list[int]]:
    """Yield the ids of batch after batch of shards."""
    shards = [Shard(str(path), "parquet") for path in paths]
    stream = Stream(table_task("unread", **settings), [shards], None, just_ids, None)  # type: ignore[arg-type]
    for batch in stream.loader(args, list):
        yield batch


def just_ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in rows]


def first(batches: Iterator[list[int]], count: int) -> list[int]:
    """Return as many ids as the batches of a pass hold."""
    found: list[int] = []
    while len(found) < count:
        found += next(batches)
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_gives_every_sample_once_and_the_next_one_in_another_order(tmp_path: Path, workers: int) -> None:
    paths = tables(tmp_path, [13, 7, 20, 1])
    batches = ids_of(paths, arguments(tmp_path, dataloader_num_workers=workers), shuffle_buffer=16)
    one, two = first(batches, 41), first(batches, 41)
    assert sorted(one) == sorted(two) == list(range(41))
    assert one != two


@pytest.mark.parametrize("sizes", [[13, 7, 20, 1], [13, 7, 20], [5, 5]])
@pytest.mark.parametrize("buffer", [1, 8])
def test_two_processes_with_two_workers_share_a_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], buffer: int
) -> None:
    paths, found = tables(tmp_path, sizes), []
    monkeypatch.setattr(streaming, "world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(streaming, "process_index", lambda rank=rank: rank)
        batches = ids_of(paths, arguments(tmp_path, dataloader_num_workers=2), shuffle_buffer=buffer)
        seen: list[int] = []
        for batch in batches:  # to the end of the pass
            if seen and set(batch) & set(seen):
                break
            seen += batch
        found.append(seen)
    assert sorted(found[0] + found[1]) == list(range(sum(sizes)))
    assert found[0]
    assert found[1]


def test_without_a_buffer_samples_come_as_they_are_stored(tmp_path: Path) -> None:
    batches = ids_of(tables(tmp_path, [3, 6]), arguments(tmp_path), shuffle_buffer=1)
    assert first(batches, 9) == list(range(9))


def test_more_processes_than_shards_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "world_size", lambda: 3)
    with pytest.raises(ValueError, match="3 processes for 2 shards: .* start fewer processes, or write more shards"):
        next(ids_of(tables(tmp_path, [3, 6]), arguments(tmp_path)))


# Training


def trained(folder: Path, task: Any, mixup: MixupConfig | str, resume: bool = False, **settings: Any) -> Trainer:
    args, prepared = arguments(folder, **settings), prepare(task)
    set_seed(args.seed)
    trainer = make_trainer(prepared, prepared.build_model(), args, MixupConfig.from_any(mixup))
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}  # type: ignore[union-attr]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class InOrder(MixupTrainer):
    """Trains on rows in the order in which they lie."""

    def _get_train_sampler(self, *args: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


@pytest.mark.parametrize("mixup", [{"method": "tabular"}, {"method": "tabular", "prob": 0.0}])
def test_a_stream_trains_like_the_same_samples_in_memory(tmp_path: Path, mixup: dict[str, Any]) -> None:
    task = table_task(tmp_path / "*.parquet", validation_samples=4, shuffle_buffer=8, source_weights=None)
    tables(tmp_path, [14, 6])
    streamed = trained(tmp_path / "out", task, MixupConfig.from_any(mixup), gradient_accumulation_steps=2)

    prepared, args = prepare(task), streamed.args
    batches = Batches(prepared.train, args, lambda samples: samples)
    rows = [sample for batch in islice(batches, 8) for sample in batch]
    set_seed(args.seed)
    model = prepared.build_model()
    plain = InOrder(model, args, prepared.collator, rows, mixup=MixupConfig.from_any(mixup))
    plain.train()
    assert same(weights(streamed), weights(plain))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_in_mid_stream_comes_to_the_same_weights(tmp_path: Path, workers: int) -> None:
    """Flips are drawn, batch norm and lam too; the first pass ends between the checkpoint and the end."""
    data = tmp_path / "data"
    data.mkdir()
    rows = load_raw(TaskArguments())["train"].select(range(0, 400, 10))
    for number in range(3):
        rows.shard(3, number).to_parquet(data / f"part-{number}.parquet")
    shape = {"layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}
    task = TaskArguments(
        streaming=True,
        dataset=str(data / "*.parquet"),
        validation_samples=4,
        shuffle_buffer=8,
        flip=True,
        image_size=16,
        model_type="resnet",
        config_overrides=shape,
    )
    settings = {"max_steps": 6, "save_steps": 2, "save_strategy": "steps", "dataloader_num_workers": workers}
    settings |= {"gradient_accumulation_steps": 2, "dataloader_pin_memory": False, "per_device_train_batch_size": 4}
    whole = trained(tmp_path / "out", task, MixupConfig("mixup", lam_per="sample"), **settings)
    for left in (tmp_path / "out").glob("checkpoint-*"):
        if left.name != "checkpoint-2":
            for file in left.iterdir():
                file.unlink()
            left.rmdir()
    again = trained(tmp_path / "out", task, MixupConfig("mixup", lam_per="sample"), resume=True, **settings)
    assert again.state.global_step == whole.state.global_step == 6
    assert same(weights(whole), weights(again))
    other = trained(tmp_path / "new", task, MixupConfig("mixup", lam_per="sample"), **{**settings, "seed": 7})
    assert not same(weights(whole), weights(other))
