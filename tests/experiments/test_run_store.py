"""What a killed comparison left of a run that it had begun goes at the next start; what a living one writes stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hf_mixup.experiments.compare.arguments import CompareArguments
from hf_mixup.experiments.compare.run import compare
from hf_mixup.experiments.compare.store import RUNNING, atomic_dir, remove_dead_parts
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.utils.hold import hold

WRITER = """
import sys, time
from pathlib import Path
from hf_mixup.experiments.compare.store import atomic_dir
with atomic_dir(Path(sys.argv[1])) as part:
    (part / "weights").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "runs" / ".mine.part").mkdir(parents=True)  # of somebody else's making
    return tmp_path


def parts(output: Path) -> list[str]:
    return [each.name for each in output.rglob(".*.part")]


def test_parts_of_the_dead_go_and_those_of_the_living_stay(output: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(output / "runs" / name)], stdout=subprocess.PIPE, text=True)
        for name in ("killed-seed0-ab", "alive-seed0-ab")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
    killed, alive = writers
    try:
        killed.kill()
        killed.wait()
        with atomic_dir(output / "runs" / "own-seed0-ab") as own:
            assert len(parts(output)) == 4
            remove_dead_parts(output)
            assert {name.split("-")[0] for name in parts(output)} == {".alive", ".own", ".mine.part"}
            (own / "weights").write_text("whole")
        assert (output / "runs" / "own-seed0-ab" / "weights").read_text() == "whole"
    finally:
        alive.kill()
        alive.wait()
    remove_dead_parts(output)
    assert parts(output) == [".mine.part"]


def test_an_error_leaves_no_part_and_keeps_what_was_there(output: Path) -> None:
    folder = output / "runs" / "run"
    with atomic_dir(folder) as part:
        (part / "weights").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_dir(folder) as part:
        (part / "gone" / "weights").write_text("new")
    assert (folder / "weights").read_text() == "old"
    assert parts(output) == [".mine.part"]


def test_a_comparison_clears_up_when_it_starts_again(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    pytest.importorskip("matplotlib")
    args = TrainingArguments(str(tmp_path), max_steps=1, report_to="none", use_cpu=True)
    task = TaskArguments(task="tabular-classification", dataset="wine")
    compare(CompareArguments(methods=["none"]), task, SharedSettings(), args)
    left = [tmp_path / "runs" / ".other-seed0-ab.0123abcd.part", tmp_path / ".best.0123abcd.part"]
    for part in left:
        part.mkdir()
        (part / "model.safetensors").write_text("half")
    compare(CompareArguments(methods=["none"]), task, SharedSettings(), args)
    assert parts(tmp_path) == []


def test_where_another_comparison_is_at_work_it_is_named_and_nothing_is_touched(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    pytest.importorskip("matplotlib")
    args = TrainingArguments(str(tmp_path), max_steps=1, report_to="none", use_cpu=True)
    task = TaskArguments(task="tabular-classification", dataset="wine")
    with (
        hold(tmp_path / RUNNING, "a comparison"),
        pytest.raises(ValueError, match=r"is in use by a comparison, process .* on .*, since .*, last seen"),
    ):
        compare(CompareArguments(methods=["none"]), task, SharedSettings(), args)
    assert list(tmp_path.iterdir()) == []
