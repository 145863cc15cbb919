"""What mixing adds to a step in Python: every entry point against the plain Trainer, where the model itself is nothing.

    python tests/benchmarks/bench_python.py [--steps 600] [--methods mixup embedding]

A ViT and a BERT of one tiny layer see four samples, so that a step is nearly all Python and the starting of operations,
on any device. The times are the process's own, from the end of a step to that of the next (reading, mixing, both
passes, the optimizer). The runs take turns, because a machine's speed drifts: of each the median step of the fastest
turn counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    default_data_collator,
)

from hf_mixup import MixupConfig

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests.entry_points, however this file was started
from tests.entry_points import ENTRY_POINTS, EntryPoint

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 3}
ROWS, TURNS, WARM_UP = 4, 20, 20
Made = tuple[nn.Module, list[dict[str, Any]]]


def vit(rows: int) -> Made:
    """Return a tiny ViT and images [3, 16, 16]."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(rows, 3, 16, 16, generator=rng)
    model = ViTForImageClassification(ViTConfig(**TINY, image_size=16, patch_size=8))
    return model, [{"pixel_values": each, "labels": number % 3} for number, each in enumerate(images)]


def bert(rows: int) -> Made:
    """Return a tiny BERT and texts of eight tokens."""
    ids = torch.randint(5, 100, (rows, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(8, dtype=torch.long)
    model = BertForSequenceClassification(BertConfig(**TINY, vocab_size=100))
    return model, [{"input_ids": each, "attention_mask": mask, "labels": number % 3} for number, each in enumerate(ids)]


MODELS: dict[str, tuple[Callable[[int], Made], tuple[str, ...]]] = {
    "ViT": (vit, ("mixup", "cutmix", "manifold")),
    "BERT": (bert, ("embedding", "manifold", "sentence")),
}


class Clock(TrainerCallback):
    """Takes the processor time at the end of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.process_time())


def plain(model: nn.Module, args: TrainingArguments, config: MixupConfig, **kwargs: Any) -> Trainer:
    """Return the Trainer that mixes nothing, in the shape of an entry point."""
    return Trainer(model=model, args=args, **kwargs)


def seconds(entry_point: EntryPoint, build: Callable[[int], Made], method: str, steps: int) -> np.ndarray:
    """Return what each step of a training takes, without the first ones."""
    torch.manual_seed(0)
    model, rows = build(ROWS * (steps + WARM_UP))
    args = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=ROWS, num_train_epochs=1, use_cpu=not torch.cuda.is_available(),
        report_to=[], disable_tqdm=True, save_strategy="no", logging_strategy="no", remove_unused_columns=False,
    )  # fmt: skip
    clock = Clock()
    config = MixupConfig(method)
    trainer = entry_point(
        model, args, config, train_dataset=rows, data_collator=default_data_collator, callbacks=[clock]
    )
    trainer.train()
    return np.diff(clock.ends)[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="of each run")
    parser.add_argument("--methods", nargs="+", help="some of those that are measured")
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("model", "method", "entry point", "plain step, ms", "added, ms", title="Python that mixing adds")
    for name, (build, methods) in MODELS.items():
        for method in (each for each in methods if given.methods is None or each in given.methods):
            points = {"none": plain, **ENTRY_POINTS}
            found: dict[str, list[float]] = {each: [] for each in points}
            for _ in range(TURNS):
                for each, entry_point in points.items():
                    found[each].append(float(np.median(seconds(entry_point, build, method, given.steps // TURNS))))
            fastest = {each: 1e3 * min(medians) for each, medians in found.items()}
            for each in ENTRY_POINTS:
                added = fastest[each] - fastest["none"]
                table.add_row(name, method, each, f"{fastest['none']:.2f}", f"{added:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
