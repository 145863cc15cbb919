"""How flags are read: errors are raised, and no flag may be shortened."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser of flags that raises instead of leaving the process, and takes no shortened flags."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"add_help": False, "allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def own_flags(
    add: Callable[[argparse.ArgumentParser], None], arguments: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags of a command that are no settings, and the other arguments."""
    parser = Parser()
    add(parser)
    return parser.parse_known_args(arguments)
