"""`hf-mixup compare`."""

from __future__ import annotations

from typing import Any

from hf_mixup.cli.command import MIXING, TRAINING, Command
from hf_mixup.cli.settings import again, look_ahead, parse
from hf_mixup.cli.starting import start


def run(arguments: list[str]) -> None:
    config = look_ahead("compare", arguments, "dataset", "model", "output_dir")
    beginning = start("compare", config, arguments)
    comparison, task, mixup, args = parse("compare", arguments, shared=True, check=_check, **beginning)
    from hf_mixup.experiments.compare.run import compare

    compare(comparison, task, mixup, args, command=again("compare", arguments))


def _check(comparison: Any, task: Any, mixup: Any) -> None:
    from hf_mixup.experiments.compare.variants import parse_variants
    from hf_mixup.experiments.tasks.arguments import PAIRS

    parse_variants(comparison.methods, mixup, paired=task.task == PAIRS)


COMMAND = Command(
    "train with several methods and seeds, and compare them in a table and images",
    run,
    usual=("methods", "seeds", "fractions", "noises", "select_by", "ray", MIXING, TRAINING),
)
