"""Tables of settings, from the dataclasses that declare them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints


def settings_table(kind: type, names: Iterable[str] | None = None) -> str:
    """Return a table of the settings of a dataclass: name, default, values and meaning.

    Args:
        names: of the settings to list (default: all).

    >>> from hf_mixup import CutMix
    >>> settings_table(CutMix).count("`box_sides`")
    1
    """
    declared: Any = kind
    hints = get_type_hints(kind)
    by_name = {field.name: field for field in fields(declared)}
    lines = ["| setting | default | values | meaning |", "| --- | --- | --- | --- |"]
    for name in by_name if names is None else names:
        field = by_name[name]
        default = field.default if field.default_factory is MISSING else field.default_factory()
        cells = (f"`{name}`", f"`{default!r}`", values_of(hints[name], field), field.metadata.get("help", ""))
        lines.append(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def values_of(kind: Any, field: Any = None) -> str:
    """Return which values a setting takes, in words.

    >>> values_of(list[float] | None), values_of(Literal["row", "batch"])
    ('a list of numbers', "`'row'`, `'batch'`")
    """
    parts = [part for part in get_args(kind) if part is not NoneType]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{part!r}`" for part in parts)
    if get_origin(kind) is list:
        return f"a list of {_PLURAL.get(parts[0], 'values')}"
    if parts:
        return " or ".join(values_of(part, field) for part in parts)
    bounds = [
        f"{word} {bound:g}"
        for word, limit in (("from", "at_least"), ("above", "above"), ("to", "at_most"), ("below", "below"))
        if (bound := getattr(field, limit, None)) is not None
    ]
    return " ".join([_WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}"), *bounds])


_WORDS: dict[Any, str] = {
    bool: "true or false",
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict: "a mapping",
}
_PLURAL: dict[Any, str] = {str: "texts", int: "whole numbers", float: "numbers"}


def settings_page() -> str:
    """Return the page with the settings of all commands and tasks."""
    from hf_mixup.engine.settings import PARTS
    from hf_mixup.experiments.compare.arguments import CompareArguments
    from hf_mixup.experiments.evaluate.arguments import EvaluateArguments
    from hf_mixup.experiments.sweep.arguments import SweepArguments
    from hf_mixup.experiments.tasks import TASKS, TaskArguments
    from hf_mixup.experiments.tasks.help import own_names

    parts = [
        "# Settings of the command line",
        "Keys of a configuration file, and flags. Those of a method stand on [its page](../methods/index.md); those of "
        "the Trainer are transformers' `TrainingArguments`.",
    ]
    for title, kind in {
        "Every task": TaskArguments,
        "hf-mixup compare": CompareArguments,
        "hf-mixup sweep": SweepArguments,
        "hf-mixup evaluate": EvaluateArguments,
        **{f"Mixing: {name}": kind for name, kind in PARTS.items()},
    }.items():
        parts.append(f"## {title}\n\n{settings_table(kind)}")
    for name, task in TASKS.items():
        parts.append(f"## Task {name}\n\n{settings_table(task, own_names(task))}")
    return "\n\n".join(parts) + "\n"
