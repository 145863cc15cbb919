"""`hf-mixup train`."""

from __future__ import annotations

from hf_mixup.cli.command import MIXING, TRAINING, Command
from hf_mixup.cli.settings import look_ahead, parse
from hf_mixup.cli.starting import start


def run(arguments: list[str]) -> None:
    config = look_ahead("train", arguments, "dataset", "model", "output_dir", "resume_from_checkpoint")
    task, mixup, args = parse("train", arguments, shared=False, **start("train", config, arguments))
    from hf_mixup.experiments.tasks.train import train

    train(task, mixup, args)


COMMAND = Command(
    "train one model and leave it, its metrics and its model card in the output folder",
    run,
    usual=(MIXING, TRAINING),
)
