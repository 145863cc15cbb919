"""The settings of a command that trains or scores: looked over in a moment, then read in full."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hf_mixup.cli.parser import Parser


def own_settings(name: str) -> list[type]:
    """Return the dataclass of settings that a command alone has, if it has one."""
    kinds = {"compare": "CompareArguments", "sweep": "SweepArguments", "evaluate": "EvaluateArguments"}
    if name not in kinds:
        return []
    return [getattr(import_module(f"hf_mixup.experiments.{name}.arguments"), kinds[name])]


def look_ahead(name: str, arguments: Sequence[str], *paths: str) -> Path | None:
    """Refuse a configuration that cannot be read, flags by other names, and paths in `paths` that are not there.

    Commands do it first: what they need beside takes seconds to load.

    Returns:
        The configuration file, None if there is none.
    """
    from hf_mixup.experiments.tasks import TaskArguments
    from hf_mixup.experiments.tasks.paths import check_paths
    from hf_mixup.experiments.tasks.settings import read_section, refuse_other_spellings, split_config

    types = [*own_settings(name), TaskArguments]  # those of mixing would load torch
    config, rest = split_config(arguments, types)
    values = {} if config is None else read_section(config, name)
    refuse_other_spellings([each.lstrip("-").partition("=")[0] for each in rest if each.startswith("--")], types)
    parser = Parser(argument_default=argparse.SUPPRESS)
    for flag in paths:
        parser.add_argument(f"--{flag}", nargs="?", const=None)
    values |= vars(parser.parse_known_args(rest)[0])
    check_paths({flag: values[flag] for flag in paths if flag in values})
    return config


def parse(
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

    ours = [*own_settings(name), TaskArguments, SharedSettings if shared else MixupConfig]
    filled = parse_settings(ours, arguments, section=name, defaults=defaults, beside=trainer_settings())
    if check is not None:
        check(*filled)
    from transformers import TrainingArguments

    return parse_settings([*ours, TrainingArguments], arguments, section=name, defaults=defaults)


def again(command: str, arguments: list[str]) -> str:
    """Return what starts a command again: with a script that registers a method of its own, the script."""
    script = Path(sys.argv[0])
    own = script.suffix == ".py" and script.name != "__main__.py"
    return shlex.join([*(("python", script.name) if own else ("hf-mixup",)), command, *arguments])
