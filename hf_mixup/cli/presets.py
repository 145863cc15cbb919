"""`hf-mixup presets`."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_mixup.cli.command import Command
from hf_mixup.cli.parser import Parser
from hf_mixup.cli.show import show


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--copy", metavar="NAME", help="write this preset into a file, to be changed")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the file for --copy (default: NAME.yaml)")


def run(arguments: list[str]) -> None:
    parser = Parser(prog="hf-mixup presets")
    flags(parser)
    chosen = parser.parse_args(arguments)
    from hf_mixup.experiments.tasks.presets import copy_preset, presets_table

    if chosen.copy is None:
        show(("preset", "task", "what it is"), presets_table())
        return
    print(copy_preset(chosen.copy, chosen.output or Path(f"{chosen.copy}.yaml")))


COMMAND = Command("list the configurations that come with the package, or copy one", run, flags)
