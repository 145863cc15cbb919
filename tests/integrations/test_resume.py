"""A killed run goes on from its last whole checkpoint, to the bits it would have come to."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_mixup import cli
from hf_mixup.experiments.tasks.checkpoints import checkpoint_to_resume, fault_of
from tests.conftest import TINY_RUN

SETTINGS = {
    **{**TINY_RUN, "max_steps": 6, "save_steps": 2, "save_strategy": "steps"},
    **{"method": "mixup", "lam_per": "sample", "dataloader_pin_memory": False},
}
FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "config.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("resume") / "whole"
    assert train(folder) == 0
    return folder


@pytest.fixture
def killed(whole: Path, tmp_path: Path) -> Path:
    """The folder of a run that was killed when it wrote its last checkpoint but one."""
    for step in (2, 4):
        shutil.copytree(whole / f"checkpoint-{step}", tmp_path / "out" / f"checkpoint-{step}")
    return tmp_path / "out"


def train(folder: Path, *flags: str) -> int:
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(yaml.safe_dump({**SETTINGS, "output_dir": str(folder)}))
    return cli.main(["train", str(config), *flags])


def same_weights(one: Path, other: Path) -> bool:
    own, others = (load_file(folder / "model.safetensors") for folder in (one, other))
    return own.keys() == others.keys() and all(torch.equal(own[name], others[name]) for name in own)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    """As a disk leaves a file whose length was written, and whose content was not."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("name", "harm"),
    [(name, harm) for name in FILES for harm in (cut, lose, emptied, zeroed) if (name, harm) != ("config.json", lose)],
)
def test_a_broken_checkpoint_is_passed_over(
    killed: Path, name: str, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    args = TrainingArguments(str(killed), resume_from_checkpoint="true", use_cpu=True)
    assert checkpoint_to_resume(args) == str(killed / "checkpoint-4")
    assert capsys.readouterr().err == ""
    harm(killed / "checkpoint-4" / name)
    assert checkpoint_to_resume(args) == str(killed / "checkpoint-2")
    told = capsys.readouterr().err
    assert f"{killed / 'checkpoint-4'} is passed over, as it is not whole" in told
    assert Path(name).stem in told or "no weights" in told
    assert f"going on from {killed / 'checkpoint-2'}" in told


def test_going_back_ends_with_the_same_weights(whole: Path, killed: Path) -> None:
    cut(killed / "checkpoint-4" / "optimizer.pt")
    assert train(killed, "--resume_from_checkpoint", "true") == 0
    assert same_weights(killed, whole)
    assert fault_of(killed / "checkpoint-4") is None  # written anew


def test_without_a_whole_one_training_starts_anew(
    whole: Path, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(killed / "checkpoint-4")
    lose(killed / "checkpoint-2" / "trainer_state.json")
    assert train(killed, "--resume_from_checkpoint", "true") == 0
    assert "holds no whole checkpoint: training starts anew" in capsys.readouterr().err
    assert same_weights(killed, whole)


def test_a_broken_one_that_is_named_is_refused(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut(killed / "checkpoint-4" / "model.safetensors")
    assert train(killed, "--resume_from_checkpoint", str(killed / "checkpoint-4")) == 2
    assert "checkpoint-4 is not whole: model.safetensors is cut off" in capsys.readouterr().err


def test_checkpoints_of_weights_alone_are_whole_where_no_more_is_wanted(killed: Path) -> None:
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        lose(killed / "checkpoint-4" / name)
    assert "no optimizer" in str(fault_of(killed / "checkpoint-4"))
    assert fault_of(killed / "checkpoint-4", weights_only=True) is None


def test_a_shard_that_is_missing(killed: Path) -> None:
    checkpoint = killed / "checkpoint-4"
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00002.safetensors")
    index = '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    (checkpoint / "model.safetensors.index.json").write_text(index)
    assert "it has no model-00002-of-00002.safetensors" in str(fault_of(checkpoint))


class KilledError(BaseException):
    """What nothing catches: the files stay as they are at this moment."""


def test_a_kill_in_the_middle_of_a_checkpoint(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, folder = Trainer._save_rng_state, tmp_path / "out"

    def die(self: Trainer, output: str) -> None:
        if self.state.global_step == 4:
            raise KilledError
        save(self, output)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_save_rng_state", die)
        with pytest.raises(KilledError):
            train(folder)
    assert (folder / "checkpoint-4" / "optimizer.pt").is_file()
    assert train(folder, "--resume_from_checkpoint", "true") == 0
    assert same_weights(folder, whole)


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Let an error come at step 3 of the next training."""

    def at_step_3(error: BaseException) -> None:
        class Stop(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == 3:
                    raise error

        make = Trainer.__init__

        def with_stop(self: Trainer, *given: Any, **named: Any) -> None:
            make(self, *given, **named)
            self.add_callback(Stop())

        monkeypatch.setattr(Trainer, "__init__", with_stop)

    return at_step_3


def test_after_ctrl_c(
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stopping: Callable[[BaseException], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopping(KeyboardInterrupt())
    assert train(tmp_path / "out") == 130
    assert "go on from the last whole checkpoint with --resume_from_checkpoint true" in capsys.readouterr().err
    monkeypatch.undo()
    assert train(tmp_path / "out", "--resume_from_checkpoint", "true") == 0
    assert same_weights(tmp_path / "out", whole)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] No space left on device"),
    ],
)
def test_a_full_disk(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str], stopping: Callable[[BaseException], None]
) -> None:
    stopping(error)
    assert train(tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert f"no space to store the run in {tmp_path / 'out'}" in told
    assert "--resume_from_checkpoint true" in told
