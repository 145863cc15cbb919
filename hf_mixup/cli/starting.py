"""The settings that a command starts from where no CONFIG names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_mixup.cli.parser import Parser


def start(name: str, config: Path | None, arguments: Sequence[str]) -> dict[str, Any]:
    """Return settings for a run that flags alone describe, and say so; none where a file does."""
    if config is not None:
        return {}
    if not arguments:
        raise ValueError(f"name a CONFIG or data: hf-mixup {name} emoji_image, or --task TASK --dataset FOLDER")
    from hf_mixup.experiments.tasks import TaskArguments
    from hf_mixup.experiments.tasks.presets import starting_point

    parser = Parser()
    for flag in ("task", "dataset", "model", "model_type"):
        parser.add_argument(f"--{flag}")
    named = parser.parse_known_args(list(arguments))[0]
    data = named.task or TaskArguments.task, named.dataset or TaskArguments.dataset
    settings, told = starting_point(*data, checkpoint=bool(named.model or named.model_type))
    print(told)
    return settings


def saved_task(folder: Path, arguments: list[str]) -> dict[str, Any]:
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


def saved_mixing(folder: Path) -> dict[str, Any]:
    """Return how a folder's model was mixed; {} if it was not."""
    from hf_mixup.engine.config import CONFIG_NAME, MixupConfig

    if not (folder / CONFIG_NAME).is_file():
        return {}
    config = MixupConfig.from_pretrained(folder)
    return {"method": config.method, **config.changed}
