"""The `hf-mixup` command. torch and transformers load inside the subcommands, so that help is quick."""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hf_mixup import __version__

_CONFIG = " CONFIG is a YAML or JSON file of settings and comes first; flags override it."
_CHECKPOINT = (
    " CHECKPOINT is a folder with a model, or its name on the Hub, and comes first; what train and compare left knows "
    "its data, others need a CONFIG. Of the folder of a comparison all runs are scored, and compared."
)
_COMMANDS = {
    "train": "train one model and leave it, its metrics and its model card in the output folder",
    "compare": "train with several methods and seeds, and compare them in a table and images",
    "sweep": "try methods, alpha, prob and layers, and leave the best settings as a file for train",
    "evaluate": "score trained classifiers under shift, corruption, noise and attack: tables, images, model card",
    "preview": "draw a grid of mixed samples with their weights and labels",
    "playground": "mix two samples by hand in the browser, and see what a model makes of the way between them",
    "methods": "list the mixing methods, or what can be mixed in each architecture",
    "check": "try at which places of a model its rows are mixed rightly",
}
_EVAL_BATCH_SIZE = 128
_PLAIN = ("methods", "check")  # commands that take no settings
_EPILOG = """examples:
  hf-mixup train recipes/configs/emoji_image.yaml --method cutmix --output_dir runs/cutmix
  hf-mixup compare recipes/configs/emoji_image.yaml --methods none,mixup,mixup:alpha=0.2 --seeds 3
  hf-mixup evaluate runs/cutmix --suite calibration,corruption,ood --tta flip
  hf-mixup evaluate runs/comparison --suite corruption adversarial --severities 1 3 5
  hf-mixup sweep recipes/configs/emoji_image.yaml --methods mixup cutmix --trials 20
  hf-mixup preview recipes/configs/emoji_image.yaml --method mixup --output preview.png
  hf-mixup playground recipes/configs/emoji_image.yaml --model runs/cutmix
  hf-mixup check bert --method manifold
"""
_USER_ERRORS = (ValueError, OSError, ImportError)  # the messages of these say what to change; others are bugs


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 2 for bad input, 1 for an internal error, 130 after Ctrl-C.

    Args:
        argv: the arguments without the program's name (default: the process's own).

    Raises:
        SystemExit: after `--help` or `--version`.

    >>> main(["methods", "--markdown"])
    | name | method | blends | paper |
    ...
    0
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        command, rest = _command(arguments)
        return command(rest) or 0
    except KeyboardInterrupt as interrupt:
        print(f"interrupted{f': {interrupt}' if str(interrupt) else ''}", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - the last line of defence: a message instead of a traceback
        if debug:
            traceback.print_exc()
        text = " ".join(str(error).split())
        if isinstance(error, _USER_ERRORS):
            print(f"error: {text}", file=sys.stderr)
            return 2
        print(f"error: {type(error).__name__}: {text} (--debug shows where)", file=sys.stderr)
        return 1


def _command(arguments: list[str]) -> tuple[Callable[[list[str]], int | None], list[str]]:
    from hf_mixup.utils.suggest import did_you_mean

    if not arguments or arguments[0].startswith("-"):
        _top_parser().parse_args(arguments or ["--help"])
        raise ValueError(f"name a command: {', '.join(_COMMANDS)}")
    name, rest = arguments[0], arguments[1:]
    if name not in _COMMANDS:
        raise ValueError(f"{name!r} is no command: {did_you_mean(name, _COMMANDS)}")
    if "-h" in rest or "--help" in rest:
        _help(name)
        raise SystemExit(0)
    commands: dict[str, Callable[[list[str]], int | None]] = {
        **{"train": _train, "compare": _compare, "sweep": _sweep, "evaluate": _evaluate},
        **{"preview": _preview, "playground": _playground, "methods": _methods, "check": _check},
    }
    return commands[name], rest


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(message)


def _top_parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:12}{text}" for name, text in _COMMANDS.items())
    parser = _Parser(
        prog="hf-mixup",
        usage="hf-mixup COMMAND [CONFIG] [--field value ...]",
        description=f"Mixup-style training for Hugging Face models.\n\ncommands:\n{commands}",
        epilog=f"{_EPILOG}\n`hf-mixup COMMAND --help` lists the settings of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hf-mixup {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (any command)")
    return parser


def _help(name: str) -> None:
    """Print a command's settings, read off the dataclasses; those of TrainingArguments would load transformers."""
    plain, first = name in _PLAIN, "CHECKPOINT " if name == "evaluate" else ""
    parser = _Parser(
        prog=f"hf-mixup {name}",
        usage=None if plain else f"hf-mixup {name} {first}[CONFIG] [--field value ...]",
        description=f"{_COMMANDS[name].capitalize()}.{_CHECKPOINT if first else ''}{'' if plain else _CONFIG}",
        epilog="" if plain else "Also every field of transformers.TrainingArguments, e.g. --num_train_epochs 3.",
        allow_abbrev=False,
    )
    if plain:
        {"methods": _add_tables, "check": _add_model}[name](parser)
    else:
        _add_settings(parser, name)
    parser.print_help()


def _add_settings(parser: argparse.ArgumentParser, name: str) -> None:
    from hf_mixup.engine.config import MixupConfig
    from hf_mixup.experiments.compare.arguments import CompareArguments
    from hf_mixup.experiments.sweep.arguments import SweepArguments
    from hf_mixup.experiments.tasks import TaskArguments

    if name == "preview":
        _add_output(parser)
    if name == "playground":
        _add_place(parser)
    groups = [("task", TaskArguments), ("mixing", MixupConfig)]
    if name == "compare":
        groups.insert(0, ("comparison", CompareArguments))
    if name == "sweep":
        groups.insert(0, ("sweep", SweepArguments))
    if name == "evaluate":
        from hf_mixup.experiments.evaluate.arguments import EvaluateArguments

        parser.add_argument("--output_dir", metavar="str", help="Folder for the results [CHECKPOINT/evaluation]")
        groups = [("evaluation", EvaluateArguments), groups[0]]
    for title, dataclass in groups:
        group = parser.add_argument_group(title)
        kinds = get_type_hints(dataclass)
        for field in fields(dataclass):
            if name == "playground" and field.name == "model":
                continue  # its own says more
            group.add_argument(f"--{field.name}", metavar=_metavar(kinds[field.name]), help=_help_text(field))
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _metavar(kind: Any) -> str:
    parts = [part for part in get_args(kind) if part is not NoneType]
    if get_origin(kind) is Literal:
        return "|".join(map(str, parts))
    if get_origin(kind) is list:
        return f"{_metavar(parts[0])} ..."
    if parts:  # a union
        return "json" if dict in parts else _metavar(parts[0])
    return "true|false" if kind is bool else kind.__name__


def _help_text(field: Field[object]) -> str:
    text = str(field.metadata.get("help", "")).replace("%", "%%")
    shown = field.default is not MISSING and field.default is not None
    return f"{text} [{field.default}]" if shown else text


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("preview.png"), help="PNG file to write [preview.png]")


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", help="trained model: a folder that train or compare left (needs no CONFIG then), or a Hub name"
    )
    parser.add_argument("--port", type=int, help="port of this machine to serve the page at [the first free from 7860]")


def _add_tables(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--models", action="store_true", help="print what can be mixed in each architecture")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="checkpoint (folder or Hub name), or model type: a tiny model of it is tried")
    parser.add_argument("--method", help="method to try [those for inputs or embeddings, and for hidden layers]")
    parser.add_argument("--family", help="what the model is trained for, e.g. token-classification [the model's class]")


def _look_ahead(arguments: Sequence[str], *flags: str) -> None:
    """Refuse a configuration file that cannot be read, and paths in it or in these flags that are not there.

    Commands do it first: what they need beside takes seconds to load.
    """
    from hf_mixup.experiments.tasks.paths import check_paths
    from hf_mixup.utils.files import read_config

    values, rest = {}, list(arguments)
    if rest and not rest[0].startswith("-"):
        values = read_config(Path(rest.pop(0)))
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for flag in flags:
        parser.add_argument(f"--{flag}", nargs="?", const=None)
    named, _ = parser.parse_known_args(rest)
    values |= vars(named)
    check_paths({flag: values[flag] for flag in flags if flag in values})


def _train(arguments: list[str]) -> None:
    _look_ahead(arguments, "dataset", "model", "output_dir", "resume_from_checkpoint")
    from hf_mixup.engine.config import MixupConfig
    from hf_mixup.experiments.tasks import TaskArguments, parse_settings

    task, mixup, args = parse_settings([TaskArguments, MixupConfig, _training_arguments()], arguments)
    from hf_mixup.experiments.tasks.train import train

    train(task, mixup, args)


def _compare(arguments: list[str]) -> None:
    _look_ahead(arguments, "dataset", "model", "output_dir")
    from hf_mixup.engine.config import SharedConfig
    from hf_mixup.experiments.compare.arguments import CompareArguments
    from hf_mixup.experiments.tasks import TaskArguments, parse_settings

    types = [CompareArguments, TaskArguments, SharedConfig, _training_arguments()]
    comparison, task, mixup, args = parse_settings(types, arguments, section="compare")
    from hf_mixup.experiments.compare.run import compare

    compare(comparison, task, mixup, args, command=_again("compare", arguments))


def _again(command: str, arguments: list[str]) -> str:
    """Return what starts a command again: with a script that registers a method of its own, the script."""
    script = Path(sys.argv[0])
    own = script.suffix == ".py" and script.name not in ("cli.py", "__main__.py")
    return shlex.join([*(("python", script.name) if own else ("hf-mixup",)), command, *arguments])


def _evaluate(arguments: list[str]) -> None:
    from hf_mixup.engine.config import SharedConfig
    from hf_mixup.experiments.compare.store import is_comparison
    from hf_mixup.experiments.evaluate.arguments import EvaluateArguments
    from hf_mixup.experiments.tasks import TaskArguments, parse_settings
    from hf_mixup.experiments.tasks.saved import check_folder

    if not arguments or arguments[0].startswith("-"):
        raise ValueError(
            "name the folder of a model or of a comparison first: hf-mixup evaluate CHECKPOINT [CONFIG] --suite ..."
        )
    checkpoint, *rest = arguments
    # A configuration names the folder of the training there, and that is not where an evaluation goes.
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output_dir", type=Path)
    own, rest = parser.parse_known_args(rest)
    several = is_comparison(checkpoint)
    if not several:
        check_folder(checkpoint)
    _look_ahead(rest, "dataset")
    defaults: dict[str, object] = {"per_device_eval_batch_size": _EVAL_BATCH_SIZE}
    if not rest or rest[0].startswith("-"):
        folder = Path(checkpoint)
        if several:
            from hf_mixup.experiments.evaluate.stored_runs import stored_runs

            folder = next(run.folder for run in stored_runs(folder) if run.folder is not None)
        defaults |= _kept_task(folder, rest)
    types = [EvaluateArguments, TaskArguments, SharedConfig, _training_arguments()]
    evaluation, task, _, args = parse_settings(types, rest, section="evaluate", defaults=defaults)
    if several:
        from hf_mixup.experiments.evaluate.every_run import evaluate_comparison

        evaluate_comparison(Path(checkpoint), evaluation, task, args, own.output_dir)
        return
    from hf_mixup.experiments.evaluate.run import evaluate

    evaluate(checkpoint, evaluation, task, args, own.output_dir)


def _kept_task(folder: Path, arguments: list[str]) -> dict[str, object]:
    """Return the task that a folder's model was trained for, which flags may name as well."""
    from hf_mixup.experiments.tasks.saved import saved_task

    kept, seed = saved_task(folder)
    if seed is None and not {"--task", "--dataset"} & {each.partition("=")[0] for each in arguments}:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no such folder of a model: {folder}; for one on the Hub name a CONFIG, or --task and --dataset"
            )
        raise ValueError(f"{folder} does not tell its task and data: name a CONFIG, or --task and --dataset")
    return kept


def _kept_mixing(folder: Path) -> dict[str, object]:
    """Return how a folder's model was mixed; {} if it was not."""
    from hf_mixup.engine.config import CONFIG_NAME, MixupConfig
    from hf_mixup.experiments.tasks.settings import settings_of

    return settings_of(MixupConfig.from_pretrained(folder)) if (folder / CONFIG_NAME).is_file() else {}


def _sweep(arguments: list[str]) -> None:
    _look_ahead(arguments, "dataset", "model", "output_dir")
    from hf_mixup.engine.config import SharedConfig
    from hf_mixup.experiments.sweep.arguments import SweepArguments
    from hf_mixup.experiments.tasks import TaskArguments, parse_settings

    types = [SweepArguments, TaskArguments, SharedConfig, _training_arguments()]
    sweeping, task, mixup, args = parse_settings(types, arguments, section="sweep")
    from hf_mixup.experiments.sweep.run import sweep

    sweep(sweeping, task, mixup, args, command=_again("sweep", arguments))


def _preview(arguments: list[str]) -> None:
    from hf_mixup.engine.config import MixupConfig
    from hf_mixup.experiments.tasks import TaskArguments, parse_settings

    parser = _Parser(add_help=False, allow_abbrev=False)
    _add_output(parser)
    own, rest = parser.parse_known_args(arguments)
    _look_ahead(rest, "dataset", "model")
    task, mixup, args = parse_settings([TaskArguments, MixupConfig, _training_arguments()], rest)
    from hf_mixup.experiments.tasks.preview import preview

    print(preview(task, mixup, args, own.output))


def _playground(arguments: list[str]) -> None:
    from hf_mixup.engine.config import SharedConfig
    from hf_mixup.experiments.tasks import TaskArguments, parse_settings
    from hf_mixup.experiments.tasks.saved import check_folder

    parser = _Parser(add_help=False, allow_abbrev=False)
    _add_place(parser)
    own, rest = parser.parse_known_args(arguments)
    _look_ahead(rest, "dataset")
    if own.model is not None:
        check_folder(own.model)
    defaults: dict[str, object] = {}
    if own.model is not None and (not rest or rest[0].startswith("-")):
        folder = Path(own.model)
        defaults = {**_kept_mixing(folder), **_kept_task(folder, rest)}
    types = [TaskArguments, SharedConfig, _training_arguments()]
    task, mixup, args = parse_settings(types, rest, defaults=defaults)
    from hf_mixup.experiments.playground.run import playground

    playground(task, mixup, args, own.model, own.port)


def _methods(arguments: list[str]) -> None:
    parser = _Parser(add_help=False, allow_abbrev=False)
    _add_tables(parser)
    chosen = parser.parse_args(arguments)
    if chosen.models:
        from hf_mixup.testing.survey.table import COMMITTED

        print(COMMITTED.read_text(encoding="utf-8"), end="")
        return
    from hf_mixup.methods import METHODS

    rows = [(name, method.title, method.blends, method.paper) for name, method in METHODS.items()]
    head = ("name", "method", "blends", "paper")
    if chosen.markdown:
        for cells in (head, ("---",) * 4, *((f"`{row[0]}`", *row[1:]) for row in rows)):
            print(f"| {' | '.join(cells)} |")
        return
    _show(head, rows)


def _check(arguments: list[str]) -> int:
    """Return 0 if the method (or any, where none is named) is exact at all its places, else 2."""
    parser = _Parser(prog="hf-mixup check", add_help=False, allow_abbrev=False)
    _add_model(parser)
    chosen = parser.parse_args(arguments)
    from hf_mixup.experiments.tasks.saved import check_there

    check_there(chosen.model)
    from hf_mixup.methods import METHODS, unknown

    if chosen.method is not None and chosen.method not in METHODS:
        raise ValueError(f"method={chosen.method!r}: {unknown(chosen.method)}")
    from hf_mixup.experiments.check import EXACT, load, short_reason, try_model

    family, model = load(chosen.model, chosen.family)
    found = list(try_model(family, model, chosen.method))
    print(f"{type(model).__name__}, {family}")
    _show(("method", "depth", "found"), [(each.method, each.depth, short_reason(each.verdict)) for each in found])
    by_method: dict[str, list[bool]] = {}
    for each in found:
        by_method.setdefault(each.method, []).append(each.verdict == EXACT)
    return 0 if any(map(all, by_method.values())) else 2


def _show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # unlike a string, it shows "[B, C]" as it is

    table = Table(*head)
    table.columns[0].no_wrap = True  # names are there to be copied
    for row in rows:
        table.add_row(*(Text(cell.replace("`", "")) for cell in row))
    Console().print(table)


def _training_arguments() -> type:
    from transformers import TrainingArguments

    return TrainingArguments


if __name__ == "__main__":
    sys.exit(main())
