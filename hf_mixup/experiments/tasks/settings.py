"""Settings from a YAML or JSON file and from flags, into dataclasses."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from hf_mixup.experiments.tasks.arguments import PAIRS, TASKS, TaskArguments, task_class, tasks_with
from hf_mixup.experiments.tasks.hints import hint, meant_by
from hf_mixup.experiments.tasks.presets import config_path
from hf_mixup.utils.files import read_config

_SECTIONS = ("compare", "sweep", "evaluate")  # mappings of settings that one command alone knows
_CONFIG_FILES = (".yaml", ".yml", ".json")
# Flags with the name of such a file, beside our own that take a text.
_TAKE_FILES = {"deepspeed", "fsdp_config", "accelerator_config", "config", "config_file", "cfg", "yaml"}


def parse_settings(
    types: Sequence[type],
    argv: Sequence[str] | None = None,
    section: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    beside: Collection[str] = (),
) -> tuple[Any, ...]:
    """Fill dataclasses from `[CONFIG] [--setting value ...]`; flags win over the file.

    For `TaskArguments` the class of the task is filled, which `task` names.

    Args:
        types: dataclasses whose field names differ from each other.
        argv: the arguments (default: the process's own). The configuration file may stand anywhere among the flags.
        section: key of the file whose mapping is read as if it stood at the top level. Other mappings that
            belong to a command (`compare:`, `sweep:`, `evaluate:`) are left alone: one file serves every command.
        defaults: settings that both the file and the flags win over.
        beside: names of further settings, which somebody else reads: they are left alone.

    Raises:
        ValueError: for an unreadable file (with its line), an unknown setting (with what was meant), a wrong value.
        FileNotFoundError: if there is no such file.

    >>> from hf_mixup import MixupConfig
    >>> parse_settings([MixupConfig], ["--method", "cutmix", "--alpha", "0.4"])[0].alpha
    0.4
    """
    path, arguments = split_config(sys.argv[1:] if argv is None else argv, types)
    own = {} if path is None else read_section(path, section)
    values = {**_of_this_machine(types), **(defaults or {}), **_without_new_model(own, arguments)}
    types, mixing = _mixing_as_flags([_task(values, arguments) if kind is TaskArguments else kind for kind in types])
    for key in own:
        _refuse_unknown(str(key), f"{path}: {key!r}", types, beside)
    parser = _parser(types)
    values = {name: value for name, value in values.items() if name not in beside}
    converted = _converted_names(types)
    parser.set_defaults(**{name: value for name, value in values.items() if name in converted})
    flags = _as_flags({name: value for name, value in values.items() if name not in converted}, parser)
    *filled, rest = parser.parse_args_into_dataclasses(
        flags + arguments, return_remaining_strings=True, look_for_args_file=False
    )
    _refuse_arguments(rest, types, beside)
    paired = any(isinstance(each, TaskArguments) and each.task == PAIRS for each in filled)
    return tuple(_mixing(mixing[type(each)], each.given, paired) if type(each) in mixing else each for each in filled)


def _without_new_model(own: dict[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a file; a checkpoint that a flag names takes the place of the file's new model."""
    flags = {argument.partition("=")[0] for argument in arguments}
    if "--model" not in flags or "--model_type" in flags:
        return own
    return {name: value for name, value in own.items() if name not in ("model_type", "config_overrides")}


def _mixing(kind: Any, given: dict[str, Any], paired: bool) -> Any:
    """Return the settings of mixing as their type; one run may be that of a control, too."""
    from hf_mixup.engine.config import MixupConfig
    from hf_mixup.experiments.mixing import control
    from hf_mixup.methods import CONTROLS

    name = given.get("method")
    return control(name, given, paired) if kind is MixupConfig and name in CONTROLS else kind(given)


def _of_this_machine(types: Sequence[Any]) -> dict[str, Any]:
    """Return what the Trainer's settings are better set to here: without an accelerator no memory can be pinned."""
    if "dataloader_pin_memory" not in _names([kind for kind in types if is_dataclass(kind)]):
        return {}
    import torch

    return {} if torch.accelerator.is_available() else {"dataloader_pin_memory": False}


def split_config(arguments: Sequence[str], types: Sequence[type]) -> tuple[Path | None, list[str]]:
    """Return the configuration file among the arguments, if there is one, and the others.

    It is what comes first, unless that is a flag, or a YAML or JSON file that is not the value of a flag. Two are
    refused. The name of a preset stands for its file.

    >>> split_config(["--alpha", "0.4", "image.yaml", "--dataset", "rows.json"], [TaskArguments])
    (PosixPath('image.yaml'), ['--alpha', '0.4', '--dataset', 'rows.json'])
    """
    declared = [field for kind in _expanded(types) for field in fields(kind)]
    take_files = _TAKE_FILES | {field.name for field in declared if "str" in str(field.type)}
    found = []
    for index, argument in enumerate(arguments):
        before = arguments[index - 1] if index else ""
        flag = before.startswith("--") and "=" not in before and before.lstrip("-").replace("-", "_") in take_files
        named = index == 0 or (Path(argument).suffix in _CONFIG_FILES and not flag)
        if named and not argument.startswith("-"):
            found.append(index)
    if len(found) > 1:
        raise ValueError(f"two configuration files, {' and '.join(arguments[index] for index in found)}: name one")
    path = config_path(arguments[found[0]]) if found else None
    return path, [argument for index, argument in enumerate(arguments) if index not in found]


def read_section(path: Path, section: str | None) -> dict[str, Any]:
    """Return the settings of a file, with those that it keeps for one command; see `parse_settings`."""
    values = read_config(path)
    for name in _SECTIONS:
        inner = values.pop(name, None) or {}
        if not isinstance(inner, Mapping):
            raise ValueError(f"{path}: {name!r} holds {type(inner).__name__}, expected a mapping of settings")
        if section == name:
            values = {**values, **inner}
    return values


def refuse_other_spellings(names: Iterable[str], types: Sequence[type]) -> None:
    """Refuse what people write for a setting and is none, before anything heavy is imported."""
    known = set(_names(_expanded(types)))
    for name in names:
        if (meant := meant_by(name)) and name not in known:
            raise ValueError(f"--{name} is no setting: did you mean {meant!r}?")


def settings_of(*filled: Any) -> dict[str, Any]:
    """Return what differs from the defaults in filled dataclasses: a configuration file that fills them likewise.

    Tokens of the Hub are left out.

    >>> from hf_mixup import MixupConfig
    >>> settings_of(MixupConfig("cutmix", prob=0.5))
    {'method': 'cutmix', 'prob': 0.5}
    """
    found: dict[str, Any] = {}
    for each in filled:
        if hasattr(each, "changed"):
            found |= {"method": each.method, **each.changed}
            continue
        if hasattr(each, "values"):  # settings that several methods share
            found |= each.values
            continue
        default = _defaults_of(type(each))
        if isinstance(each, TaskArguments):
            found["task"] = each.task
        for field in fields(each):
            value = getattr(each, field.name)
            if field.init and value != getattr(default, field.name) and not field.name.endswith("_token"):
                found[field.name] = _plain(value)
    return found


def _defaults_of(kind: type) -> Any:
    """Return what a dataclass is without arguments; of the Trainer, without devices: that would end a launched run."""
    if hasattr(kind, "_setup_devices"):
        import torch

        kind = type(kind.__name__, (kind,), {"_setup_devices": torch.device("cpu")})
    return kind()


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value


def _mixing_as_flags(types: Sequence[Any]) -> tuple[list[Any], dict[type, type]]:
    """Return the types with flat flags in place of those that hold the settings of mixing, and what each stands for."""
    from hf_mixup.engine.config import MixupConfig
    from hf_mixup.experiments.mixing import SharedSettings, flags_of

    others = _names([kind for kind in types if kind not in (MixupConfig, SharedSettings)])
    shown = [flags_of(others) if kind in (MixupConfig, SharedSettings) else kind for kind in types]
    return shown, {flat: kind for flat, kind in zip(shown, types) if flat is not kind}


def _task(values: Mapping[str, Any], arguments: Sequence[str]) -> type[TaskArguments]:
    """Return the class of the task that flags or a file name."""
    named = values.get("task", TaskArguments.task)
    for argument, after in zip(arguments, [*arguments[1:], ""]):
        if argument.partition("=")[0] == "--task":
            named = argument.partition("=")[2] or after
    return task_class(named)


def _expanded(types: Sequence[type]) -> list[Any]:
    """Return the dataclasses among the types, with every task in place of `TaskArguments`."""
    found = [each for kind in types for each in (TASKS.values() if kind is TaskArguments else (kind,))]
    return [each for each in found if is_dataclass(each)]


def _names(types: Sequence[Any]) -> list[str]:
    return [field.name for each in types for field in fields(each) if field.init]


def _refuse_unknown(name: str, shown: str, types: Sequence[Any], beside: Collection[str]) -> None:
    """Refuse a setting that none of the types has."""
    names = [*_names(types), *beside]
    if name in names:
        return
    for kind in types:
        if issubclass(kind, TaskArguments) and tasks_with(name):
            raise ValueError(f"{shown} is not for {kind.task}, but for {', '.join(tasks_with(name))}")
    raise ValueError(f"{shown} is no setting: {hint(name, names)}")


def _refuse_arguments(rest: Sequence[str], types: Sequence[type], beside: Collection[str]) -> None:
    if beside:  # their values are among the rest, too
        rest = [each for each in rest if each.startswith("--") and _setting_of(each) not in beside]
    if not rest:
        return
    flag = rest[0].partition("=")[0]
    if not flag.startswith("-"):
        quoted = "; put a pattern of files in quotes" if Path(rest[0]).is_file() else ""
        raise ValueError(
            f"{rest[0]!r} belongs to no flag: a command takes one CONFIG (a preset, or a YAML or JSON file), and each "
            f"other value stands behind its flag{quoted}"
        )
    _refuse_unknown(flag.lstrip("-"), flag, types, beside)
    raise ValueError(f"{flag} is no setting")


def _setting_of(flag: str) -> str:
    """Return the setting that one of the parser's flags sets: `--no_pin=...`, `--no-pin` -> pin."""
    return flag.partition("=")[0].lstrip("-").replace("-", "_").removeprefix("no_")


def _parser(types: Sequence[type]) -> Any:
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message: str) -> NoReturn:
            # argparse would print the usage of all two hundred settings and leave the process
            raise ValueError(message)

    classes: list[Any] = list(types)
    parser = Parser(classes, add_help=False, allow_abbrev=False)
    declared = {field.name: field for kind in types for field in fields(kind)}
    converted = _converted_names(types)
    for action in parser._actions:
        if action.dest in converted:
            action.type = action.choices = None  # the dataclass converts and checks, whichever way a value came
            if declared[action.dest].default is not MISSING:  # the parser forgets that of a list
                action.default = declared[action.dest].default
    return parser


def _converted_names(types: Sequence[type]) -> list[str]:
    """Return the fields of dataclasses that convert their values themselves, as those of this package do."""
    return _names([kind for kind in types if kind.__module__.startswith("hf_mixup.") or kind in TASKS.values()])


def _as_flags(values: Mapping[str, Any], parser: Any) -> list[str]:
    """Write a file's settings of the Trainer as flags, whose texts are converted and checked."""
    takes_many = {action.dest: action.nargs == "+" for action in parser._actions}
    flags: list[str] = []
    for name, value in values.items():
        if isinstance(value, list) and takes_many[name]:
            flags += [f"--{name}", *map(str, value)]
        elif value is None or isinstance(value, (list, dict)):
            parser.set_defaults(**{name: value})  # has no spelling as a flag
        else:
            flags.append(f"--{name}={value}")
    return flags
