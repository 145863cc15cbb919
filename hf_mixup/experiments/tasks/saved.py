"""What a folder with a trained model tells of the run that left it there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_mixup.experiments.tasks.arguments import TaskArguments, task_class
from hf_mixup.utils.files import read_json, write_json

TASK_FILE = "task.json"
_OF_COMPARE = "result.json"
_ADAPTER = "adapter_config.json"


def check_there(checkpoint: str) -> None:
    """Refuse a path that is not there; a word, or two with a slash between them, may be a name on the Hub."""
    path = Path(checkpoint)
    if path.is_dir():
        return
    local = path.is_absolute() or checkpoint.startswith((".", "~")) or checkpoint.count("/") > 1
    if path.exists() or local or ("/" in checkpoint and path.parent.is_dir()):
        raise FileNotFoundError(f"no such folder of a model: {checkpoint}")


def check_folder(checkpoint: str) -> None:
    """Refuse a folder without a model; what is no folder may be a name on the Hub.

    Raises:
        FileNotFoundError: for a path that is not there, or a folder without `config.json`.
        ValueError: for a folder of a comparison (naming the models in it), or of an adapter.
    """
    check_there(checkpoint)
    path = Path(checkpoint)
    if not path.is_dir():
        return
    if (path / _ADAPTER).is_file():
        raise ValueError(f"{checkpoint} holds an adapter: merge it (merge_and_unload), and evaluate the model")
    if (path / "config.json").is_file():
        return
    inside = sorted(str(each.parent) for each in path.glob("**/config.json"))
    if inside:
        raise ValueError(f"{checkpoint} holds no model itself, but folders with one: name {', '.join(inside[:4])}")
    raise FileNotFoundError(f"{checkpoint} holds no model: there is no config.json")


def save_task(folder: Path, task: TaskArguments, seed: int) -> None:
    """Write the task of a run and its seed beside its model."""
    write_json(folder / TASK_FILE, {"task": asdict(task), "training": {"seed": seed}}, default=str)


def saved_task(folder: Path) -> tuple[dict[str, Any], int | None]:
    """Return the settings of the task that differ from the defaults, and the seed; {} and None if none is kept.

    `hf-mixup train` keeps them in `task.json`, `compare` in the `result.json` of each run.
    """
    for name in (TASK_FILE, _OF_COMPARE):
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = read_json(path)
            content = content.get("settings", content)
            kept, seed = dict(content["task"]), int(content["training"]["seed"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} does not tell the task of a run: remove it, or name a CONFIG") from error
        default = asdict(task_class(kept.get("task", TaskArguments.task))())
        same = {key for key, value in default.items() if key != "task" and kept.get(key, value) == value}
        return {key: value for key, value in kept.items() if key not in same}, seed
    return {}, None
