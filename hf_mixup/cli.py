"""The `hf-mixup` command. torch and transformers load inside the subcommands, so that help is quick."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from hf_mixup import __version__

_EVAL_BATCH_SIZE = 128
_EPILOG = """examples:
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
        raise ValueError(f"name a command: {', '.join(_COMMANDS)}")
    name, rest = arguments[0], arguments[1:]
    if name not in _COMMANDS:
        from hf_mixup.utils.suggest import did_you_mean

        raise ValueError(f"{name!r} is no command: {did_you_mean(name, _COMMANDS)}")
    asked = next((index for index, argument in enumerate(rest) if argument in _HELP), None)
    if asked is not None:
        _help(name, next((each for each in rest[asked + 1 :] if not each.startswith("-")), None))
        raise SystemExit(0)
    return _COMMANDS[name].run(rest)


class _Parser(argparse.ArgumentParser):
    """A parser of flags that raises instead of leaving the process, and takes no shortened flags."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"add_help": False, "allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _top_parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:12}{command.text}" for name, command in _COMMANDS.items())
    parser = _Parser(
        prog="hf-mixup",
        usage="hf-mixup COMMAND [CONFIG] [--setting value ...]",
        description=f"Mixup-style training for Hugging Face models.\n\ncommands:\n{commands}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=True,
    )
    parser.add_argument("--version", action="version", version=f"hf-mixup {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (any command)")
    return parser


def _help(name: str, topic: str | None) -> None:
    """Print the help of a command: its usual settings, those of one task or method, or all."""
    from hf_mixup.experiments.tasks.help import ALL, Formatter, add_help

    command = _COMMANDS[name]
    parser = _Parser(
        prog=f"hf-mixup {name}",
        description=f"{command.text.capitalize()}.",
        formatter_class=Formatter,
        conflict_handler="resolve",
    )
    if command.usual is not None:
        parser.usage = f"hf-mixup {name} {command.first}[CONFIG] [--setting value ...]"
        about = f"{command.more}CONFIG is a YAML or JSON file of settings, or the name of a preset; flags override it."
        parser.description = f"{parser.description}\n{about}"
        add_help(parser, name, _own_settings(name), topic, command.usual)
    if topic in (None, ALL) and command.flags is not None:
        command.flags(parser)  # last, as some say more than the settings of the same name
    parser.print_help()


def _own_settings(name: str) -> list[type]:
    """Return the dataclass of settings that a command alone has, if it has one."""
    kinds = {"compare": "CompareArguments", "sweep": "SweepArguments", "evaluate": "EvaluateArguments"}
    if name not in kinds:
        return []
    return [getattr(import_module(f"hf_mixup.experiments.{name}.arguments"), kinds[name])]


def _look_ahead(name: str, arguments: Sequence[str], *paths: str) -> Path | None:
    """Refuse a configuration that cannot be read, flags by other names, and paths in `paths` that are not there.

    Commands do it first: what they need beside takes seconds to load.

    Returns:
        The configuration file, None if there is none.
    """
    from hf_mixup.experiments.tasks import TaskArguments
    from hf_mixup.experiments.tasks.paths import check_paths
    from hf_mixup.experiments.tasks.settings import read_section, refuse_other_spellings, split_config

    types = [*_own_settings(name), TaskArguments]  # those of mixing would load torch
    config, rest = split_config(arguments, types)
    values = {} if config is None else read_section(config, name)
    refuse_other_spellings([each.lstrip("-").partition("=")[0] for each in rest if each.startswith("--")], types)
    parser = _Parser(argument_default=argparse.SUPPRESS)
    for flag in paths:
        parser.add_argument(f"--{flag}", nargs="?", const=None)
    values |= vars(parser.parse_known_args(rest)[0])
    check_paths({flag: values[flag] for flag in paths if flag in values})
    return config


def _parse(
    name: str,
    arguments: Sequence[str],
    shared: bool,
    check: Callable[..., object] | None = None,
    **defaults: Any,
) -> tuple[Any, ...]:
    """Return the filled settings of a command: its own, the task's, how to mix, the Trainer's.

    Ours are read first, since the Trainer takes ten seconds to load, and read again beside its own.

    Args:
        shared: whether several methods share the settings of mixing, so that each reads some of them.
        check: is called with our settings, and raises for what does not fit.
    """
    from hf_mixup.engine.config import MixupConfig
    from hf_mixup.experiments.mixing import SharedSettings
    from hf_mixup.experiments.tasks import TaskArguments, parse_settings
    from hf_mixup.experiments.tasks.trainer_settings import trainer_settings

    ours = [*_own_settings(name), TaskArguments, SharedSettings if shared else MixupConfig]
    filled = parse_settings(ours, arguments, section=name, defaults=defaults, beside=trainer_settings())
    if check is not None:
        check(*filled)
    from transformers import TrainingArguments

    return parse_settings([*ours, TrainingArguments], arguments, section=name, defaults=defaults)


def _own_flags(
    add: Callable[[argparse.ArgumentParser], None], arguments: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags of a command that are no settings, and the other arguments."""
    parser = _Parser()
    add(parser)
    return parser.parse_known_args(arguments)


def _train(arguments: list[str]) -> None:
    config = _look_ahead("train", arguments, "dataset", "model", "output_dir", "resume_from_checkpoint")
    task, mixup, args = _parse("train", arguments, shared=False, **_start("train", config, arguments))
    from hf_mixup.experiments.tasks.train import train

    train(task, mixup, args)


def _compare(arguments: list[str]) -> None:
    config = _look_ahead("compare", arguments, "dataset", "model", "output_dir")
    start = _start("compare", config, arguments)
    comparison, task, mixup, args = _parse("compare", arguments, shared=True, check=_check_compare, **start)
    from hf_mixup.experiments.compare.run import compare

    compare(comparison, task, mixup, args, command=_again("compare", arguments))


def _start(name: str, config: Path | None, arguments: Sequence[str]) -> dict[str, Any]:
    """Return settings for a run that flags alone describe, and say so; none where a file does."""
    if config is not None:
        return {}
    if not arguments:
        raise ValueError(f"name a CONFIG or data: hf-mixup {name} emoji_image, or --task TASK --dataset FOLDER")
    from hf_mixup.experiments.tasks import TaskArguments
    from hf_mixup.experiments.tasks.presets import starting_point

    parser = _Parser()
    for flag in ("task", "dataset", "model", "model_type"):
        parser.add_argument(f"--{flag}")
    named = parser.parse_known_args(list(arguments))[0]
    data = named.task or TaskArguments.task, named.dataset or TaskArguments.dataset
    settings, told = starting_point(*data, checkpoint=bool(named.model or named.model_type))
    print(told)
    return settings


def _check_compare(comparison: Any, task: Any, mixup: Any) -> None:
    from hf_mixup.experiments.compare.variants import parse_variants
    from hf_mixup.experiments.tasks.arguments import PAIRS

    parse_variants(comparison.methods, mixup, paired=task.task == PAIRS)


def _sweep(arguments: list[str]) -> None:
    _look_ahead("sweep", arguments, "dataset", "model", "output_dir")
    sweeping, task, mixup, args = _parse("sweep", arguments, shared=True, check=_check_sweep)
    from hf_mixup.experiments.sweep.run import sweep

    sweep(sweeping, task, mixup, args, command=_again("sweep", arguments))


def _check_sweep(sweeping: Any, task: Any, mixup: Any) -> None:
    from hf_mixup.experiments.sweep.methods import swept_methods

    swept_methods(sweeping, mixup)


def _again(command: str, arguments: list[str]) -> str:
    """Return what starts a command again: with a script that registers a method of its own, the script."""
    script = Path(sys.argv[0])
    own = script.suffix == ".py" and script.name not in ("cli.py", "__main__.py")
    return shlex.join([*(("python", script.name) if own else ("hf-mixup",)), command, *arguments])


def _evaluate(arguments: list[str]) -> None:
    from hf_mixup.experiments.compare.store import is_comparison
    from hf_mixup.experiments.tasks.saved import check_folder

    if not arguments or arguments[0].startswith("-"):
        raise ValueError(
            "name the folder of a model or of a comparison first: hf-mixup evaluate CHECKPOINT [CONFIG] --suite ..."
        )
    checkpoint, *rest = arguments
    command = _again("evaluate", arguments)
    # A configuration names the folder of the training there, and that is not where an evaluation goes.
    own, rest = _own_flags(_add_evaluate, rest)
    several = is_comparison(checkpoint)
    if not several:
        check_folder(checkpoint)
    config = _look_ahead("evaluate", rest, "dataset")
    defaults: dict[str, Any] = {"per_device_eval_batch_size": _EVAL_BATCH_SIZE}
    if config is None:
        folder = Path(checkpoint)
        if several:
            from hf_mixup.experiments.evaluate.stored_runs import stored_runs

            folder = next(run.folder for run in stored_runs(folder) if run.folder is not None)
        defaults |= _saved_task(folder, rest)
    evaluation, task, _, args = _parse("evaluate", rest, shared=True, **defaults)
    if several:
        from hf_mixup.experiments.evaluate.every_run import evaluate_comparison

        evaluate_comparison(Path(checkpoint), evaluation, task, args, own.output_dir, command)
        return
    from hf_mixup.experiments.evaluate.run import evaluate

    evaluate(checkpoint, evaluation, task, args, own.output_dir, command)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output_dir",
        type=Path,
        metavar="DIR",
        help="Folder for the results (default: CHECKPOINT/evaluation).",
    )


def _saved_task(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Return the task that a folder's model was trained for, which flags may name as well."""
    from hf_mixup.experiments.tasks.saved import saved_task

    saved, seed = saved_task(folder)
    if seed is None and not {"--task", "--dataset"} & {each.partition("=")[0] for each in arguments}:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no such folder of a model: {folder}; for one on the Hub name a CONFIG, or --task and --dataset"
            )
        raise ValueError(f"{folder} does not tell its task and data: name a CONFIG, or --task and --dataset")
    return saved


def _saved_mixing(folder: Path) -> dict[str, Any]:
    """Return how a folder's model was mixed; {} if it was not."""
    from hf_mixup.engine.config import CONFIG_NAME, MixupConfig

    if not (folder / CONFIG_NAME).is_file():
        return {}
    config = MixupConfig.from_pretrained(folder)
    return {"method": config.method, **config.changed}


def _preview(arguments: list[str]) -> None:
    own, rest = _own_flags(_add_preview, arguments)
    _look_ahead("preview", rest, "dataset", "model")
    task, mixup, args = _parse("preview", rest, shared=False)
    from hf_mixup.experiments.tasks.preview import preview

    print(preview(task, mixup, args, own.output))


def _add_preview(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", default=Path("preview.png"), help="PNG file to write.")


def _playground(arguments: list[str]) -> None:
    from hf_mixup.experiments.tasks.saved import check_folder

    own, rest = _own_flags(_add_playground, arguments)
    model, port = getattr(own, "model", None), getattr(own, "port", None)
    config = _look_ahead("playground", rest, "dataset")
    defaults: dict[str, Any] = {}
    if model is not None:
        check_folder(model)
        if config is None:
            defaults = {**_saved_mixing(Path(model)), **_saved_task(Path(model), rest)}
    task, mixup, args = _parse("playground", rest, shared=True, **defaults)
    from hf_mixup.experiments.playground.run import playground

    playground(task, mixup, args, model, port)


def _add_playground(parser: argparse.ArgumentParser) -> None:
    text = "Trained model: a folder that train or compare left (it needs no CONFIG then), or a Hub name."
    parser.add_argument("--model", default=argparse.SUPPRESS, metavar="TEXT", help=text)
    text = "Port of this machine to serve the page at (default: the first free one from 7860)."
    parser.add_argument("--port", type=int, default=argparse.SUPPRESS, metavar="NUMBER", help=text)


def _methods(arguments: list[str]) -> None:
    parser = _Parser()
    _add_methods(parser)
    chosen = parser.parse_args(arguments)
    if chosen.models:
        print(_survey(), end="")
        return
    from hf_mixup.experiments.listing import listed

    rows = listed(chosen.words)
    if not rows:
        raise ValueError(f"no method fits {' '.join(chosen.words)!r}: `hf-mixup methods` lists all")
    if chosen.json:
        print(json.dumps(rows, indent=1))
    elif chosen.markdown:
        cells = [{**row, "name": f"`{row['name']}`", "begin with": f"`{row['begin with']}`"}.values() for row in rows]
        for each in (rows[0], ("---",) * len(rows[0]), *cells):
            print(f"| {' | '.join(each)} |")
    else:
        for row in rows:
            about = textwrap.fill(row["blends"].replace("`", ""), 76, initial_indent="    ", subsequent_indent="    ")
            print(f"{row['name']}  {row['method']}  {row['paper']}\n{about}\n    begin with {row['begin with']}")


def _survey() -> str:
    """Return the table of architectures; a clone of the repository has it, an installed package does not."""
    table = Path(__file__).with_name("testing") / "survey" / "ARCHITECTURES.md"
    if not table.is_file():
        raise FileNotFoundError(
            "the table of architectures is not installed: read "
            "https://github.com/hf-mixup/hf-mixup/blob/main/hf_mixup/testing/survey/ARCHITECTURES.md, or try a model "
            "with `hf-mixup check`"
        )
    return table.read_text(encoding="utf-8")


def _add_methods(parser: argparse.ArgumentParser) -> None:
    from hf_mixup.experiments.listing import MODALITIES

    text = f"show those for a modality ({', '.join(MODALITIES)}), or with a word in their description"
    parser.add_argument("words", nargs="*", metavar="WORD", help=text)
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--models", action="store_true", help="print what can be mixed in each architecture")


def _init(arguments: list[str]) -> None:
    parser = _Parser(prog="hf-mixup init")
    _add_init(parser)
    chosen = vars(parser.parse_args(arguments))
    output = chosen.pop("output")
    from hf_mixup.experiments.init import begin

    print(begin({name: value for name, value in chosen.items() if value is not None}, output))


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", help="what to train, e.g. image-classification (asked for, if it is left out)")
    parser.add_argument("--dataset", help="a Hub name, a folder, a CSV, JSON or Parquet file (asked for)")
    parser.add_argument("--model", help="a checkpoint (default: a new, small model, or MiniLM for texts)")
    parser.add_argument("--method", help="mixing method (default: that of the task's preset)")
    parser.add_argument("--column", action="append", metavar="NAME=COLUMN", help="e.g. label_column=species")
    parser.add_argument("--output", type=Path, metavar="FILE", default=Path("mixup.yaml"), help="YAML file to write")


def _presets(arguments: list[str]) -> None:
    parser = _Parser(prog="hf-mixup presets")
    _add_presets(parser)
    chosen = parser.parse_args(arguments)
    from hf_mixup.experiments.tasks.presets import copy_preset, presets_table

    if chosen.copy is None:
        _show(("preset", "task", "what it is"), presets_table())
        return
    print(copy_preset(chosen.copy, chosen.output or Path(f"{chosen.copy}.yaml")))


def _add_presets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--copy", metavar="NAME", help="write this preset into a file, to be changed")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the file for --copy (default: NAME.yaml)")


def _check(arguments: list[str]) -> int:
    """Return 0 if the method (or any, where none is named) is exact at every depth, else 2."""
    parser = _Parser(prog="hf-mixup check")
    _add_check(parser)
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
    print(_WHAT_CHECK_SAYS)
    by_method: dict[str, list[bool]] = {}
    for each in found:
        by_method.setdefault(each.method, []).append(each.verdict == EXACT)
    return 0 if any(map(all, by_method.values())) else 2


_WHAT_CHECK_SAYS = """exact: two samples were exchanged, and with lam = 0 each had its partner's outputs.
Anything else is the error with which training would stop. Depth 0 is before the first block,
1 after it, and so on; `manifold` draws among the depths that are exact."""


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="checkpoint (folder or Hub name), or model type: a tiny model of it is tried")
    text = "method to try (default: one for inputs or embeddings, and one for hidden layers)"
    parser.add_argument("--method", help=text)
    text = "what the model is trained for, e.g. token-classification (default: the model's class)"
    parser.add_argument("--family", help=text)


def _show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # unlike a string, it shows "[B, C]" as it is

    table = Table(*head)
    table.columns[0].no_wrap = True  # names are there to be copied
    for row in rows:
        table.add_row(*(Text(cell.replace("`", "")) for cell in row))
    Console().print(table)


@dataclass(frozen=True)
class _Command:
    """One subcommand.

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


_MIXING, _TRAINING = "mixing", "training"
_COMMANDS = {
    "train": _Command(
        "train one model and leave it, its metrics and its model card in the output folder",
        _train,
        usual=(_MIXING, _TRAINING),
    ),
    "compare": _Command(
        "train with several methods and seeds, and compare them in a table and images",
        _compare,
        usual=("methods", "seeds", "fractions", "noises", "select_by", "ray", _MIXING, _TRAINING),
    ),
    "sweep": _Command(
        "try methods, alpha, prob and layers, and leave the best settings as a file for train",
        _sweep,
        usual=(
            *("methods", "alphas", "probs", "layer_sets", "trials", "control_seeds", "select_by", "storage", "ray"),
            *(_MIXING, _TRAINING),
        ),
    ),
    "evaluate": _Command(
        "score trained classifiers under shift, corruption, noise and attack: tables, images, model card",
        _evaluate,
        _add_evaluate,
        usual=("suite", "tta", "corruptions", "severities", "adversarial_eps", "ood_dataset", "baseline"),
        first="CHECKPOINT ",
        more="CHECKPOINT is a folder with a model, or its name on the Hub, and comes first; what train and compare\n"
        "left knows its data, others need a CONFIG. Of the folder of a comparison all runs are scored, and compared.\n",
    ),
    "preview": _Command(
        "draw a grid of mixed samples with their weights and labels", _preview, _add_preview, (_MIXING,)
    ),
    "playground": _Command(
        "mix two samples by hand in the browser, and see what a model makes of the way between them",
        _playground,
        _add_playground,
        (_MIXING,),
    ),
    "methods": _Command("list the mixing methods, or what can be mixed in each architecture", _methods, _add_methods),
    "init": _Command("write a configuration for your data, whose first samples it shows", _init, _add_init),
    "presets": _Command("list the configurations that come with the package, or copy one", _presets, _add_presets),
    "check": _Command("try at which depths of a model its samples are mixed correctly", _check, _add_check),
}

if __name__ == "__main__":
    sys.exit(main())
