"""The kernel for CUDA, in Triton's interpreter and on a device."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

import hf_mixup.functional
from hf_mixup.functional import (
    blend,
    cut,
    cut_boxes,
    sample_lam,
    soft_cross_entropy,
    soft_targets,
)
from tests.functional.common import (
    DTYPES,
    LARGE_ROW,
    LAYOUTS,
    SMALL_ROW,
    general_map,
    randn,
    rng,
)


def interpreted_kernel(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The Triton module, executed by Triton's interpreter on CPU tensors."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    path = Path(hf_mixup.functional.__file__).with_name("_triton.py")
    spec = importlib.util.spec_from_file_location("interpreted_triton_kernel", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_row", [False, True])
def test_triton_kernel_interpreted_on_cpu(dtype: torch.dtype, per_row: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = interpreted_kernel(monkeypatch)
    x = randn(5, 2, 23, 29, dtype=dtype).to(memory_format=torch.channels_last)
    assert kernel.supports(x)
    assert not kernel.supports(x[::2])
    assert not kernel.supports(x[..., 1:])
    partner, lam = general_map(5), sample_lam(1.0, 5 if per_row else None, rng())
    wide = torch.promote_types(dtype, torch.float32)
    out = kernel.blend(x, partner, lam.to(wide), (1 - lam.to(wide)))
    expected = blend(x.clone().requires_grad_(), partner, lam)
    assert out.dtype == dtype
    assert out.stride() == x.stride()
    # Triton's interpreter truncates to bf16 where the device rounds.
    tolerance = torch.finfo(dtype).eps if dtype == torch.bfloat16 else 0
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=0)
    bad = kernel.blend(x, torch.tensor([1, 0, 7, -1, 2]), lam.to(wide), (1 - lam.to(wide)))
    assert bad.isnan().flatten(1).all(1).tolist() == [False, False, True, True, False]


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("row", [LARGE_ROW, SMALL_ROW])
def test_cuda_equals_cpu(dtype: torch.dtype, inplace: bool, per_row: bool, row: tuple) -> None:
    x, partner, lam = randn(7, *row, dtype=dtype), general_map(7), sample_lam(1.0, 7 if per_row else None, rng())
    expected = blend(x.clone().requires_grad_(), partner, lam)
    for layout in ("channels_last", "batch inside"):
        for device in ("cpu", "cuda"):
            y = LAYOUTS[layout](x.cuda())
            out = blend(y, partner.to(device), lam.to(device), inplace)
            assert (out is y) == inplace
            assert torch.equal(out.cpu(), expected)
    boxes = cut_boxes(row[1:], lam, rng())
    assert torch.equal(cut(x.cuda(), partner, boxes, inplace).cpu(), cut(x, partner, boxes))


@needs_cuda
def test_cuda_targets_and_loss_equal_cpu() -> None:
    labels, partner, lam = torch.tensor([0, -100, 2, 3, 1]), general_map(5), sample_lam(1.0, 5, rng())
    targets, logits = soft_targets(labels, partner, lam, 4, 0.1), randn(5, 4)
    on_device = soft_targets(labels.cuda(), partner, lam, 4, 0.1)
    assert torch.equal(on_device.cpu(), targets)
    loss = soft_cross_entropy(logits.cuda(), on_device)
    assert torch.allclose(loss.cpu(), soft_cross_entropy(logits, targets))
