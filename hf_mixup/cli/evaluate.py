"""`hf-mixup evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hf_mixup.cli.command import Command
from hf_mixup.cli.parser import own_flags
from hf_mixup.cli.settings import again, look_ahead, parse
from hf_mixup.cli.starting import saved_task

_EVAL_BATCH_SIZE = 128


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output_dir",
        type=Path,
        metavar="DIR",
        help="Folder for the results (default: CHECKPOINT/evaluation).",
    )


def run(arguments: list[str]) -> None:
    from hf_mixup.experiments.compare.store import is_comparison
    from hf_mixup.experiments.tasks.saved import check_folder

    if not arguments or arguments[0].startswith("-"):
        raise ValueError(
            "name the folder of a model or of a comparison first: hf-mixup evaluate CHECKPOINT [CONFIG] --suite ..."
        )
    checkpoint, *rest = arguments
    command = again("evaluate", arguments)
    # A configuration names the folder of the training there, and that is not where an evaluation goes.
    own, rest = own_flags(flags, rest)
    several = is_comparison(checkpoint)
    if not several:
        check_folder(checkpoint)
    config = look_ahead("evaluate", rest, "dataset")
    defaults: dict[str, Any] = {"per_device_eval_batch_size": _EVAL_BATCH_SIZE}
    if config is None:
        folder = Path(checkpoint)
        if several:
            from hf_mixup.experiments.evaluate.stored_runs import stored_runs

            folder = next(run.folder for run in stored_runs(folder) if run.folder is not None)
        defaults |= saved_task(folder, rest)
    evaluation, task, _, args = parse("evaluate", rest, shared=True, **defaults)
    if several:
        from hf_mixup.experiments.evaluate.every_run import evaluate_comparison

        evaluate_comparison(Path(checkpoint), evaluation, task, args, own.output_dir, command)
        return
    from hf_mixup.experiments.evaluate.run import evaluate

    evaluate(checkpoint, evaluation, task, args, own.output_dir, command)


COMMAND = Command(
    "score trained classifiers under shift, corruption, noise and attack: tables, images, model card",
    run,
    flags,
    usual=("suite", "tta", "corruptions", "severities", "adversarial_eps", "ood_dataset", "baseline"),
    first="CHECKPOINT ",
    more="CHECKPOINT is a folder with a model, or its name on the Hub, and comes first; what train and compare\n"
    "left knows its data, others need a CONFIG. Of the folder of a comparison all runs are scored, and compared.\n",
)
