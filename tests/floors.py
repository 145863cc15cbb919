"""Print the lowest release of each dependency that pyproject.toml declares, for pip: what `make floors` installs."""

from __future__ import annotations

from pathlib import Path

from pip._vendor import tomli  # Python's own tomllib came with 3.11

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def floors() -> list[str]:
    """Return `name==release` for each `name>=release`.

    Raises:
        ValueError: for a dependency without a floor.
    """
    declared = tomli.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    for each in declared:
        if each.count(">=") != 1 or "," in each:
            raise ValueError(f"{PROJECT.name}: {each!r} is no name>=release: say from which release on it was tried")
    return [each.replace(">=", "==") for each in declared]


if __name__ == "__main__":
    print(*floors())
