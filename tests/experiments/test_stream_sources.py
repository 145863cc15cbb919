"""Where the samples of a stream lie: addresses, configurations of a repository, folders and archives of media."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.prepare import prepare
from hf_mixup.experiments.tasks.stream import Batches
from tests.experiments.test_streaming import arguments, streamed_ids
from tests.experiments.test_tasks import ROWS
from tests.shards import lines, numbered, table_task, tables


@pytest.fixture
def memory() -> Iterator[Any]:
    """Yield the file system of addresses that begin with memory://."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_shards_are_found_by_any_address_of_fsspec(tmp_path: Path, memory: Any) -> None:
    for path in tables(tmp_path, [9, 5, 6]):
        memory.pipe(f"/shards/{path.name}", path.read_bytes())
    with zipfile.ZipFile(tmp_path / "lines.zip", "w") as archive:
        for number in range(3):
            archive.write(lines(tmp_path / "lines.jsonl", numbered(7 * number, 7)), f"{number}.jsonl")
    for address in ("memory://shards/*.parquet", f"file://{tmp_path}/*.parquet"):
        assert sorted(streamed_ids(table_task(address), tmp_path, 14)) == list(range(14))  # the last is held out
    zipped = table_task(f"zip://*.jsonl::{tmp_path}/lines.zip", class_names=["even", "odd"])
    assert sorted(streamed_ids(zipped, tmp_path, 14)) == list(range(14))


def repository(folder: Path) -> Path:
    """Write a dataset as the Hub has it, with two configurations."""
    tables(folder / "small", [9, 5])
    tables(folder / "large", [9, 5], first=100)
    tables(folder / "held", [3], first=200)
    parts = [
        f"- config_name: {name}\n  data_files:\n  - {{split: train, path: {name}/*}}\n"
        "  - {split: validation, path: held/*}\n"
        for name in ("small", "large")
    ]
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(parts)}---\n# Rows\n")
    return folder


def test_a_repository_tells_its_configurations_and_splits(tmp_path: Path) -> None:
    path = repository(tmp_path / "rows")
    task = table_task(path, dataset_config="large")
    assert sorted(streamed_ids(task, tmp_path, 14)) == list(range(100, 114))
    assert prepare(task).splits.validation["id"][:] == [200, 201, 202]
    with pytest.raises(ValueError, match=r"cannot be reached: ValueError: Config name is missing.*'small', 'large'"):
        prepare(table_task(path))


@pytest.mark.slow
def test_a_dataset_of_the_hub_is_streamed(tmp_path: Path) -> None:
    """Named as such, and by an address of its files, whose last shard is held out."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.scripts.hub", str(repository(tmp_path / "rows"))],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line.removeprefix("ids ")) for line in done.stdout.splitlines() if line.startswith("ids ")]
    assert found[0] == list(range(100, 114))
    assert set(found[1]) == set(range(100, 109))


# Folders and archives of images and audio

PIXELS = {
    f"{name}/{number}.png": 100 * place + number for place, name in enumerate(("cat", "dog")) for number in range(6)
}
RESNET = {"layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]}


def image(brightness: int) -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), brightness, np.uint8)).save(held, "png")
    return held.getvalue()


def write(files: Mapping[str, bytes], path: Path) -> Path:
    """Write files into a folder, a zip or a tar file."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif path.suffix == ".tar":
        with tarfile.open(path, "w") as entries:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                entries.addfile(entry, io.BytesIO(content))
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


def image_task(dataset: Path | str, **settings: Any) -> TaskArguments:
    model = {"model_type": "resnet", "image_size": 16, "config_overrides": RESNET}
    shape = {"task": "image-classification", "streaming": True, "validation_samples": 2, **model}
    return TaskArguments(**{**shape, "dataset": str(dataset), **settings})


def brightness_and_label(task: TaskArguments, folder: Path) -> list[tuple[int, int]]:
    """Return what the samples of a pass over 12 images show, of which 2 are held out, with their classes."""
    batches = Batches(prepare(task).train, arguments(folder, per_device_train_batch_size=10), lambda samples: samples)
    return sorted(
        (round(float(each["pixel_values"].mean() + 1) * 127.5), each["labels"]) for each in next(iter(batches))
    )


@pytest.mark.parametrize("name", ["images", "images.zip", "images.tar", "memory://images.tar", "memory://images.zip"])
def test_images_in_folders_by_class(name: str, tmp_path: Path, memory: Any) -> None:
    files = {each: image(shade) for each, shade in PIXELS.items()} | {"cat/._0.png": b"", "cat/notes.txt": b"a note"}
    path = write(files, tmp_path / name.removeprefix("memory://"))
    if name.startswith("memory"):
        memory.pipe(f"/{path.name}", path.read_bytes())
    task = image_task(name if name.startswith("memory") else path)
    assert prepare(task).splits.label_names == ["cat", "dog"]
    found = brightness_and_label(task, tmp_path)
    assert len(set(found)) == 10
    assert set(found) <= {(shade, int(each.startswith("dog"))) for each, shade in PIXELS.items()}


def test_a_folder_of_many_images_has_shards_with_all_classes(tmp_path: Path) -> None:
    path = write({f"{name}/{number}.png": image(9) for name in "ab" for number in range(70)}, tmp_path / "images")
    task = image_task(path, validation_samples=None)
    stream = prepare(task).train
    assert [len(shard.files) for shard in stream.sources[0]] == [47, 47]  # another one is held out
    assert all({Path(each).parent.name for each in shard.files} == {"a", "b"} for shard in stream.sources[0])


def test_broken_folders_and_archives_are_named(tmp_path: Path) -> None:
    files = {each: image(shade) for each, shade in PIXELS.items()}
    path = write(files, tmp_path / "images")
    (path / "cat" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"images, split train, part 1 of 1, row \d+: .*cat/3.png.* cannot be read"):
        for _ in islice(Batches(prepare(image_task(path, fit_samples=1)).train, arguments(tmp_path), list), 3):
            pass
    shutil.copy(write(files, tmp_path / "whole.zip"), tmp_path / "cut.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "cut.zip").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cut.zip cannot be reached: BadZipFile"):
        prepare(image_task(tmp_path / "cut.zip"))
    (path / "metadata.csv").write_text("file_name,label\ncat/0.png,cat\n")
    with pytest.raises(ValueError, match=r"metadata.csv: a stream reads the classes of a folder from its sub-folders"):
        prepare(image_task(path))


def audio(number: int) -> bytes:
    import soundfile

    held = io.BytesIO()
    soundfile.write(held, np.sin(np.arange(1600) * (number + 1) / 50), 16000, format="WAV")
    return held.getvalue()


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_tar_shards_hold_files_and_their_classes(kind: str, tmp_path: Path) -> None:
    """As WebDataset has them: 0001.png beside 0001.cls."""
    ending, make = {"image": ("png", lambda number: image(10 * number)), "audio": ("wav", audio)}[kind]
    files = {}
    for number in range(12):
        files |= {f"{number:04}.{ending}": make(number), f"{number:04}.cls": str(number % 2).encode()}
    columns = {"validation_samples": 2, f"{kind}_column": ending, "label_column": "cls", "class_names": ["a", "b"]}
    path = write(files, tmp_path / "samples.tar")
    if kind == "image":
        found = brightness_and_label(image_task(path, **columns), tmp_path)
        assert found == [(10 * number, number % 2) for number in range(2, 12)]
        return
    settings = ROWS["audio-classification"][0]
    own = {name: settings[name] for name in ("model", "model_type", "config_overrides") if name in settings}
    task = TaskArguments(
        task="audio-classification", streaming=True, dataset=str(path), shuffle_buffer=1, **own, **columns
    )
    samples = next(iter(Batches(prepare(task).train, arguments(tmp_path), lambda samples: samples)))
    assert [each["labels"] for each in samples] == [0, 1, 0, 1]
    assert all(torch.as_tensor(each["input_values"]).std() > 0.1 for each in samples)


def test_clips_in_an_archive_by_class(tmp_path: Path) -> None:
    path = write({f"{'ab'[number % 2]}/{number}.wav": audio(number) for number in range(12)}, tmp_path / "clips.zip")
    settings = ROWS["audio-classification"][0]
    own = {name: settings[name] for name in ("model", "model_type", "config_overrides") if name in settings}
    task = TaskArguments(task="audio-classification", streaming=True, dataset=str(path), validation_samples=2, **own)
    prepared = prepare(task)
    assert prepared.splits.label_names == ["a", "b"]
    samples = next(iter(Batches(prepared.train, arguments(tmp_path), lambda samples: samples)))
    assert {each["labels"] for each in samples} <= {0, 1}
