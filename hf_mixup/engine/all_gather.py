"""Rows of all processes, with gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hf_mixup.models.hooks import hooks_of


def world_size() -> int:
    """Return the number of processes, 1 where there is no group of them."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_index() -> int:
    """Return the rank of this process, 0 where there is only one."""
    return dist.get_rank() if world_size() > 1 else 0


def first_row(rows: int) -> int:
    """Return where this process's rows begin among those of all, each having as many.

    >>> first_row(8)
    0
    """
    return rows * process_index()


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all processes in their order, [W * B, ...]; the tensor itself where there is one process.

    The gradient of a gathered row is the sum of what all processes make of it, sent back to the process that owns it.
    Together with the mean over processes that DDP takes, losses of all rows (or of a process's own rows against all)
    then give the gradients of one process with the whole batch.

    Raises:
        ValueError: if the processes have different numbers of rows.
    """
    if world_size() == 1:
        return rows
    return _Gather.apply(rows.contiguous())


def refuse_partitioned(model: str, parameters: Iterable[nn.Parameter]) -> None:
    """Refuse weights of a loss that DeepSpeed keeps in parts, which are whole only inside the model's forward pass.

    Args:
        model: its name.

    Raises:
        ValueError: naming the model and the ways out.

    >>> refuse_partitioned("CLIPModel", [nn.Parameter(torch.ones(()))])
    """
    from transformers.integrations import is_deepspeed_zero3_enabled  # augmentation does without transformers

    apart = any(hasattr(each, "ds_id") and not each.numel() for each in parameters)
    if apart or is_deepspeed_zero3_enabled():
        raise ValueError(
            f"DeepSpeed ZeRO-3 keeps the temperature of {model} in parts, and the loss of pairs reads it outside of "
            "the forward pass: use ZeRO-2 or DDP"
        )


def refuse_shared_samples(parts: Mapping[str, int | None]) -> None:
    """Refuse processes that share their samples: each draws lam and partners of its own, and they would not agree.

    Args:
        parts: over how many processes something is spread, by its name.

    Raises:
        ValueError: naming what is spread, and the ways out.

    >>> refuse_shared_samples({"layers (tensor parallelism)": 1})
    """
    for name, number in parts.items():
        if number is not None and number > 1:
            raise ValueError(
                f"{name} spread over {number} processes: they share their samples, and mixing draws lam and partners "
                "in each process anew. Use DDP, FSDP2 or DeepSpeed, or leave mixing out"
            )


def in_any(found: bool, device: torch.device | str) -> bool:
    """Return whether something was found in any process; all of them have to ask.

    >>> in_any(True, "cpu")
    True
    """
    if world_size() == 1:
        return found
    flag = torch.tensor(int(found), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def run_together(model: nn.Module) -> bool:
    """Whether a forward pass of a model waits for those of the other processes, which have to run it equally often.

    So it is where its weights lie in parts, which each pass puts together (FSDP2, ZeRO-3), and with SyncBatchNorm.

    >>> run_together(nn.Linear(1, 1))
    False
    """
    if world_size() == 1:
        return False
    if any(each.__name__ == "FSDPModule" for each in type(model).__mro__):
        return True
    if hasattr(next(model.parameters(), None), "ds_id"):
        return True
    found = hooks_of(model).cache  # to look through all modules at every step would cost
    if "synchronised" not in found:
        found["synchronised"] = any(isinstance(each, nn.SyncBatchNorm) for each in model.modules())
    return found["synchronised"]


def first_with(found: bool, device: torch.device | str) -> int | None:
    """Return the first process in which something was found, None where none has it; all of them have to ask.

    >>> first_with(True, "cpu")
    0
    """
    if world_size() == 1:
        return 0 if found else None
    rank = torch.tensor(process_index() if found else world_size(), device=device)
    dist.all_reduce(rank, dist.ReduceOp.MIN)
    return None if int(rank) == world_size() else int(rank)


def shared_from(rank: int, held: Any) -> Any:
    """Return what one process holds, in all of them; tensors should lie on the CPU.

    >>> shared_from(0, "held")
    'held'
    """
    if world_size() == 1:
        return held
    box: list[Any] = [held if rank == process_index() else None]
    dist.broadcast_object_list(box, src=rank)
    return box[0]


def check_equal_rows(rows: int, device: torch.device) -> None:
    """Refuse batches that differ between processes, which would hang or mix up the rows.

    Raises:
        ValueError: naming the sizes.
    """
    if world_size() == 1:
        return
    sizes = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([rows], device=device))
    found = [int(size) for size in sizes]
    if len(set(found)) > 1:
        raise ValueError(
            f"the processes hold {found} rows, and contrastive targets need as many in each: set "
            "dataloader_drop_last=True, or let Accelerate make batches even (even_batches)"
        )


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        whole = grads[0].contiguous().clone()
        dist.all_reduce(whole)
        start = first_row(ctx.rows)
        return whole[start : start + ctx.rows]
