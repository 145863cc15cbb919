"""The help of commands: the usual settings on one screen, those of one method or task, or all.

Read off the dataclasses without torch, unless methods are asked for.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import MISSING, Field, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hf_mixup.experiments.tasks.arguments import TASKS, TaskArguments, tasks_with
from hf_mixup.utils.suggest import did_you_mean

ALL = "all"
Setting = tuple[str, type, str]
"""A name, a dataclass that declares it, and what is said beside its help."""
_DATA = ("task", "dataset", "max_train_samples", "model", "model_type")
# Of methods and of transformers.TrainingArguments, which take seconds to load: metavar and help.
_MIXING = {
    "method": (
        "NAME",
        "Mixing method, or the controls none and smoothing; `hf-mixup methods` lists them. (default: mixup)",
    ),
    "alpha": ("NUMBER", "lam ~ Beta(alpha, alpha), the share of the sample itself; 0 mixes nothing. (default: 1.0)"),
    "prob": ("NUMBER", "Chance that a batch is mixed. (default: 1.0)"),
    "label_smoothing": ("NUMBER", "Smoothing of class labels, before they are mixed. (default: 0.0)"),
}
_TRAINING = {
    "output_dir": ("DIR", "Folder for model, metrics and model card."),
    "num_train_epochs": ("NUMBER", "Passes over the training samples. (default: 3)"),
    "max_steps": ("NUMBER", "Steps of training, instead of epochs."),
    "per_device_train_batch_size": ("NUMBER", "Samples a step. (default: 8)"),
    "learning_rate": ("NUMBER", "Learning rate at its highest. (default: 5e-5)"),
    "seed": ("NUMBER", "Seed of weights, order of the samples and draws. (default: 42)"),
}

_LIST = str.maketrans({"[": None, "]": None, ",": " "})


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and leaves line breaks of the text before and after the settings alone."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, **{"max_help_position": 38, "width": 118, **settings})

    def _get_help_string(self, action: argparse.Action) -> str:
        """Return the text of a setting with its default: once, as it would be typed, and not where there is none."""
        text = action.help or ""
        if action.default in (None, False, [], argparse.SUPPRESS) or "default:" in text:
            return text
        values = action.default if isinstance(action.default, list) else [action.default]
        return f"{text} (default: {' '.join(map(str, values)).replace('%', '%%')})"


def add_help(
    parser: argparse.ArgumentParser, command: str, own: Sequence[type], topic: str | None, usual: Collection[str]
) -> None:
    """Give a parser what the help of a command shows.

    Args:
        own: dataclasses of settings that this command alone has.
        topic: a task, a method or "all" (another is refused, with the nearest one); None for the usual settings.
        usual: settings of `own`, and groups of others ("mixing", "training"), that are usual.
    """
    if topic not in (None, ALL):
        parser.description = f"Settings of {topic}, beside those that `hf-mixup {command} --help` shows."
        kind, names = _topic(str(topic))
        if begin := getattr(kind, "begin_with", ""):
            flags = begin.replace("=", " ").replace(":", " --").translate(_LIST)
            parser.description += f"\nBegin with --{flags}, in a comparison with {topic}:{begin}."
        _add_group(parser, str(topic), [(name, kind, "") for name in names])
        return
    for kind in own:
        names = [name for name in _names(kind) if topic == ALL or name in usual]
        _add_group(parser, command, [(name, kind, "") for name in names])
    if topic == ALL:
        for title, settings in _everything().items():
            _add_group(parser, title, settings)
        return
    parser.epilog = _more(command)
    _add_group(parser, "data and model", [(name, TaskArguments, "") for name in _DATA])
    for title, shown in {"mixing": _MIXING, "training": _TRAINING}.items():
        if title in usual:
            group = parser.add_argument_group(title)
            for name, (metavar, text) in shown.items():
                group.add_argument(f"--{name}", metavar=metavar, help=text, default=argparse.SUPPRESS)


def own_names(kind: type[TaskArguments]) -> list[str]:
    """Return the settings of a task that not every task has."""
    shared = _names(TaskArguments)
    return [name for name in _names(kind) if name not in shared]


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind) if field.init]


def _topic(name: str) -> tuple[type, list[str]]:
    if name in TASKS:
        return TASKS[name], own_names(TASKS[name])
    from hf_mixup.methods import METHODS

    if name not in METHODS:
        raise ValueError(f"--help {name}: no such task or method: {did_you_mean(name, [*TASKS, *METHODS, ALL])}")
    return METHODS[name], _names(METHODS[name])


def _everything() -> dict[str, list[Setting]]:
    """Return all settings, each once; torch and transformers are loaded for them."""
    from transformers import TrainingArguments

    from hf_mixup.experiments.mixing import all_settings

    of_tasks = {name: kind for kind in TASKS.values() for name in own_names(kind)}
    return {
        "every task": [(name, TaskArguments, "") for name in _names(TaskArguments)],
        "some tasks": [(name, kind, f" [{', '.join(tasks_with(name))}]") for name, kind in of_tasks.items()],
        "mixing": [(name, kind, "") for name, (kind, _) in all_settings().items()],
        "training": [(name, TrainingArguments, "") for name in _names(TrainingArguments)],
    }


def _more(command: str) -> str:
    tasks = textwrap.fill(", ".join(TASKS), 116, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return (
        "more settings:\n"
        f"  hf-mixup {command} --help TASK      those of a task, such as image-classification\n"
        f"  hf-mixup {command} --help METHOD    those of a method, such as cutmix; `hf-mixup methods` lists them\n"
        f"  hf-mixup {command} --help all       every setting, with those of transformers.TrainingArguments\n\n"
        f"tasks:\n{tasks}"
    )


def _add_group(parser: argparse.ArgumentParser, title: str, settings: Iterable[Setting]) -> None:
    group = parser.add_argument_group(title)
    for name, kind, note in settings:
        declared: Any = kind
        field = next(each for each in fields(declared) if each.name == name)
        text = str(field.metadata.get("help", "")).replace("%", "%%") + note
        metavar = _metavar(get_type_hints(kind)[name])
        group.add_argument(f"--{name}", metavar=metavar, help=text or " ", default=_default(field))


def _default(field: Field[Any]) -> Any:
    """Return the default that help shows; none where that is nothing, or the text tells it."""
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    told = "default" in field.metadata.get("help", "")
    return argparse.SUPPRESS if told or default in (None, MISSING, "") else default


def _metavar(kind: Any) -> str:
    parts = [part for part in get_args(kind) if part is not NoneType]
    if get_origin(kind) is Literal:
        return "|".join(map(str, parts))
    if get_origin(kind) is list:
        return f"{_metavar(parts[0])} ..."
    if parts:
        return "JSON" if dict in parts else _metavar(parts[0])
    return {bool: "true|false", str: "TEXT", int: "NUMBER", float: "NUMBER"}.get(kind, "VALUE")
