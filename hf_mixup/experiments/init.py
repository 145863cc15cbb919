"""`hf-mixup init`: a configuration for data of one's own, from a few answers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from hf_mixup.experiments.tasks.arguments import TASKS, TaskArguments, task_class
from hf_mixup.experiments.tasks.presets import method_of, starting_point
from hf_mixup.utils.files import write_text
from hf_mixup.utils.suggest import did_you_mean, shortened

_SHOWN, _WIDTH = 3, 60


def begin(given: Mapping[str, Any], output: Path) -> str:
    """Write a configuration, and return what the data holds, what would be mixed, and the next commands.

    Args:
        given: `task`, `dataset`, `model`, `method` and `column` ("setting=column" each), as far as they are known; what
            is needed beside is asked for, where somebody is there to answer.

    Raises:
        ValueError: for what is missing where nobody answers, or names nothing.
        FileExistsError: if the file is there already.
    """
    if output.exists():
        raise FileExistsError(f"{output} is there already: name another file with --output")
    task = str(given.get("task") or _answer("task", TASKS))
    kind = task_class(task)
    dataset = str(given.get("dataset") or _answer("dataset", kind().bundled()))
    columns = dict(_column(each) for each in given.get("column") or ())
    rows, columns = _first_rows(kind(dataset=dataset, **columns), columns)
    method = given.get("method") or method_of(task)
    settings, mixed = _settings(task, dataset, columns, given.get("model"), method), _mixed(method)
    write_text(output, yaml.safe_dump(settings, sort_keys=False))
    return "\n".join([*rows, "", mixed, "", f"{output} is written. Next:", *_next(output, kind)])


def _settings(task: str, dataset: str, columns: Mapping[str, str], model: str | None, method: str) -> dict[str, Any]:
    start, _ = starting_point(task, dataset, checkpoint=model is not None)
    named = {"model": model} if model else {}
    return {
        "task": task,
        "dataset": dataset,
        **columns,
        **named,
        "method": method,
        **start,
        "compare": {"methods": ["none", "smoothing", method], "seeds": 3},
    }


def _first_rows(task: TaskArguments, columns: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return lines that show the first training samples, and the columns, asked for where the dataset has others."""
    from hf_mixup.experiments.tasks.data import load_raw

    data = load_raw(task)
    if task.train_split not in data:
        raise ValueError(f"the dataset has no split {task.train_split!r}: {did_you_mean(task.train_split, data)}")
    rows = data[task.train_split]
    asked: dict[str, Any] = dict(columns)
    for name, column in task.columns.items():
        setting = task.column_setting(name)
        if column not in rows.column_names and setting not in columns:
            asked[setting] = _answer(setting, rows.column_names)
    task = replace(task, **asked)
    for column in task.columns.values():
        if column not in rows.column_names:
            raise ValueError(f"the dataset has no column {column!r}: {did_you_mean(column, rows.column_names)}")
    sizes = ", ".join(f"{split} {len(each):,}" for split, each in data.items())
    lines = [f"{task.dataset}: {sizes}"]
    for row in rows.select(range(min(_SHOWN, len(rows)))):
        lines.append("  " + ", ".join(f"{name}: {_short(row[column])}" for name, column in task.columns.items()))
    return lines, asked


def _short(value: Any) -> str:
    size = getattr(value, "size", None)
    return (
        f"image of {size[0]} x {size[1]}"
        if isinstance(size, tuple) and len(size) == 2
        else shortened(str(value), _WIDTH)
    )


def _mixed(name: str) -> str:
    from hf_mixup.methods.registry import method_named

    kind = method_named(name)
    return f"{kind.title} would blend {kind.blends.replace('`', '')}."


def _next(output: Path, kind: type[TaskArguments]) -> list[str]:
    preview = [f"  hf-mixup preview {output}    # look at mixed samples"] if kind().drawing() else []
    return [*preview, f"  hf-mixup compare {output}    # does it help?", f"  hf-mixup train {output}"]


def _column(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not equals:
        raise ValueError(f"--column {text}: expected NAME=COLUMN, such as label_column=species")
    return name, column


def _answer(name: str, known: Iterable[str]) -> str:
    """Return what somebody at the keyboard answers.

    Raises:
        ValueError: if nobody is there.
    """
    flag = f"--column {name}=..." if name.endswith("_column") else f"--{name}"
    if not sys.stdin.isatty():
        raise ValueError(f"{name} is missing: name it with {flag}: {', '.join(known) or 'none is bundled'}")
    print(f"{name}? ({', '.join(known)})")
    return input("> ").strip()
