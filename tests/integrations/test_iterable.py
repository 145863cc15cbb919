"""A stream of the user's own: what is tried before training takes no sample from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainingArguments

from hf_mixup import MixupConfig
from tests.conftest import CLASSES, build
from tests.entry_points import ENTRY_POINTS

_ROWS = 16  # four steps of two batches of two


class Once(IterableDataset[dict[str, Any]]):
    """Rows that can be read once, and which of them were read."""

    def __init__(self, rows: int = _ROWS) -> None:
        self.left, self.read = iter(range(rows)), []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in self.left:
            self.read.append(number)
            generator = torch.Generator().manual_seed(number)
            yield {"pixel_values": torch.rand(3, 16, 16, generator=generator), "labels": number % CLASSES}


def arguments(folder: Path, **settings: Any) -> TrainingArguments:
    usual = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 4, "save_strategy": "no"}
    usual |= {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
    return TrainingArguments(str(folder), **{**usual, **settings})


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_every_sample_of_a_stream_is_trained_on_in_its_turn(entry_point: str, tmp_path: Path) -> None:
    stream, config = Once(), MixupConfig("mixup", lam=0.3)
    trainer = ENTRY_POINTS[entry_point](build("vit"), arguments(tmp_path), config, train_dataset=stream)
    assert stream.read == []  # nothing is looked at before training
    trainer.train()
    assert trainer.state.global_step == 4
    assert stream.read == list(range(_ROWS))


def test_off_is_the_plain_trainer_on_a_stream_too(tmp_path: Path) -> None:
    ends = []
    for entry_point in (None, *ENTRY_POINTS):
        model, args = build("vit"), arguments(tmp_path)
        if entry_point is None:
            trainer = Trainer(model, args, train_dataset=Once())
        else:
            trainer = ENTRY_POINTS[entry_point](model, args, MixupConfig("mixup", prob=0.0), train_dataset=Once())
        trainer.train()
        ends.append(torch.cat([each.detach().flatten() for each in model.parameters()]))
    assert all(torch.equal(ends[0], end) for end in ends[1:])


def test_a_stream_that_ends_before_the_first_step_is_refused(tmp_path: Path) -> None:
    trainer = ENTRY_POINTS["trainer"](build("vit"), arguments(tmp_path), MixupConfig("mixup"), train_dataset=Once(0))
    with pytest.raises(ValueError, match="does not contain any data"):  # by Accelerate
        trainer.train()
