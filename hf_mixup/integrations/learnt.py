"""The networks of a method in the checkpoints of a Trainer."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_mixup.engine.learning import Learning

LEARNT_NAME = "mixup_learnt.pt"


def save_learnt(learning: Learning, folder: str) -> None:
    """Write what the networks of a method have learnt into a checkpoint; the model that is saved at the end needs none.

    >>> from hf_mixup.methods.registry import build
    >>> save_learnt(Learning(build("mixup")), "runs/checkpoint-3")  # which learns nothing
    """
    if learning and Path(folder).name.startswith(PREFIX_CHECKPOINT_DIR):
        torch.save(learning.state(), os.path.join(folder, LEARNT_NAME))


def begin_learning(learning: Learning, folder: str | None) -> None:
    """Begin a run, from what the checkpoint that it goes on from holds."""
    if not learning:
        return
    file = None if folder is None else Path(folder) / LEARNT_NAME
    if file is None or not file.is_file():
        if file is not None:
            warnings.warn(f"{file} is not there: the network of the method begins anew", UserWarning, stacklevel=2)
        return learning.begin()
    learning.begin(torch.load(file, map_location="cpu", weights_only=True))
