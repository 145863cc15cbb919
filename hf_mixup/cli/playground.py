"""`hf-mixup playground`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hf_mixup.cli.command import MIXING, Command
from hf_mixup.cli.parser import own_flags
from hf_mixup.cli.settings import look_ahead, parse
from hf_mixup.cli.starting import saved_mixing, saved_task
from hf_mixup.utils.suggest import require


def flags(parser: argparse.ArgumentParser) -> None:
    text = "Trained model: a folder that train or compare left (it needs no CONFIG then), or a Hub name."
    parser.add_argument("--model", default=argparse.SUPPRESS, metavar="TEXT", help=text)
    text = "Port of this machine to serve the page at (default: the first free one from 7860)."
    parser.add_argument("--port", type=int, default=argparse.SUPPRESS, metavar="NUMBER", help=text)


def run(arguments: list[str]) -> None:
    from hf_mixup.experiments.tasks.saved import check_folder

    for package in ("gradio", "matplotlib"):
        require("the playground needs", package, "playground")
    own, rest = own_flags(flags, arguments)
    model, port = getattr(own, "model", None), getattr(own, "port", None)
    config = look_ahead("playground", rest, "dataset")
    defaults: dict[str, Any] = {}
    if model is not None:
        check_folder(model)
        if config is None:
            defaults = {**saved_mixing(Path(model)), **saved_task(Path(model), rest)}
    task, mixup, args = parse("playground", rest, shared=True, **defaults)
    from hf_mixup.experiments.playground.run import playground

    playground(task, mixup, args, model, port)


COMMAND = Command(
    "mix two samples by hand in the browser, and see what a model makes of the way between them",
    run,
    flags,
    usual=(MIXING,),
)
