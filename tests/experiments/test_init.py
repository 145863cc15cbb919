"""`hf-mixup init`: a configuration for one's own data; and what a run without one begins with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hf_mixup.cli import main
from hf_mixup.experiments.tasks import TASKS, TaskArguments
from hf_mixup.experiments.tasks.presets import FOLDER, method_of, starting_point


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = "review,stars\nfine and short,good\ntoo long,bad\n"
    Path("reviews.csv").write_text(rows)
    return tmp_path


INIT = ["init", "--task", "text-classification", "--dataset", "reviews.csv"]
COLUMNS = ["--column", "text_column=review", "--column", "label_column=stars"]


def test_a_configuration_is_written_for_the_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*INIT, *COLUMNS]) == 0
    shown = capsys.readouterr().out
    assert "reviews.csv: train 2" in shown
    assert "input: fine and short, label: good" in shown
    assert "would blend token embeddings" in shown
    assert "hf-mixup compare mixup.yaml" in shown
    written = yaml.safe_load(Path("mixup.yaml").read_text())
    assert written["compare"]["methods"] == ["none", "smoothing", "embedding"]
    task = TaskArguments(**{name: written[name] for name in ("task", "dataset", "text_column", "label_column")})
    assert task.columns == {"input": "review", "label": "stars"}
    assert main([*INIT, *COLUMNS]) == 2  # it is there
    assert "mixup.yaml is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["init"], "task is missing: name it with --task: "),
        (["init", "--task", "image-clasification"], "did you mean 'image-classification'?"),
        (INIT, "name it with --column text_column=...: review, stars"),
        ([*INIT, *COLUMNS[:2], "--column", "label_column=star"], "no column 'star': did you mean 'stars'?"),
        ([*INIT, "--column", "stars"], "--column stars: expected NAME=COLUMN"),
        ([*INIT, *COLUMNS, "--method", "embeding"], "did you mean 'embedding'?"),
    ],
)
def test_what_is_missing_or_wrong_is_said(
    flags: list[str], error: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == 2
    assert error in capsys.readouterr().err
    assert not Path("mixup.yaml").exists()


def test_answers_are_asked_for_at_the_keyboard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["text-classification", "reviews.csv", "review", "stars"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    assert main(["init"]) == 0
    assert yaml.safe_load(Path("mixup.yaml").read_text())["text_column"] == "review"


@pytest.mark.parametrize("task", TASKS)
def test_a_run_without_a_configuration_has_settings_that_its_task_reads(task: str) -> None:
    settings, told = starting_point(task, "folder/", checkpoint=False)
    assert settings["output_dir"] == "runs/folder"
    own = {name: value for name, value in settings.items() if name in ("model_type", "config_overrides", "image_size")}
    TaskArguments(task=task, **own)
    assert told.startswith("no CONFIG: ")
    assert method_of(task) in ("mixup", "embedding", "cross_modal", "manifold")
    assert starting_point(task, "folder/", checkpoint=True)[0] == {"output_dir": "runs/folder"}
    assert all((FOLDER / f"{name}.yaml").is_file() for name in ("emoji_image", "instruments"))
