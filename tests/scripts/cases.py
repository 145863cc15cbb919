"""Run cases one after the other in the same processes; the first process writes what came out of each.

Rows 2i and 2i + 1 are blended with a fixed lam, so that the same rows are mixed however the batch is split.
"""

from __future__ import annotations

import gc
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import hf_mixup.methods.base
from tests.contrasts import contrast
from tests.integrations.processes import score, train_sequences, train_transcripts
from tests.scripts import leave
from tests.scripts.engines import resumed, spread, tried
from tests.scripts.firsts import firsts
from tests.scripts.shard import shard
from tests.scripts.stream import boxes, masks, pairs, shares, unlabelled
from tests.scripts.train import train

PROGRAMS = {"train": train, "shard": shard, "sequences": train_sequences, "score": score}
PROGRAMS |= {"transcripts": train_transcripts, "boxes": boxes, "masks": masks, "unlabelled": unlabelled}
PROGRAMS |= {"contrast": contrast, "shares": shares, "pairs": pairs}
PROGRAMS |= {"spread": spread, "resumed": resumed, "tried": tried, "firsts": firsts}


def neighbours(n: int, **kwargs: Any) -> torch.Tensor:
    return torch.arange(n) ^ 1


def run(folder: Path, program: str, *arguments: Any, **extra: Any) -> Any:
    return PROGRAMS[program](str(folder), *arguments, **extra)


def main(folder: Path) -> None:
    hf_mixup.methods.base.pair = neighbours
    dist.init_process_group("gloo", timeout=timedelta(minutes=1))  # one that waits for the other for ever says so
    gc.freeze()  # see tests/conftest.py
    for number, (arguments, extra) in enumerate(json.loads((folder / "cases.json").read_text())):
        print("case", number, arguments, extra, file=sys.stderr, flush=True)  # so that an error tells where
        end = run(folder, *arguments, **extra)
        if dist.get_rank() == 0:
            torch.save(end, folder / f"{number}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave()
