"""A file that says which process is at work somewhere, on any machine that sees it.

Locks of the kernel are not relied on: many network disks have none, or one for each machine. The file is made if it is
not there, which is atomic on all of them, and its holder touches it as long as it lives.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

BEAT = 10.0  # seconds between two signs of life
SILENT = 60.0  # seconds without one after which a process on another machine is taken for dead


@contextmanager
def hold(path: Path, work: str) -> Iterator[None]:
    """Hold a file until the end; a file that a dead process left is taken over.

    Args:
        work: what is at work, for the error that others get.

    Raises:
        ValueError: if a living process holds it, naming it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "running.json")
    >>> with hold(path, "a comparison"):
    ...     holder(path)
    'a comparison, process ... on ..., since ..., last seen 0 s ago'
    >>> path.exists()
    False
    """
    own = _take(path, work)
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(path, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if _read(path).get("id") == own:
            path.unlink(missing_ok=True)


def holder(path: Path) -> str | None:
    """Return in words which living process holds a file; None if none does."""
    try:
        return _living(path)
    except FileNotFoundError:
        return None


def _living(path: Path) -> str | None:
    """Return in words which living process holds a file; None for a file that a dead one left.

    Raises:
        FileNotFoundError: if nobody holds it.
    """
    silent = _now(path.parent) - path.stat().st_mtime
    found = _read(path)
    if not _alive(found, silent):
        return None
    who = f"process {found.get('pid')} on {found.get('host')}, since {found.get('since')}"
    return f"{found.get('work', 'something')}, {who}, last seen {max(0.0, silent):.0f} s ago"


def _take(path: Path, work: str) -> str:
    process, own = psutil.Process(), uuid.uuid4().hex
    told: dict[str, Any] = {"id": own, "work": work, "host": platform.node(), "machine": _machine(), "pid": process.pid}
    told |= {"started": process.create_time(), "since": time.strftime("%Y-%m-%d %H:%M")}
    while True:
        with suppress(FileExistsError):
            _make(path, told)
            return own
        with _heir(path), suppress(FileNotFoundError):
            if who := _living(path):
                raise ValueError(f"{path.parent} is in use by {who}: wait for it, or name another --output_dir")
            ready = path.with_name(f"{path.name}.{own}")
            _make(ready, told)
            os.replace(ready, path)  # what a dead process left nobody else removes, so that there is always a file
            return own


def _make(path: Path, told: Mapping[str, Any]) -> None:
    with path.open("x", encoding="utf-8") as file:
        json.dump(told, file)


@contextmanager
def _heir(path: Path) -> Iterator[None]:
    """Be the only one who looks whether the holder is dead, and takes its place."""
    guard = path.with_name(f"{path.name}.heir")
    while True:
        try:
            guard.touch(exist_ok=False)
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                if _now(path.parent) - guard.stat().st_mtime > SILENT:  # who made it died within a moment
                    guard.unlink()
            time.sleep(0.05)
    try:
        yield
    finally:
        guard.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """Return what the holder wrote; nothing while it has not yet."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(found: dict[str, Any], silent: float) -> bool:
    if found.get("machine") == _machine():
        try:
            process = psutil.Process(found["pid"])
            dead = process.status() == psutil.STATUS_ZOMBIE
            return not dead and abs(process.create_time() - found["started"]) < 1
        except psutil.NoSuchProcess:
            return False
    return silent < SILENT


def _machine() -> str:
    """Return what the processes share that see each other by their numbers: since when it runs, and which container."""
    parts = [platform.node()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _now(folder: Path) -> float:
    """Return the time by the clock that stamps the files of a folder, which may be another machine's."""
    stamp = folder / f".{uuid.uuid4().hex}.now"
    stamp.touch()
    try:
        return stamp.stat().st_mtime
    finally:
        stamp.unlink(missing_ok=True)


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(path)
