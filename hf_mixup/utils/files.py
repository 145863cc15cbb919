"""Reading configuration files, and writing text files whole."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def read_config(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file.

    Raises:
        ValueError: if it is none, naming the file and the line.
        FileNotFoundError: if there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such configuration file: {path}")
    try:
        values = parse_text(path.read_text(encoding="utf-8"), "JSON" if path.suffix == ".json" else "YAML")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise ValueError(f"{path}{', ' if str(error).startswith('line ') else ': '}{error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}, expected a mapping of settings")
    return values


def slug(name: str) -> str:
    """Return a name as a part of a file's name.

    >>> slug("test, noise 0.2")
    'test-noise-0-2'
    """
    return re.sub("[^A-Za-z0-9_]+", "-", name)


def parse_text(text: str, language: Literal["YAML", "JSON"] = "YAML") -> Any:
    """Return what a text holds.

    Raises:
        ValueError: if it is not readable, with the line where that is known: of the many errors of the readers the one.

    >>> parse_text("[0.2, 0.8]")
    [0.2, 0.8]
    """
    line: int | None = None
    cause: Exception
    try:
        return json.loads(text) if language == "JSON" else yaml.safe_load(text)
    except json.JSONDecodeError as error:
        line, reason, cause = error.lineno, error.msg, error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reason, cause = str(error.problem or error.context), error
    except (yaml.YAMLError, ValueError) as error:
        reason, cause = str(error), error
    except RecursionError as error:
        reason, cause = "brackets are nested too deeply", error
    where = "" if line is None else f"line {line}: "
    raise ValueError(f"{where}not readable as {language}: {reason}") from cause


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        OSError: if it cannot be written; a file that was there before stays as it was.

    >>> path = Path(tempfile.mkdtemp(), "best.yaml")
    >>> write_text(path, "alpha: 0.2")
    >>> read_config(path)
    {'alpha': 0.2}
    """
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write a value as a JSON file, whole or not at all; `default` says what becomes of what JSON does not know."""
    write_text(path, json.dumps(value, indent=2, default=default) + "\n")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give an empty file to write, which takes the place of `path` at the end; after an error nothing is left of it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(descriptor)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:  # a full disk must not be filled with parts
        Path(name).unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be made or written, before anything is computed for it.

    Raises:
        ValueError: naming the part of the path that is in the way.

    >>> check_writable(Path(tempfile.mkdtemp(), "runs", "mine"))  # is made when there is something to write
    >>> check_writable(Path(__file__, "mine"))
    Traceback (most recent call last):
    ...
    ValueError: output_dir: ... cannot be made, as ...files.py is a file: name another with --output_dir
    """
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not there.is_dir():
        found = "a file" if there.is_file() else "no folder"
        way = f"cannot be made, as {there} is {found}" if there != folder else f"is {found}"
        raise ValueError(f"output_dir: {folder} {way}: name another with --output_dir")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ValueError(
            f"output_dir: nothing can be written into {there} ({error.strerror}): name another with --output_dir"
        ) from error


class NoSpaceError(OSError):
    """Results cannot be stored: to go on would be for nothing."""


@contextmanager
def resumable(state: Callable[[], str]) -> Iterator[None]:
    """Say how much is done and kept when Ctrl-C or a full disk ends work that the same command goes on with."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{state()}; the same command goes on from there") from None
    except NoSpaceError as error:
        raise NoSpaceError(f"{error}; {state()}; the same command goes on from there") from error


def is_full(error: Exception, folder: Path) -> bool:
    """Whether an error came of a full disk, seen from the folder that was written into.

    safetensors and torch say so in errors of their own.

    >>> is_full(OSError(errno.ENOSPC, "No space left on device"), Path("runs")), is_full(KeyError("x"), Path("runs"))
    (True, False)
    """
    if is_disk_full(error):
        return True
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return "No space left" in str(error) or shutil.disk_usage(existing).free < 2**20


def is_disk_full(error: Exception) -> bool:
    """Whether an error says that nothing more can be written: a full or read-only disk, or a quota that is used up.

    >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device")), is_disk_full(FileNotFoundError())
    (True, False)
    """
    return isinstance(error, OSError) and error.errno in _FULL
