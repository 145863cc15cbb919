"""The model inside its wrappers."""

from __future__ import annotations

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside DDP, FSDP or torch.compile wrappers.

    Raises:
        RuntimeError: for DataParallel, which splits a batch after its partners are drawn.
    """
    if isinstance(model, nn.DataParallel):
        raise RuntimeError(
            "DataParallel splits a batch after its partners are drawn: launch one process a device "
            "(`accelerate launch` or `torchrun`), or show the process a single device (CUDA_VISIBLE_DEVICES=0)"
        )
    wraps = model._modules.keys() & {"module", "_orig_mod"} or hasattr(type(model), "module")  # a property in FSDP
    if not wraps:
        return model  # asking Accelerate would walk through every submodule at every step
    from accelerate.utils import extract_model_from_parallel

    return extract_model_from_parallel(model, keep_fp32_wrapper=True, keep_torch_compile=False)
