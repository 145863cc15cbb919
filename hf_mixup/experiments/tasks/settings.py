"""Settings from a YAML or JSON file and from flags, into dataclasses."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from hf_mixup.utils.files import read_config
from hf_mixup.utils.suggest import did_you_mean

_SECTIONS = ("compare", "sweep", "evaluate")  # mappings of settings that one command alone knows


def parse_settings(
    types: Sequence[type],
    argv: Sequence[str] | None = None,
    section: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Fill dataclasses from `[CONFIG] [--field value ...]`; flags win over the file.

    Args:
        types: dataclasses whose field names differ from each other.
        argv: the arguments (default: the process's own). A configuration file comes first.
        section: key of the file whose mapping is read as if it stood at the top level. Other mappings that
            belong to a command (`compare:`, `sweep:`, `evaluate:`) are left alone: one file serves every command.
        defaults: settings that both the file and the flags win over.

    Raises:
        ValueError: for an unreadable file (with its line), an unknown field (with the nearest one), a wrong value.
        FileNotFoundError: if there is no such file.

    >>> from hf_mixup import MixupConfig
    >>> parse_settings([MixupConfig], ["--method", "cutmix", "--alpha", "0.4"])[0].alpha
    0.4
    """
    from hf_mixup.engine.config import MixupConfig
    from hf_mixup.experiments.mixing import SharedSettings, flags_of

    asked, mixing = types, (MixupConfig, SharedSettings)
    others = _names([each for each in asked if each not in mixing])
    types = [flags_of(others) if each in mixing else each for each in asked]
    arguments = list(sys.argv[1:] if argv is None else argv)
    values = dict(defaults or {})
    if arguments and not arguments[0].startswith("-"):
        path = Path(arguments.pop(0))
        own = _flattened(read_config(path), path, section)
        _refuse_unknown_keys(own, types, path)
        values |= own
    parser = _parser(types)
    converted = _converted_names(types)
    parser.set_defaults(**{name: value for name, value in values.items() if name in converted})
    flags = _as_flags({name: value for name, value in values.items() if name not in converted}, parser)
    *filled, rest = parser.parse_args_into_dataclasses(
        flags + arguments, return_remaining_strings=True, look_for_args_file=False
    )
    if rest:
        _refuse_argument(rest[0], types)
    return tuple(kind(each.given) if kind in mixing else each for kind, each in zip(asked, filled))


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
        default = type(each)()
        for field in fields(each):
            value = getattr(each, field.name)
            if field.init and value != getattr(default, field.name) and not field.name.endswith("_token"):
                found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value


def nearest(wrong: str, valid: Sequence[str]) -> str:
    """Name the nearest valid spelling; of many names, list none if one is near.

    >>> nearest("alhpa", ["alpha", "beta"])
    "did you mean 'alpha'?"
    """
    hint, _, _ = did_you_mean(wrong, valid).partition(" Valid: ")
    return hint if hint.endswith("?") else "`hf-mixup train --help` lists the settings"


def _flattened(values: dict[str, Any], path: Path, section: str | None) -> dict[str, Any]:
    for name in _SECTIONS:
        inner = values.pop(name, None) or {}
        if not isinstance(inner, Mapping):
            raise ValueError(f"{path}: {name!r} holds {type(inner).__name__}, expected a mapping of settings")
        if section == name:
            values = {**values, **inner}
    return values


def _names(types: Sequence[type]) -> list[str]:
    return [field.name for each in types for field in fields(each) if field.init]


def _refuse_unknown_keys(values: Mapping[str, Any], types: Sequence[type], path: Path) -> None:
    names = _names(types)
    for key in values:
        if key not in names:
            raise ValueError(f"{path}: {key!r} is no setting: {nearest(str(key), names)}")


def _refuse_argument(argument: str, types: Sequence[type]) -> NoReturn:
    if not argument.startswith("-"):
        raise ValueError(f"{argument!r} belongs to no flag; a configuration file goes before all flags")
    flag = argument.partition("=")[0]
    hint = nearest(flag.lstrip("-").replace("-", "_"), _names(types))
    raise ValueError(f"{flag} is no setting: {hint}")


def _parser(types: Sequence[type]) -> Any:
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message: str) -> NoReturn:
            # argparse would print the usage of all two hundred settings and leave the process
            raise ValueError(message)

    classes: list[Any] = list(types)
    parser = Parser(classes, add_help=False, allow_abbrev=False)
    converted = _converted_names(types)
    for action in parser._actions:
        if action.dest in converted:
            action.type = action.choices = None  # the dataclass converts and checks, whichever way a value came
    return parser


def _converted_names(types: Sequence[type]) -> list[str]:
    """Return the fields of dataclasses that convert their values themselves, as those of this package do."""
    return _names([each for each in types if each.__module__.startswith("hf_mixup.")])


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
