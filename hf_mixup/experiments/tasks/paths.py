"""Paths that are not there are told before torch is loaded, which takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hf_mixup.experiments.tasks.saved import check_there
from hf_mixup.experiments.tasks.streaming import is_pattern
from hf_mixup.utils.files import check_writable

BUILDERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
"""Files that are read, by their ending, and what `datasets` calls each kind."""


def check_dataset(name: str, streamed: bool = False) -> None:
    """Refuse a file or folder of data that is not there, or a file of another kind; other names may be on the Hub.

    Patterns and addresses, and which kinds of file there are in a stream, are left to whoever streams them.

    >>> check_dataset("owner/name")
    >>> check_dataset("no/such/rows.csv")
    Traceback (most recent call last):
    ...
    FileNotFoundError: no such dataset: no/such/rows.csv
    """
    path = Path(name)
    if is_pattern(name) and not path.exists():
        return
    if path.is_file() and path.suffix not in BUILDERS and not streamed:
        raise ValueError(f"{path}: cannot read {path.suffix or 'this'} files: {', '.join(BUILDERS)} are read")
    if not path.exists() and (path.is_absolute() or path.suffix in BUILDERS or name.startswith((".", "~"))):
        raise FileNotFoundError(f"no such dataset: {path}")
    if path.is_dir() and not any(each.is_file() for each in path.rglob("*")):
        raise FileNotFoundError(
            f"{path} holds no files: for classification put them into a folder a split and, in it, a folder a class, "
            f"such as {path / 'train' / 'cat' / '1.png'}"
        )


def check_paths(settings: Mapping[str, Any]) -> None:
    """Refuse what settings name and is not there; they are as a file or the flags have them, not yet converted."""
    streamed = str(settings.get("streaming")).lower() == "true"
    checks: dict[str, Callable[[str], None]] = {
        "dataset": lambda name: check_dataset(name, streamed),
        "model": check_there,
        "output_dir": lambda path: check_writable(Path(path)),
    }
    for setting, check in checks.items():
        value = settings.get(setting)
        if isinstance(value, str):
            check(value)
    wanted = settings.get("resume_from_checkpoint")
    if isinstance(wanted, str) and wanted.lower() not in ("true", "false") and not Path(wanted).is_dir():
        raise FileNotFoundError(f"resume_from_checkpoint: no such folder: {wanted}")
