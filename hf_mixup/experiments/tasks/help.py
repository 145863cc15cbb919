"""The help of commands: the usual settings on one screen, those of one method or task, or all.

Read off the dataclasses without torch, unless methods are asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hf_mixup.experiments.tasks.arguments import TASKS, TaskArguments
from hf_mixup.utils.suggest import did_you_mean

ALL = "all"
Group = tuple[str, type, Iterable[str] | None]
"""A title, a dataclass, and the names of its fields that are shown (None: all)."""
_USUAL: list[Group] = [
    ("data and model", TaskArguments, ("task", "dataset", "max_train_samples", "model", "model_type")),
]
_MIXING = {  # settings of most methods, and of the loss; they are read off their dataclasses where torch is loaded
    "method": ("NAME", "The mixing method; `hf-mixup methods` lists them. (default: mixup)"),
    "alpha": ("NUMBER", "lam ~ Beta(alpha, alpha); 0 switches mixing off. (default: 1.0)"),
    "prob": ("NUMBER", "Chance that a batch is mixed. (default: 1.0)"),
    "label_smoothing": ("NUMBER", "Label smoothing, applied before mixing. (default: 0.0)"),
    "off_epochs": ("NUMBER", "No mixing in this many last epochs. (default: 0.0)"),
}
_TRAINING = {  # a field of transformers.TrainingArguments, which takes seconds to load: metavar and help
    "output_dir": ("DIR", "Folder for model, metrics and model card."),
    "num_train_epochs": ("NUMBER", "Passes over the training rows. (default: 3)"),
    "max_steps": ("NUMBER", "Steps of training, instead of epochs."),
    "per_device_train_batch_size": ("NUMBER", "Samples a step. (default: 8)"),
    "learning_rate": ("NUMBER", "Learning rate at its highest. (default: 5e-5)"),
    "seed": ("NUMBER", "Seed of weights, order of the samples and draws. (default: 42)"),
}


class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and leaves line breaks of the text before and after the settings alone."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, **{"max_help_position": 38, "width": 118, **settings})


def add_help(
    parser: argparse.ArgumentParser, command: str, own: Sequence[Group], topic: str | None, usual: Sequence[str]
) -> None:
    """Give a parser what the help of a command shows.

    Args:
        own: groups of settings that this command alone has.
        topic: a task, a method or "all"; None for the usual settings.
        usual: titles of the groups of usual settings that the command has.

    Raises:
        ValueError: for another topic, with the nearest one.
    """
    if topic is None:
        groups = [*own, *(group for group in _USUAL if group[0] in usual)]
        parser.epilog = _more(command)
    elif topic == ALL:
        groups = [*own, ("every task", TaskArguments, None)]
        groups += [(f"task {name}", kind, own_names(kind)) for name, kind in TASKS.items()]
        groups += [*_all_mixing(), ("training", _training_arguments(), None)]
    else:
        groups = [_topic(topic)]
        parser.description = f"Settings of {topic}, beside those that `hf-mixup {command} --help` shows."
    for title, kind, names in groups:
        _add_group(parser, title, kind, names)
    for title, told in (("mixing", _MIXING), ("training", _TRAINING)):
        if topic is None and title in usual:
            group = parser.add_argument_group(title)
            for name, (metavar, text) in told.items():
                group.add_argument(f"--{name}", metavar=metavar, help=text, default=argparse.SUPPRESS)


def own_names(kind: type[TaskArguments]) -> list[str]:
    """Return the settings of a task that not every task has."""
    shared = {field.name for field in fields(TaskArguments)}
    return [field.name for field in fields(kind) if field.name not in shared]


def _all_mixing() -> list[Group]:
    """Return the settings that most methods have, those of the engine, and then the others of each method."""
    from hf_mixup.engine.config import LossSettings, PairSettings, Schedule, SelfCheck
    from hf_mixup.methods import METHODS, Blend, settings_of

    groups: list[Group] = [("mixing, most methods", Blend, None)]
    groups += [("loss", LossSettings, None), ("schedule", Schedule, None), ("pairs", PairSettings, None)]
    groups.append(("check", SelfCheck, None))
    shared = settings_of(Blend)
    for name, kind in METHODS.items():
        own = [each for each in settings_of(kind) if each not in shared]
        groups += [(f"method {name}", kind, own)] if own else []
    return groups


def _topic(name: str) -> Group:
    if name in TASKS:
        return f"task {name}", TASKS[name], own_names(TASKS[name])
    from hf_mixup.methods import METHODS

    if name not in METHODS:
        raise ValueError(f"--help {name}: no such task or method: {did_you_mean(name, [*TASKS, *METHODS, ALL])}")
    return f"method {name}, {METHODS[name].title}", METHODS[name], None


def _more(command: str) -> str:
    tasks = "\n".join(f"  {', '.join(names)}" for names in (list(TASKS)[:6], list(TASKS)[6:]))
    return (
        "more settings:\n"
        f"  hf-mixup {command} --help TASK      those of a task, such as image-classification\n"
        f"  hf-mixup {command} --help METHOD    those of a method, such as cutmix; `hf-mixup methods` lists them\n"
        f"  hf-mixup {command} --help all       every setting, with those of transformers.TrainingArguments\n\n"
        f"tasks:\n{tasks}"
    )


def _add_group(parser: argparse.ArgumentParser, title: str, kind: type, names: Iterable[str] | None) -> None:
    declared: Any = kind
    own = {field.name: field for field in fields(declared) if field.init}
    hints, group = get_type_hints(kind), parser.add_argument_group(title)
    for name in own if names is None else names:
        text = str(own[name].metadata.get("help", "")).replace("%", "%%")
        group.add_argument(f"--{name}", metavar=_metavar(hints[name]), help=text or " ", default=_default(own[name]))


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


def _training_arguments() -> type:
    from transformers import TrainingArguments

    return TrainingArguments
