"""What is not there, or cannot be written, is told at once: before torch is loaded, and before any data is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import hf_mixup
from hf_mixup.experiments.tasks.saved import check_there
from hf_mixup.utils.files import check_writable
from tests.conftest import TINY_RUN

COMMANDS = {
    "train {tmp}/none.yaml": "no such configuration file",
    "compare {tmp}/none.yaml": "no such configuration file",
    "sweep {tmp}/none.yaml": "no such configuration file",
    "preview {tmp}/none.yaml": "no such configuration file",
    "playground {tmp}/none.yaml": "no such configuration file",
    "train {tmp}/broken.yaml": "broken.yaml, line 1: not readable as YAML",
    "train {tmp}/run.yaml --dataset {tmp}/none.csv": "no such dataset: {tmp}/none.csv",
    "train --dataset {tmp}/rows.xls": "cannot read .xls files",
    "train {tmp}/run.yaml --model {tmp}/none": "no such folder of a model: {tmp}/none",
    "train {tmp}/run.yaml --output_dir {tmp}/run.yaml/out": "cannot be made, as {tmp}/run.yaml is a file",
    "train {tmp}/run.yaml --output_dir={tmp}/run.yaml": "{tmp}/run.yaml is a file",
    "compare {tmp}/run.yaml --output_dir {tmp}/run.yaml/a/b": "cannot be made, as {tmp}/run.yaml is a file",
    "sweep {tmp}/run.yaml --output_dir {tmp}/run.yaml/a": "cannot be made, as {tmp}/run.yaml is a file",
    "train {tmp}/below.yaml": "cannot be made, as {tmp}/run.yaml is a file",
    "train {tmp}/run.yaml --resume_from_checkpoint {tmp}/none": "no such folder: {tmp}/none",
    "evaluate {tmp}/none": "no such folder of a model: {tmp}/none",
    "evaluate none": "no such folder of a model: none; for one on the Hub name a CONFIG",
    "evaluate {tmp}/none {tmp}/run.yaml": "no such folder of a model: {tmp}/none",
    "evaluate {tmp}": "holds no model itself, but folders with one: name {tmp}/model",
    "evaluate {tmp}/model {tmp}/none.yaml": "no such configuration file",
    "playground --model {tmp}/none": "no such folder of a model",
    "check {tmp}/none": "no such folder of a model",
    "nonsense": "'nonsense' is no command",
}


def files(tmp: Path) -> None:
    (tmp / "run.yaml").write_text(yaml.safe_dump({**TINY_RUN, "output_dir": str(tmp / "out")}))
    (tmp / "below.yaml").write_text(yaml.safe_dump({**TINY_RUN, "output_dir": str(tmp / "run.yaml" / "out")}))
    (tmp / "broken.yaml").write_text("a: [1")
    (tmp / "rows.xls").write_text("")
    (tmp / "model").mkdir()
    (tmp / "model" / "config.json").write_text("{}")


def test_no_command_loads_torch_to_say_so(tmp_path: Path) -> None:
    """All in one fresh process, which may have loaded neither torch nor transformers at its end."""
    files(tmp_path)
    lines = [command.format(tmp=tmp_path).split() for command in COMMANDS]
    program = (
        f"import sys; from hf_mixup import cli\nfor line in {lines}: print(cli.main(line), file=sys.stderr)\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'sklearn') if m in sys.modules], file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(hf_mixup.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    *told, loaded = done.stderr.splitlines()
    assert loaded == "[]"
    assert told[1::2] == ["2"] * len(COMMANDS)
    for said, message in zip(told[::2], COMMANDS.values(), strict=True):
        assert said.startswith("error: ")
        assert message.format(tmp=tmp_path) in said


@pytest.mark.parametrize("command", ["train", "compare", "sweep"])
def test_functions_refuse_an_output_folder_before_the_data_is_loaded(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainingArguments

    from hf_mixup import MixupConfig
    from hf_mixup.experiments.compare.arguments import CompareArguments
    from hf_mixup.experiments.compare.run import compare
    from hf_mixup.experiments.sweep.arguments import SweepArguments
    from hf_mixup.experiments.sweep.run import sweep
    from hf_mixup.experiments.tasks.arguments import TaskArguments
    from hf_mixup.experiments.tasks.train import train

    def data(*given: Any) -> None:
        raise AssertionError("the data was loaded first")

    monkeypatch.setattr("hf_mixup.experiments.tasks.data.load_raw", data)
    files(tmp_path)
    args = TrainingArguments(str(tmp_path / "run.yaml" / "out"), use_cpu=True, report_to="none")
    first: dict[str, list[Any]] = {"train": [], "compare": [CompareArguments()], "sweep": [SweepArguments()]}
    functions: dict[str, Any] = {"train": train, "compare": compare, "sweep": sweep}
    with pytest.raises(ValueError, match=r"cannot be made, as .*run.yaml is a file"):
        functions[command](*first[command], TaskArguments(), MixupConfig(), args)


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**given: Any) -> None:
        raise PermissionError(13, "Permission denied")

    check_writable(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []  # trying leaves nothing
    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(ValueError, match=r"nothing can be written into .*Permission denied.*--output_dir") as caught:
        check_writable(tmp_path / "new")
    assert isinstance(caught.value.__cause__, PermissionError)


def test_a_link_to_nowhere_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match="is no folder"):
        check_writable(tmp_path / "out")


def test_owner_and_name_may_be_on_the_hub_unless_the_owner_is_a_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    check_there("google/vit-base")
    with pytest.raises(FileNotFoundError, match="no such folder of a model: runs/none"):
        check_there("runs/none")
