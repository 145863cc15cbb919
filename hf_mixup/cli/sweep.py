"""`hf-mixup sweep`."""

from __future__ import annotations

from typing import Any

from hf_mixup.cli.command import MIXING, TRAINING, Command
from hf_mixup.cli.settings import again, look_ahead, parse


def run(arguments: list[str]) -> None:
    from hf_mixup.experiments.sweep.arguments import require_packages

    require_packages()
    look_ahead("sweep", arguments, "dataset", "model", "output_dir")
    sweeping, task, mixup, args = parse("sweep", arguments, shared=True, check=_check)
    from hf_mixup.experiments.sweep.run import sweep

    sweep(sweeping, task, mixup, args, command=again("sweep", arguments))


def _check(sweeping: Any, task: Any, mixup: Any) -> None:
    from hf_mixup.experiments.sweep.methods import swept_methods

    swept_methods(sweeping, mixup)


COMMAND = Command(
    "try methods, alpha, prob and layers, and leave the best settings as a file for train",
    run,
    usual=(
        *("methods", "alphas", "probs", "layer_sets", "trials", "control_seeds", "select_by", "storage", "ray"),
        *(MIXING, TRAINING),
    ),
)
