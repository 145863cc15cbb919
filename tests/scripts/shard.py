"""Train a tiny BERT in a hand-written loop, sharded by FSDP2 if there are several processes."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from hf_mixup import Mixup
from hf_mixup.experiments.mixing import SharedSettings
from tests.conftest import batch_of, build

ROWS, STEPS = 8, 3


def shard(folder: str, method: str) -> dict[str, Any]:
    """Return the whole weights and the losses."""
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    model = build("bert").train()
    if processes > 1:
        mesh = init_device_mesh("cpu", (processes,))
        for block in model.bert.encoder.layer:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    optimizer, mixup = (
        torch.optim.SGD(model.parameters(), lr=0.1),
        Mixup(SharedSettings({"layers": [1]}).for_method(method)),
    )
    mixup.prepare(model)
    each = ROWS // processes
    mine = slice(rank * each, (rank + 1) * each)
    losses = []
    for step in range(STEPS):
        batch = {key: value[mine] for key, value in batch_of("bert", ROWS, seed=step, lengths=True).items()}
        lam = torch.linspace(0.1, 0.9, ROWS)[mine]
        with mixup(model, batch, partner=torch.arange(each) ^ 1, lam=lam) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if processes > 1:
            dist.all_reduce(loss.detach_())
        losses.append(float(loss.detach()) / processes)
    weights = {
        key: (value.full_tensor() if isinstance(value, DTensor) else value).detach()
        for key, value in model.state_dict().items()
    }
    sharded = all(isinstance(parameter, DTensor) for parameter in model.parameters())
    return {"weights": weights, "losses": losses, "sharded": sharded}
