"""The `hf-mixup` command: which subcommand is called, and what its errors print."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from hf_mixup import __version__
from hf_mixup.cli import check, compare, evaluate, init, methods, playground, presets, preview, sweep, train
from hf_mixup.cli.command import print_help
from hf_mixup.cli.parser import Parser

COMMANDS = {
    "train": train.COMMAND,
    "compare": compare.COMMAND,
    "sweep": sweep.COMMAND,
    "evaluate": evaluate.COMMAND,
    "preview": preview.COMMAND,
    "playground": playground.COMMAND,
    "methods": methods.COMMAND,
    "init": init.COMMAND,
    "presets": presets.COMMAND,
    "check": check.COMMAND,
}
EPILOG = """examples:
  hf-mixup train emoji_image --method cutmix --output_dir runs/cutmix
  hf-mixup compare emoji_image --methods none,mixup,mixup:alpha=0.2 --seeds 3
  hf-mixup evaluate runs/cutmix --suite calibration,corruption,ood --tta flip
  hf-mixup evaluate runs/comparison --suite corruption adversarial --severities 1 3 5
  hf-mixup sweep emoji_image --methods mixup cutmix --trials 20
  hf-mixup preview emoji_image --method mixup --output preview.png
  hf-mixup playground emoji_image --model runs/cutmix
  hf-mixup check bert --method manifold

`hf-mixup COMMAND --help` shows the usual settings of a command."""
_USER_ERRORS = (ValueError, OSError, ImportError)  # the messages of these say what to change; others are bugs
_HELP = ("-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 2 for bad input, 1 for an internal error, 130 after Ctrl-C.

    141, in silence, where nobody reads on what it prints (`hf-mixup methods | head`).

    Args:
        argv: the arguments without the program's name (default: the process's own).

    Raises:
        SystemExit: after `--help` or `--version`.

    >>> main(["methods", "--markdown"])
    | name | method | blends | begin with | paper |
    ...
    0
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        status = _run(arguments) or 0
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        # A progress bar, or the ^C of a terminal, stands on the line.
        print(f"\ninterrupted{f': {interrupt}' if str(interrupt) else ''}", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - the last line of defence: a message instead of a traceback
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141
        if debug:
            traceback.print_exc()
        text = " ".join(str(error).split())
        if isinstance(error, _USER_ERRORS):
            print(f"error: {text}", file=sys.stderr)
            return 2
        print(f"error: {type(error).__name__}: {text} (--debug shows where)", file=sys.stderr)
        return 1


def _nobody_reads() -> bool:
    """Whether the pipe behind the standard output is closed; then what is still to be printed is dropped."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _run(arguments: list[str]) -> int | None:
    if not arguments or arguments[0].startswith("-"):
        _top_parser().parse_args(arguments or ["--help"])
        raise ValueError(f"name a command: {', '.join(COMMANDS)}")
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        from hf_mixup.utils.suggest import did_you_mean

        raise ValueError(f"{name!r} is no command: {did_you_mean(name, COMMANDS)}")
    asked = next((index for index, argument in enumerate(rest) if argument in _HELP), None)
    if asked is not None:
        print_help(name, COMMANDS[name], next((each for each in rest[asked + 1 :] if not each.startswith("-")), None))
        raise SystemExit(0)
    return COMMANDS[name].run(rest)


def _top_parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:12}{command.text}" for name, command in COMMANDS.items())
    parser = Parser(
        prog="hf-mixup",
        usage="hf-mixup COMMAND [CONFIG] [--setting value ...]",
        description=f"Mixup-style training for Hugging Face models.\n\ncommands:\n{commands}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=True,
    )
    parser.add_argument("--version", action="version", version=f"hf-mixup {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (any command)")
    return parser
