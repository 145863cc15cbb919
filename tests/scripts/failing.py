"""Train in two processes of which the second one fails."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset, IterableDataset
from transformers import TrainingArguments, default_data_collator

from hf_mixup import MixupConfig
from tests.conftest import build, examples
from tests.entry_points import ENTRY_POINTS

REASON = "the second process has failed"


def fails(second: bool) -> None:
    if second and os.environ["RANK"] == "1":
        raise RuntimeError(REASON)


class Rows(Dataset):
    """Samples, of which one cannot be read."""

    def __init__(self, rows: int, bad: int | None = None) -> None:
        self._rows, self._bad = examples("bert", rows), bad

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Any:
        fails(row == self._bad)
        return self._rows[row]


class Stream(IterableDataset):
    """A stream of which each process has its own part: the second one as many samples as are said."""

    def __init__(self, second: int) -> None:
        self._own = second if os.environ["RANK"] == "1" else 16

    def __iter__(self) -> Iterator[Any]:
        return iter(examples("bert", self._own))


def train(folder: str, where: str, entry_point: str = "trainer", steps: int = 3) -> int:
    """Train, with a failure where it is said; return how many steps were done."""
    model, rows = build("bert"), Rows(24, bad=6 if where == "dataset" else None)
    data: dict[str, Any] = {"train_dataset": rows, "eval_dataset": Rows(8, bad=2 if where == "evaluation" else None)}
    settings: dict[str, Any] = {}
    if where == "few":
        data["train_dataset"] = Rows(1)
    if where in ("ends", "empty"):
        data["train_dataset"] = Stream(4 if where == "ends" else 0)
        settings["accelerator_config"] = {"dispatch_batches": False, "split_batches": False}
    if where == "collator":
        batches = iter(range(100))
        data["data_collator"] = lambda samples: (fails(next(batches) == 1), default_data_collator(samples))[1]
    if where == "forward":
        passes = iter(range(100))
        model.bert.encoder.layer[0].register_forward_pre_hook(lambda *given: fails(next(passes) == 8))
    args = TrainingArguments(
        folder,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        max_steps=steps,
        eval_strategy="steps",
        eval_steps=2,
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **settings,
    )
    trainer = ENTRY_POINTS[entry_point](model, args, MixupConfig("manifold"), **data)
    try:
        return trainer.train().global_step
    except Exception:
        traceback.print_exc()  # as the interpreter does at the end of a script, before the other process notices
        raise
