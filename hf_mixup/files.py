"""Reading configuration files, and writing text files whole."""

from __future__ import annotations

import errno
import json
import os
import tempfile
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
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except OSError:  # a full disk must not be filled with parts
            os.unlink(file.name)
            raise


def is_disk_full(error: Exception) -> bool:
    """Whether an error says that nothing more can be written: a full or read-only disk, or a quota that is used up.

    >>> is_disk_full(OSError(errno.ENOSPC, "No space left on device")), is_disk_full(FileNotFoundError())
    (True, False)
    """
    return isinstance(error, OSError) and error.errno in _FULL
