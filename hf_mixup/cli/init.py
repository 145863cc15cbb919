"""`hf-mixup init`."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_mixup.cli.command import Command
from hf_mixup.cli.parser import Parser


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", help="what to train, e.g. image-classification (asked for, if it is left out)")
    parser.add_argument("--dataset", help="a Hub name, a folder, a CSV, JSON or Parquet file (asked for)")
    parser.add_argument("--model", help="a checkpoint (default: a new, small model, or MiniLM for texts)")
    parser.add_argument("--method", help="mixing method (default: that of the task's preset)")
    parser.add_argument("--column", action="append", metavar="NAME=COLUMN", help="e.g. label_column=species")
    parser.add_argument("--output", type=Path, metavar="FILE", default=Path("mixup.yaml"), help="YAML file to write")


def run(arguments: list[str]) -> None:
    parser = Parser(prog="hf-mixup init")
    flags(parser)
    chosen = vars(parser.parse_args(arguments))
    output = chosen.pop("output")
    from hf_mixup.experiments.init import begin

    print(begin({name: value for name, value in chosen.items() if value is not None}, output))


COMMAND = Command("write a configuration for your data, whose first samples it shows", run, flags)
