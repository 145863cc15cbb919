"""Run recipes one after the other, each as the script it is, in the processes that a launcher has started."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from tests.scripts import leave


def main(commands: Path) -> None:
    for command in json.loads(commands.read_text()):
        print("recipe", *command, file=sys.stderr, flush=True)  # so that an error tells where
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave()
