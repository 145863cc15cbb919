"""Configurations that come with the package, to be named instead of a file: `hf-mixup compare emoji_image`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hf_mixup
from hf_mixup.utils.files import read_config, slug, write_text
from hf_mixup.utils.suggest import did_you_mean

FOLDER = Path(hf_mixup.__file__).parent / "presets"


_BY_TASK = {
    "image-classification": "emoji_image",
    "text-classification": "emoji_text",
    "text-regression": "emoji_regression",
    "token-classification": "emoji_tokens",
    "audio-classification": "instruments",
    "video-classification": "emoji_video",
    "image-text": "emoji_pairs",
}
"""Presets whose new model and whose training are small enough to begin with, whatever the data."""
_OF_THE_MODEL = ("model_type", "config_overrides", "image_size", "max_length")
_OF_THE_TRAINING = (
    *("num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size", "learning_rate"),
    *("weight_decay", "lr_scheduler_type", "warmup_steps", "logging_steps", "save_strategy"),
)


def preset_names() -> list[str]:
    """Return the names of all presets.

    >>> "emoji_image" in preset_names()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def config_path(named: str) -> Path:
    """Return the configuration file that is meant: a path, or where the preset of that name lies.

    A file in the working directory goes before a preset.

    Raises:
        FileNotFoundError: for a word that is neither, with the nearest preset.

    >>> config_path("emoji_image").name, config_path("my.yaml").name
    ('emoji_image.yaml', 'my.yaml')
    >>> config_path("emoji_imag")
    Traceback (most recent call last):
    ...
    FileNotFoundError: 'emoji_imag' is neither a file nor a preset: did you mean 'emoji_image'? Valid: ...
    """
    path = Path(named)
    if path.suffix or path.exists() or len(path.parts) > 1:
        return path
    if named not in preset_names():
        raise FileNotFoundError(f"{named!r} is neither a file nor a preset: {did_you_mean(named, preset_names())}")
    return FOLDER / f"{named}.yaml"


def presets_table() -> list[tuple[str, str, str]]:
    """Return name, task and purpose of each preset; the purpose is the first sentence of its comment.

    >>> [row[:2] for row in presets_table()][:2]
    [('breast_cancer_tabular', 'tabular-classification'), ('cars_tabular', 'tabular-regression')]
    """
    return [(name, str(read_config(path)["task"]), _purpose(path)) for name, path in _paths()]


def starting_point(task: str, dataset: str, checkpoint: bool) -> tuple[dict[str, Any], str]:
    """Return settings to begin with for a run without a configuration, and what to say of them.

    Args:
        checkpoint: whether a model is named: then model and training are left to it and to transformers' defaults.

    >>> settings, told = starting_point("image-classification", "photos/", checkpoint=False)
    >>> settings["model_type"], settings["output_dir"]
    ('resnet', 'runs/photos')
    >>> print(told)
    no CONFIG: model and training of the preset emoji_image (resnet, image_size 32, 16 epochs, batches of 64,
    learning rate 0.002), results in runs/photos; flags change them
    """
    found: dict[str, Any] = {"output_dir": f"runs/{slug(Path(dataset).name)}"}
    if checkpoint or task not in _BY_TASK:
        return found, f"no CONFIG: transformers' defaults of training, results in {found['output_dir']}"
    name = _BY_TASK[task]
    preset = read_config(FOLDER / f"{name}.yaml")
    found |= {key: preset[key] for key in (*_OF_THE_MODEL, *_OF_THE_TRAINING) if key in preset}
    size = f", image_size {found['image_size']}" if "image_size" in found else ""
    return found, (
        f"no CONFIG: model and training of the preset {name} ({found.get('model_type', 'MiniLM')}{size}, "
        f"{found['num_train_epochs']} epochs, batches of {found['per_device_train_batch_size']}, learning rate "
        f"{found['learning_rate']}), results in {found['output_dir']}; flags change them"
    )


def method_of(task: str) -> str:
    """Return the method of a task's preset.

    >>> method_of("text-classification"), method_of("seq2seq")
    ('embedding', 'mixup')
    """
    return str(read_config(FOLDER / f"{_BY_TASK[task]}.yaml").get("method", "mixup")) if task in _BY_TASK else "mixup"


def copy_preset(name: str, output: Path) -> Path:
    """Write a preset into a file, to be changed.

    Raises:
        FileNotFoundError: for an unknown name.
        FileExistsError: if the file is there already.
    """
    if name not in preset_names():
        raise FileNotFoundError(f"{name!r} is no preset: {did_you_mean(name, preset_names())}")
    if output.exists():
        raise FileExistsError(f"{output} is there already: name another file with --output")
    write_text(output, (FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return output


def _paths() -> list[tuple[str, Path]]:
    return [(name, FOLDER / f"{name}.yaml") for name in preset_names()]


def _purpose(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = " ".join(
        line.lstrip("# ") for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")]
    )
    for end in (": ", ". "):
        comment = comment.partition(end)[0]
    return comment.rstrip(".") + "."
