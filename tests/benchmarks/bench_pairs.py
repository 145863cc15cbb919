"""Cached gradients: a large batch of pairs in the memory of a chunk.

    python tests/benchmarks/bench_pairs.py [--pairs 4096] [--chunk 128]
    python tests/benchmarks/bench_pairs.py --cached 1024 4096 16384    # batches that no memory holds as a whole

Each way runs in a process of its own, so that its peak of memory is its own; the gradients are compared at the end.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import torch
from alone import alone
from rich.console import Console
from rich.table import Table
from transformers import CLIPConfig, CLIPModel

from hf_mixup import Mixup


def pairs(rows: int) -> tuple[CLIPModel, dict[str, torch.Tensor]]:
    """Return a small CLIP and a batch of pairs, the same in every process."""
    torch.manual_seed(0)
    tower = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    text = {**tower, "vocab_size": 1000, "max_position_embeddings": 24, "eos_token_id": 999}
    vision = {**tower, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))
    ids = torch.randint(3, 990, (rows, 24))
    ids[:, -1] = 999
    return model, {"pixel_values": torch.randn(rows, 3, 32, 32), "input_ids": ids}


def step(rows: int, chunk: int | None, answer: Any) -> None:
    """Run one mixed step twice; answer with peak memory beyond the start, seconds of the second, and gradients."""
    model, batch = pairs(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        mixup = Mixup({"method": "cross_modal", "chunk_size": chunk})
        model.zero_grad()
        start = time.perf_counter()
        with mixup(model, batch) as mixed:
            outputs = mixed.forward(model)
        mixed.loss(outputs).backward()
        seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    answer.send((peak, seconds, torch.cat([p.grad.flatten() for p in model.parameters()]).numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4096)
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--cached", type=int, nargs="+", metavar="PAIRS", help="batches in chunks alone")
    arguments = parser.parse_args()
    ways: dict[str, tuple[int, int | None]] = {f"{arguments.chunk} pairs": (arguments.chunk, None)}
    if not arguments.cached:
        ways[f"{arguments.pairs} pairs, whole"] = (arguments.pairs, None)
    for rows in arguments.cached or [arguments.pairs]:
        ways[f"{rows} pairs, chunk_size={arguments.chunk}"] = (rows, arguments.chunk)
    found = {name: alone(step, *way) for name, way in ways.items()}
    table = Table("batch", "peak memory, MB", "step, s", "time of a pair, ratio")
    each = [seconds / rows for (_, seconds, _), (rows, _) in zip(found.values(), ways.values())]
    for (name, (peak, seconds, _)), ratio in zip(found.items(), each):
        table.add_row(name, f"{peak:.0f}", f"{seconds:.2f}", f"{ratio / each[0 if arguments.cached else 1]:.2f}")
    Console(width=100).print(table)
    if arguments.cached:
        return
    whole, cached = (torch.from_numpy(values[2]) for values in list(found.values())[1:])
    print(f"largest difference of the gradients: {float((whole - cached).abs().max() / whole.abs().max()):.1e} of the")
    print("largest gradient. What the chunked batch holds beside a chunk are its pixels, twice, and the embeddings.")


if __name__ == "__main__":
    main()
