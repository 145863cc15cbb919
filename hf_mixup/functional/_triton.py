"""The blend as one fused pass on a CUDA device. Imported only when one is used."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def _blend_kernel(x, out, partner, own, other, batch, row_size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    blocks_a_row = (row_size + BLOCK - 1) // BLOCK
    row = (tl.program_id(0) // blocks_a_row).to(tl.int64)  # 64 bits: a batch may hold more than 2**31 elements
    column = (tl.program_id(0) % blocks_a_row) * BLOCK + tl.arange(0, BLOCK)
    in_row = column < row_size
    source = tl.load(partner + row)
    # Checking partners on the host would synchronise: a bad one reads nothing and gives NaN.
    readable = column < tl.where((source >= 0) & (source < batch), row_size, 0)
    own_weight = tl.load(own + row)
    a = tl.load(x + row * row_size + column, mask=in_row).to(own_weight.dtype)
    b = tl.load(x + source * row_size + column, mask=readable, other=float("nan")).to(own_weight.dtype)
    mixed = a * own_weight + b * tl.load(other + row)
    tl.store(out + row * row_size + column, mixed.to(out.dtype.element_ty), mask=in_row)


def supports(x: Tensor) -> bool:
    """Whether the rows of x lie dense in memory, one after the other (contiguous, channels_last)."""
    dense = torch.empty_like(x, device="meta").stride() == x.stride()  # empty_like keeps the strides of dense tensors
    return dense and x.stride(0) == x.numel() // len(x)


def blend(x: Tensor, partner: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """own * x + other * x[partner], out of place; computed in the weights' dtype and rounded once."""
    batch, row_size = len(x), x.numel() // len(x)
    out = torch.empty_like(x)
    own, other = own.expand(batch).contiguous(), other.expand(batch).contiguous()
    grid = (batch * triton.cdiv(row_size, BLOCK),)
    # No fused multiply-add: the same two rounded products and rounded sum as everywhere else.
    _blend_kernel[grid](x, out, partner, own, other, batch, row_size, BLOCK=BLOCK, enable_fp_fusion=False)
    return out
