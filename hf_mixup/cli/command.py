"""What a command is, and how its help is made of that."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

from hf_mixup.cli.parser import Parser
from hf_mixup.cli.settings import own_settings

MIXING, TRAINING = "mixing", "training"
"""Groups of settings that the help of a command may show, see `Command.usual`."""


class Command(NamedTuple):
    """One subcommand. No dataclass: to import those takes a seventh of the time of `hf-mixup --help`.

    Args:
        text: what it does.
        run: takes the arguments and returns the exit status, None for 0.
        flags: adds the flags that are no settings.
        usual: which settings of its own, and which groups of others, its help shows, see `tasks.help`; None for a
            command without settings.
        first, more: what stands before CONFIG in its usage, and what the help says of it.
    """

    text: str
    run: Callable[[list[str]], int | None]
    flags: Callable[[argparse.ArgumentParser], None] | None = None
    usual: tuple[str, ...] | None = None
    first: str = ""
    more: str = ""


def print_help(name: str, command: Command, topic: str | None) -> None:
    """Print the help of a command: its usual settings, those of one task or method (`topic`), or all."""
    from hf_mixup.experiments.tasks.help import ALL, Formatter, add_help

    parser = Parser(
        prog=f"hf-mixup {name}",
        description=f"{command.text.capitalize()}.",
        formatter_class=Formatter,
        conflict_handler="resolve",
    )
    if command.usual is not None:
        parser.usage = f"hf-mixup {name} {command.first}[CONFIG] [--setting value ...]"
        about = f"{command.more}CONFIG is a YAML or JSON file of settings, or the name of a preset; flags override it."
        parser.description = f"{parser.description}\n{about}"
        add_help(parser, name, own_settings(name), topic, command.usual)
    if topic in (None, ALL) and command.flags is not None:
        command.flags(parser)  # last, as some say more than the settings of the same name
    parser.print_help()
