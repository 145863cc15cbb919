"""SyncBatchNorm: torch has it for GPUs alone, so that a stand-in of it gathers here, in two processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

import hf_mixup.methods.base
from hf_mixup import Mixup
from tests.contrasts import batch_of, contrasts, resnet
from tests.integrations.launched import forked
from tests.scripts.cases import neighbours

ROWS, STEPS = 8, 6


class OnCpus(nn.SyncBatchNorm):
    """Normalises by the samples of all processes, each having as many."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count, world = input.numel() // input.shape[1], dist.get_world_size()
        mean = all_reduce(input.mean((0, 2, 3))) / world
        variance = all_reduce((input - mean[:, None, None]).square().mean((0, 2, 3))) / world
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * world * count / (world * count - 1), self.momentum)
        normal = (input - mean[:, None, None]) * (variance + self.eps).rsqrt()[:, None, None]
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


def synchronised(model: nn.Module) -> nn.Module:
    """Put the stand-in in the place of each batch norm."""
    for parent in [*model.modules()]:
        for name, each in parent.named_children():
            if isinstance(each, nn.BatchNorm2d):
                layer = OnCpus(each.num_features, each.eps, each.momentum)
                layer.load_state_dict(each.state_dict())
                setattr(parent, name, layer)
    return model


def train(file: str) -> None:
    """Train by hand on this process's share of each batch, and estimate the statistics of clean samples."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    model: Any = resnet().train()
    if world > 1:
        dist.init_process_group("gloo")
        synchronised(model)
    mixup, each = Mixup({"method": "mixup", "loss": "own", "prob": 0.5, "lam": 0.3}), ROWS // world
    optimizer, samples, batches, rates = torch.optim.SGD(model.parameters(), lr=0.1), contrasts(ROWS * STEPS), [], []
    for step in range(STEPS):
        start = step * ROWS + rank * each
        batches.append(batch_of(samples[start : start + each]))
        with mixup(model, batches[-1]) as mixed:
            loss = mixed.loss(model(**mixed.inputs))
        loss.backward()
        for weight in model.parameters() if world > 1 else ():
            dist.all_reduce(weight.grad)
            weight.grad /= world
        optimizer.step()
        optimizer.zero_grad()
        rates.append(mixed.rate)
    moved = {name: value.clone() for name, value in model.state_dict().items()}
    mixup.refresh_batch_norm(model, batches)
    if rank == 0:
        torch.save({"rates": rates, "moved": moved, "clean": model.state_dict()}, file)


def test_two_processes_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a second pass where a coin says so, which has to say the same in both: they exchange in each pass."""
    monkeypatch.setattr(hf_mixup.methods.base, "pair", neighbours)
    forked(train, str(tmp_path / "two.pt"))
    train(str(tmp_path / "one.pt"))
    two, one = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("two", "one"))
    assert two["rates"] == one["rates"]
    assert set(one["rates"]) == {0.0, 1.0}
    for kind in ("moved", "clean"):
        for name, value in one[kind].items():
            if "num_batches" not in name:
                torch.testing.assert_close(two[kind][name], value, rtol=1e-4, atol=1e-5)
