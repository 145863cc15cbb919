"""A worker of a sweep that trains nothing: python -m tests.sweep_worker LOG HANGS CONFIG [--setting value ...].

It writes into LOG what it trains. With HANGS of 1 its first trial of mixing never ends; the others begin theirs then.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from hf_mixup import cli
from hf_mixup.experiments.compare import one_run
from hf_mixup.experiments.compare.plan import Run
from hf_mixup.experiments.sweep import run as sweep_run
from hf_mixup.experiments.sweep import storage
from tests import fake_runs


def write(log: Path, *words: object) -> None:
    with log.open("a") as file:
        file.write(" ".join(map(str, (os.getpid(), *words))) + "\n")


def main(log: Path, hangs: bool) -> int:
    def train_run(run: Run, args: Any, show: Any, watch: Any) -> None:
        write(log, run.variant.label, run.seed)
        mixes, deadline = not run.variant.mixup.off, time.monotonic() + 200
        if hangs and mixes:
            write(log, "hangs")
            time.sleep(600)
        while mixes and "hangs" not in log.read_text():
            if time.monotonic() > deadline:
                raise TimeoutError("the other worker does not come")
            time.sleep(0.05)
        fake_runs.leave(run, Path(args.output_dir))

    one_run.train_run = train_run
    storage._BEAT, storage._SILENT, sweep_run.LOOKS = 1, 3, 0.2
    return cli.main(["sweep", *sys.argv[3:]])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] == "1"))
