"""`hf-mixup preview`."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_mixup.cli.command import MIXING, Command
from hf_mixup.cli.parser import own_flags
from hf_mixup.cli.settings import look_ahead, parse


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", default=Path("preview.png"), help="PNG file to write.")


def run(arguments: list[str]) -> None:
    own, rest = own_flags(flags, arguments)
    look_ahead("preview", rest, "dataset", "model")
    task, mixup, args = parse("preview", rest, shared=False)
    from hf_mixup.experiments.tasks.preview import preview

    print(preview(task, mixup, args, own.output))


COMMAND = Command("draw a grid of mixed samples with their weights and labels", run, flags, usual=(MIXING,))
