"""Presets: configurations that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hf_mixup.cli import main
from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.presets import FOLDER, config_path, preset_names, presets_table
from hf_mixup.experiments.tasks.settings import split_config


def test_the_clone_has_them_once() -> None:
    configs = Path(__file__).parents[2] / "recipes" / "configs"
    assert configs.resolve() == FOLDER.resolve()
    assert preset_names() == sorted(path.stem for path in configs.iterdir())


def test_a_name_stands_for_the_file_of_the_preset() -> None:
    path, rest = split_config(["emoji_text", "--alpha", "0.2"], [TaskArguments])
    assert (path, rest) == (FOLDER / "emoji_text.yaml", ["--alpha", "0.2"])


def test_a_file_goes_before_a_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("emoji_text").write_text("alpha: 0.1")
    assert config_path("emoji_text") == Path("emoji_text")
    assert config_path("runs/emoji_text") == Path("runs/emoji_text")


def test_each_has_a_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(purpose.endswith(".") and len(purpose) > 20 for *_, purpose in presets_table())
    assert main(["presets"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in preset_names())
    assert max(map(len, shown.splitlines())) <= 80


def test_a_copy_is_the_preset_and_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["presets", "--copy", "emoji_image"]) == 0
    assert capsys.readouterr().out == "emoji_image.yaml\n"
    assert yaml.safe_load(Path("emoji_image.yaml").read_text())["task"] == "image-classification"
    assert main(["presets", "--copy", "emoji_image"]) == 2
    assert "is there already: name another file with --output" in capsys.readouterr().err
    assert main(["presets", "--copy", "emoji_imag"]) == 2
    assert "did you mean 'emoji_image'?" in capsys.readouterr().err
