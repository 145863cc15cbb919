"""How what mixing costs changes with the batch, the model and the number of inputs that are mixed.

    python tests/benchmarks/bench_scaling.py [--rounds 5]

Each row is a step of MixupTrainer against the plain Trainer's, as bench_step.py measures it: with `mixup`, on ViTs of
several sizes (images of 32 x 32 in patches of 8), and on tiny models whose samples have one input or two.
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table
from steps import Row, compare
from transformers import ViTConfig, ViTForImageClassification

from hf_mixup import Mixup
from hf_mixup.testing.batches import tiny

CLASSES = 10
SIZES = {  # by name: width, blocks, heads, and the batches that two CPU cores can be asked for
    "tiny (0.2 M)": (64, 4, 2, (8, 32, 128, 512, 1024)),
    "S (21 M)": (384, 12, 6, (8, 64)),
    "B (85 M)": (768, 12, 12, (8,)),
}
STREAMS = {  # by the inputs that are mixed
    "one: token ids": ("sequence-classification", "bert"),
    "two: image, token ids": ("visual-question-answering", "vilt"),
}


def sized(name: str, rows: int, rounds: int) -> Row:
    """Return the figures of `mixup` on a ViT and a batch."""
    width, blocks, heads, _ = SIZES[name]
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        image_size=32,
        patch_size=8,
        num_labels=CLASSES,
    )
    batch = {"pixel_values": torch.randn(rows, 3, 32, 32), "labels": torch.randint(CLASSES, (rows,))}
    return compare(name, ViTForImageClassification(config), batch, {"mixup": Mixup()}, rounds)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.manual_seed(0)
    cost = Table("ViT", "batch", "step, ms", "added, ms", "time, ratio to plain", "memory, ratio to plain")
    for name, (*_, batches) in SIZES.items():
        for rows in batches:
            found = sized(name, rows, given.rounds)
            figures = (f"{found[key]:.2f}" for key in ("step_ms", "added_ms", "ratio", "memory_ratio"))
            cost.add_row(name, str(rows), *figures)
    memory = Table("inputs", "model", "memory, ratio to plain", title="64 samples")
    for name, (family, kind) in STREAMS.items():
        model, batch = tiny(family, kind, samples=64)  # type: ignore[arg-type]
        if kind == "vilt":
            size = model.config.image_size
            batch["pixel_values"] = torch.randn(64, 3, size, size)
            batch["labels"] = torch.rand(64, model.config.num_labels)
        found = compare(name, model, batch, {"mixup": Mixup()}, 1)[1]
        memory.add_row(name, kind, f"{found['memory_ratio']:.2f}")
    console = Console(width=110)
    console.print(cost)
    console.print(memory)


if __name__ == "__main__":
    main()
