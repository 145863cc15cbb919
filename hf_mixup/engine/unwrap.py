"""The model inside its wrappers."""

from __future__ import annotations

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside DDP, FSDP or torch.compile wrappers.

    Raises:
        TypeError: for anything that is no module, such as the name of a checkpoint.
        RuntimeError: for DataParallel, which splits a batch after its partners are drawn.

    >>> unwrap("bert-base-uncased")
    Traceback (most recent call last):
    ...
    TypeError: model='bert-base-uncased': expected a torch.nn.Module; AutoModelFor...from_pretrained loads a checkpoint
    """
    if not isinstance(model, nn.Module):
        expected = "expected a torch.nn.Module; AutoModelFor...from_pretrained loads a checkpoint"
        raise TypeError(f"model={model!r}: {expected}")
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
