"""Configurations that come with the package, to be named instead of a file: `hf-mixup compare emoji_image`."""

from __future__ import annotations

from pathlib import Path

import hf_mixup
from hf_mixup.utils.files import read_config, write_text
from hf_mixup.utils.suggest import did_you_mean

FOLDER = Path(hf_mixup.__file__).parent / "presets"


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
    [('clip_folder', 'image-text'), ('clip_lora', 'image-text')]
    """
    return [(name, str(read_config(path)["task"]), _purpose(path)) for name, path in _paths()]


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
