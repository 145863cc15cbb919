"""Which checkpoint a stopped run goes on from: the last one that is whole."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import TrainingArguments

from hf_mixup.utils.files import check_writable, read_json

_FOLDER = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state.json"
# Of each group a checkpoint has one at least; the names are those of the Trainer, of FSDP and of DeepSpeed.
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*", "global_step*")
_PROGRESS = {
    "optimizer": ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    "schedule of the learning rate": ("scheduler.pt", "global_step*"),
    "states of the random generators": ("rng_state*.pth",),
}


def checkpoint_to_resume(args: TrainingArguments, overwrite: bool = False) -> str | None:
    """Return the checkpoint that `resume_from_checkpoint` asks for: a path, or true for the last one that is whole.

    A run that is killed while it writes a checkpoint leaves a part of one. Such parts are passed over, which is told;
    where there is no other, training starts anew.

    Raises:
        ValueError: if there is no such checkpoint, the named one is not whole, or the output folder cannot be written,
            or holds files and nothing says to go on.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> checkpoint_to_resume(TrainingArguments(folder)) is None  # an empty folder: start anew
    True
    >>> checkpoint_to_resume(TrainingArguments(folder, resume_from_checkpoint="true"))
    Traceback (most recent call last):
    ...
    ValueError: resume_from_checkpoint: ... holds no checkpoint
    """
    wanted, output = str(args.resume_from_checkpoint), Path(str(args.output_dir))
    check_writable(output)
    if wanted.lower() == "true":
        return _last_whole(output, args)
    if wanted.lower() not in ("none", "false"):
        _refuse_broken(Path(wanted), args.save_only_model)
        return wanted
    if not overwrite and output.is_dir() and any(output.iterdir()):
        raise ValueError(
            f"output_dir: {output} is not empty: go on with --resume_from_checkpoint true, train into it with "
            "--overwrite_output_dir, or name another"
        )
    return None


def checkpoints_in(output: Path) -> list[Path]:
    """Return the folders of checkpoints, the last step first."""
    steps = {
        each: int(found[1])
        for each in (output.iterdir() if output.is_dir() else ())
        if each.is_dir() and (found := _FOLDER.fullmatch(each.name))
    }
    return sorted(steps, key=lambda each: steps[each], reverse=True)


def _last_whole(output: Path, args: TrainingArguments) -> str | None:
    found = checkpoints_in(output)
    if not found:
        raise ValueError(f"resume_from_checkpoint: {output} holds no checkpoint")
    told = args.process_index == 0
    for checkpoint in found:
        fault = fault_of(checkpoint, args.save_only_model)
        if fault is None:
            if told and checkpoint != found[0]:
                print(f"going on from {checkpoint}", file=sys.stderr)
            return str(checkpoint)
        if told:
            print(f"warning: {checkpoint} is passed over, as it is not whole: {fault}", file=sys.stderr)
    if told:
        print(f"warning: {output} holds no whole checkpoint: training starts anew", file=sys.stderr)
    return None


def _refuse_broken(checkpoint: Path, weights_only: bool) -> None:
    if not checkpoint.is_dir():
        raise ValueError(f"resume_from_checkpoint: no such folder: {checkpoint}")
    fault = fault_of(checkpoint, weights_only)
    if fault is not None:
        raise ValueError(f"resume_from_checkpoint: {checkpoint} is not whole: {fault}; true takes the last whole one")


def fault_of(checkpoint: Path, weights_only: bool = False) -> str | None:
    """Return what a checkpoint of the Trainer lacks, or which of its files is cut off; None for a whole one.

    With `save_only_model` there are the weights only, and no optimizer to go on with.

    >>> import tempfile
    >>> fault_of(Path(tempfile.mkdtemp()))
    'it has no trainer_state.json'
    """
    if not (checkpoint / _STATE).is_file():  # the Trainer writes it last
        return f"it has no {_STATE}"
    if not _has(checkpoint, _WEIGHTS):
        return "it has no weights"
    for part, names in {} if weights_only else _PROGRESS.items():
        if not _has(checkpoint, names):
            return f"it has no {part} ({names[0]})"
    for path in sorted(each for each in checkpoint.rglob("*") if each.is_file()):
        if not _reads(path):
            return f"{path.relative_to(checkpoint)} is cut off or cannot be read"
    return _lost_shard(checkpoint)


def _has(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(any(folder.glob(pattern)) for pattern in patterns)


def _lost_shard(checkpoint: Path) -> str | None:
    for index in checkpoint.glob("*.index.json"):
        shards = read_json(index).get("weight_map", {}).values()
        for name in sorted(set(shards)):
            if not (checkpoint / name).is_file():
                return f"it has no {name}, which {index.name} names"
    return None


def _reads(path: Path) -> bool:
    """Whether a file is whole, as far as its kind tells."""
    try:
        if path.suffix == ".json":
            read_json(path)
        if path.suffix == ".safetensors":
            safe_open(path, framework="np")  # compares the file's length with that in its header
        # A ZIP file's list of contents is at its end. What torch wrote before 1.6 was none, and is never this new.
        return path.suffix not in (".pt", ".pth", ".bin") or zipfile.is_zipfile(path)
    except (OSError, ValueError, SafetensorError):
        return False
