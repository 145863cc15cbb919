"""Print the lowest releases that pyproject.toml declares, for pip: what `make floors` installs.

`python tests/floors.py` prints those that every installation has, `python tests/floors.py extras` also those of the
extras, except the two that are for developers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pip._vendor import tomli  # Python's own tomllib came with 3.11

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
FOR_DEVELOPERS = ("docs", "dev")  # which need each other's newest releases, and no promise


def declared() -> dict[str, Any]:
    """Return the table that pyproject.toml has under `project`."""
    return tomli.loads(PROJECT.read_text(encoding="utf-8"))["project"]


def floors(extras: bool = False) -> list[str]:
    """Return `name==release` for each `name>=release`, with `extras` also for each that an extra of users brings.

    Raises:
        ValueError: for a dependency without a floor.
    """
    project = declared()
    needed = list(project["dependencies"])
    for extra, brings in project["optional-dependencies"].items() if extras else ():
        needed += [] if extra in FOR_DEVELOPERS else brings
    for each in needed:
        if each.count(">=") != 1 or "," in each:
            raise ValueError(f"{PROJECT.name}: {each!r} is no name>=release: say from which release on it was tried")
    return [each.replace(">=", "==") for each in dict.fromkeys(needed)]


if __name__ == "__main__":
    print(*floors(extras="extras" in sys.argv))
