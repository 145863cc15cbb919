"""Finished runs on disk: each whole or not at all, in a folder named by what determines it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_mixup.utils.files import read_json, write_json

MARKER = "compare.json"  # tells a comparison's folder from others
RUNNING = "running.json"  # says who is at work in a folder
_PART = re.compile(r"\.[0-9a-f]{8}\.part$")
RESULT, PREDICTIONS = "result.json", "predictions.npz"


@dataclass(frozen=True)
class Finished:
    """A finished run: its folder (with the model), metrics by split, predictions by split, and what was logged.

    Predictions are (logits [N, C], labels [N]), or for pairs (image_embeds [N, D], text_embeds [N, D], head [N, 2],
    ids [N]).
    """

    folder: Path
    metrics: dict[str, dict[str, float | None]]
    predictions: dict[str, tuple[np.ndarray, ...]]
    history: Sequence[Mapping[str, Any]] = ()


def key_of(determinants: Mapping[str, Any]) -> str:
    """Return a short hash of everything that decides how a run comes out.

    >>> key_of({"seed": 0, "alpha": 1.0}) == key_of({"alpha": 1.0, "seed": 0})
    True
    """
    text = json.dumps(determinants, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_comparison(folder: str | Path) -> bool:
    """Whether a folder holds a comparison."""
    return (Path(folder) / MARKER).is_file()


def run_folder(output: Path, label: str, seed: int, key: str) -> Path:
    """Return where a run is stored; the key is in the name, so that changed settings find nothing.

    >>> run_folder(Path("out"), "mixup:alpha=0.2", 1, "ab12").name
    'mixup-alpha-0.2-seed1-ab12'
    """
    name = re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-")
    return output / "runs" / f"{name}-seed{seed}-{key}"


def load_run(folder: Path) -> Finished | None:
    """Return the run stored in a folder; None if it is missing or unreadable, and has to be trained again."""
    try:
        result = read_json(folder / RESULT)
        metrics, history = result["metrics"], result.get("history", [])
        with np.load(folder / PREDICTIONS, allow_pickle=False) as file:  # reading an array checks its sum
            stored = {name: file[name] for name in sorted(file.files, key=lambda name: int(name.rpartition(".")[2]))}
        predictions = {
            split: tuple(part for name, part in stored.items() if name.rpartition(".")[0] == split) for split in metrics
        }
        if not all(predictions.values()) or not all(isinstance(scores, dict) and scores for scores in metrics.values()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
        return None
    if not any(folder.glob("*.safetensors")):
        return None
    return Finished(folder, metrics, predictions, history)


def save_run(
    folder: Path,
    metrics: Mapping[str, Mapping[str, float | None]],
    predictions: Mapping[str, tuple[np.ndarray, ...]],
    determinants: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the results of a run beside its model, and the finite numbers of its log, into a folder of `atomic_dir`."""
    arrays: Any = {f"{split}.{n}": part for split, parts in predictions.items() for n, part in enumerate(parts)}
    np.savez_compressed(folder / PREDICTIONS, **arrays)
    logged = [{name: value for name, value in line.items() if _is_number(value)} for line in history]
    write_json(folder / RESULT, {"metrics": metrics, "settings": determinants, "history": logged}, default=str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


@contextmanager
def atomic_dir(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes the place of `folder` at the end; after an error nothing is left of it.

    `remove_dead_parts` removes the part that a killed process leaves.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, lock = _locked_part(folder)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _locked_part(folder: Path) -> tuple[Path, int | None]:
    """Make a folder for a part, locked until this process ends."""
    while True:
        partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
        partial.mkdir()
        lock = _lock(partial)
        if lock is None or partial.exists():
            return partial, lock
        os.close(lock)  # somebody took it for a dead one before it was locked


def _lock(folder: Path) -> int | None:
    """Lock a folder until this process ends, in whatever way, and return the descriptor to close.

    It is None where folders cannot be locked (on Windows, on some network disks). A folder that a living process has
    locked raises BlockingIOError.
    """
    try:
        import fcntl
    except ImportError:
        return None
    file = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return file


def remove_dead_parts(output: Path) -> None:
    """Remove the unfinished runs of killed processes from the output of a comparison or a sweep."""
    for partial in [each for folder in (output, output / "runs") for each in folder.glob(".*.part")]:
        if not _PART.search(partial.name) or not partial.is_dir():
            continue
        try:
            lock = _lock(partial)
        except (BlockingIOError, FileNotFoundError):  # alive, or ended just now
            continue
        if lock is not None:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)
