"""What a folder with a trained model tells of the run that left it there."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from hf_mixup.files import write_text
from hf_mixup.tasks.arguments import TaskArguments

TASK_FILE = "task.json"
_OF_COMPARE = "result.json"


def save_task(folder: Path, task: TaskArguments, seed: int) -> None:
    """Write the task of a run and its seed beside its model."""
    text = json.dumps({"task": asdict(task), "training": {"seed": seed}}, indent=2, default=str)
    write_text(folder / TASK_FILE, text + "\n")


def saved_task(folder: Path) -> tuple[dict[str, Any], int | None]:
    """Return the settings of `TaskArguments` that differ from the defaults, and the seed; {} and None if none is kept.

    `hf-mixup train` keeps them in `task.json`, `compare` in the `result.json` of each run.

    Raises:
        ValueError: for a file that is no such JSON.
    """
    for name in (TASK_FILE, _OF_COMPARE):
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content = content.get("settings", content)
            kept, seed = dict(content["task"]), int(content["training"]["seed"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} does not tell the task of a run: remove it, or name a CONFIG") from error
        known = {field.name: _default(field) for field in fields(TaskArguments)}
        return {key: value for key, value in kept.items() if key in known and value != known[key]}, seed
    return {}, None


def _default(field: Any) -> Any:
    return field.default if field.default is not MISSING else field.default_factory()
