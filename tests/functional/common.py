"""Batches, maps and loops that the tests of the kernels share."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


MODES = ["random", "match", "flip", "roll"]


LARGE_ROW = (3, 112, 112)  # above the size from which rows are processed one by one


SMALL_ROW = (3, 5, 7)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64 if dtype == torch.float64 else None).to(dtype)


def general_map(n: int, seed: int = 0) -> Tensor:
    """Trees hanging from cycles, rows that are nobody's partner, rows that are their own."""
    return torch.randint(n, (n,), generator=rng(seed))


def loop_blend(x: Tensor, partner: Tensor, lam: Tensor) -> Tensor:
    lam = lam.double().expand(len(x))
    rows = [lam[i] * x[i].double() + (1 - lam[i]) * x[partner[i]].double() for i in range(len(x))]
    return torch.stack(rows) if rows else x.double()


def loop_cut(x: Tensor, partner: Tensor, boxes: Tensor) -> Tensor:
    out = x.clone()
    for i, (top, left, bottom, right) in enumerate(boxes.expand(len(x), 4).tolist()):
        for row, column in itertools.product(range(top, bottom), range(left, right)):
            out[i, ..., row, column] = x[partner[i], ..., row, column]
    return out


def ulp(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Spacing of ``dtype`` at each (float64) value."""
    info = torch.finfo(dtype)
    exponent = torch.frexp(value.abs().clamp(min=info.tiny)).exponent - 1
    return torch.ldexp(torch.full_like(value, info.eps), exponent)


LAYOUTS = {
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed rows": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "batch inside": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every second row": lambda x: x.repeat_interleave(2, 0)[::2],
    "crop": lambda x: F.pad(x, (1, 2, 3, 1))[..., 3:-1, 1:-2],
    "batch innermost": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
}
