"""Train a tiny model in one or several processes; the first writes the final weights and what it logged.

Rows 2i and 2i + 1 are blended with a fixed lam, so that the same rows are mixed however the batch is split.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

import hf_mixup.methods.base
from hf_mixup import MixupConfig
from tests.conftest import build, examples
from tests.doors import DOORS
from tests.scripts import leave


def neighbours(n: int, **kwargs: Any) -> torch.Tensor:
    return torch.arange(n) ^ 1


def main(door: str, name: str, method: str, rows: int, folder: str, extra: dict[str, Any]) -> None:
    hf_mixup.methods.base.pair = neighbours
    args = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=2,
        num_train_epochs=2,
        learning_rate=1e-2,
        optim="sgd",
        use_cpu=True,
        report_to=[],
        logging_steps=1,
        disable_tqdm=True,
    )
    config = MixupConfig(method, lam=0.3, layers=[1], **extra)
    trainer = DOORS[door](build(name), args, config, train_dataset=examples(name, 24))
    trainer.train()
    if trainer.is_world_process_zero():
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
        torch.save({"weights": weights, "logs": logs}, Path(folder) / "end.pt")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5], json.loads(sys.argv[6]))
    leave()
