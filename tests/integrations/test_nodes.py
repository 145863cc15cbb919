"""The documented commands for several machines: two launchers on this one, which meet as two machines do."""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args

import hf_mixup
import hf_mixup.methods.base
from tests.integrations.launched import check_equal
from tests.scripts.cases import neighbours
from tests.scripts.engines import spread

PAGE = (Path(hf_mixup.__file__).parent / "docs" / "distributed.md").read_text(encoding="utf-8")
COMMAND = re.search(r"^torchrun .*$", PAGE, re.MULTILINE)
SCRIPT = re.search(r"^#!/bin/bash\n.*?(?=^```)", PAGE, re.MULTILINE | re.DOTALL)
SLURM = {"SLURM_JOB_NODELIST": "node[0-1]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "run1"}
STUBS = 'srun() { "$@"; }; scontrol() { printf "node0\\nnode1\\n"; }; torchrun() { printf "%s\\n" "$@"; }; '


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def launch(arguments: list[str], folder: str) -> None:
    """Be the launcher of one machine, with one process."""
    config, _, _ = config_from_args(parse_args(arguments))
    config.start_method, config.nproc_per_node = "fork", 1
    elastic_launch(config, train)(folder)


def train(folder: str) -> None:
    end = spread(folder, "ddp", "vit", "mixup", 2)
    if os.environ["RANK"] == "0":
        torch.save(end, f"{folder}/end.pt")


def test_two_launchers_train_as_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_mixup.methods.base, "pair", neighbours)
    assert COMMAND is not None
    arguments = shlex.split(COMMAND[0].replace("node0:29500", f"localhost:{free_port()}"))[1:]
    assert "--nnodes=2" in arguments
    fork = multiprocessing.get_context("fork")
    nodes = [fork.Process(target=launch, args=(arguments, str(tmp_path))) for _ in range(2)]
    for each in nodes:
        each.start()
    for each in nodes:
        each.join(timeout=200)
    assert [each.exitcode for each in nodes] == [0, 0]
    shared: Any = torch.load(tmp_path / "end.pt", weights_only=True)
    assert shared["kind"] == "MULTI_CPU"
    check_equal(shared, spread(str(tmp_path / "one"), "ddp", "vit", "mixup", 4))


def test_the_script_for_slurm_is_the_command() -> None:
    assert SCRIPT is not None
    assert COMMAND is not None
    ran = subprocess.run(
        ["bash", "-c", STUBS + SCRIPT[0]], env={**os.environ, **SLURM}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == shlex.split(COMMAND[0])[1:]
