"""The two-target loss against the plain loss of a language model, at a large vocabulary.

    python tests/benchmarks/bench_tokens.py [--tokens 2048] [--vocabulary 131072] [--rounds 3]

Plain is what transformers does: logits to float32, then `cross_entropy`. Each way runs in a process of its own, so that
its peak of memory is its own; the rounds are interleaved. Both costs are linear in the tokens: the plain loss at
8 x 1,024 tokens and float32 takes 17 GB, so fewer are the default.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from alone import alone
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from hf_mixup.functional import two_target_cross_entropy

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain(logits: Tensor, own: Tensor, other: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), own)


def two_targets(logits: Tensor, own: Tensor, other: Tensor) -> Tensor:
    lam = torch.full(own.shape, 0.7)
    return two_target_cross_entropy(logits, own, other, lam, 1 - lam) / len(own)


def one_target(logits: Tensor, own: Tensor, other: Tensor) -> Tensor:
    return two_targets(logits, own, torch.full_like(other, -100))


def work(loss: Loss, tokens: int, vocabulary: int, dtype: torch.dtype, answer: Any) -> None:
    """Answer with the peak memory of logits, loss and gradient in MB, and the seconds of the fastest of three runs."""
    torch.manual_seed(0)
    own, other = torch.randint(vocabulary, (2, tokens))
    two_targets(torch.randn(2, 3, requires_grad=True), *torch.zeros(2, 2, dtype=torch.long)).backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    logits = torch.empty(tokens, vocabulary, dtype=dtype).normal_().requires_grad_()
    seconds = []
    for _ in range(3):
        logits.grad = None
        start = time.perf_counter()
        loss(logits, own, other).backward()
        seconds.append(time.perf_counter() - start)
    answer.send(((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, min(seconds)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=131072)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    table = Table("logits", "loss", "peak memory, MB", "ratio", "forward and backward, s", "ratio")
    for dtype in (torch.float32, torch.bfloat16):
        losses = (plain, one_target, two_targets)
        rounds = [
            [alone(work, loss, arguments.tokens, arguments.vocabulary, dtype) for loss in losses]
            for _ in range(arguments.rounds)
        ]
        found = [[statistics.median(values) for values in zip(*each)] for each in zip(*rounds)]
        for loss, (peak, seconds) in zip(losses, found):
            ratios = [f"{value / base:.2f}" for value, base in zip((peak, seconds), found[0])]
            name = loss.__name__.replace("_", " ")
            table.add_row(str(dtype)[6:], name, f"{peak:.0f}", ratios[0], f"{seconds:.2f}", ratios[1])
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
