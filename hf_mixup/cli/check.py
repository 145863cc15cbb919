"""`hf-mixup check`."""

from __future__ import annotations

import argparse

from hf_mixup.cli.command import Command
from hf_mixup.cli.parser import Parser
from hf_mixup.cli.show import show

_WHAT_IT_SAYS = """exact: two samples were exchanged, and with lam = 0 each had its partner's outputs.
Anything else is the error with which training would stop. Depth 0 is before the first block,
1 after it, and so on; `manifold` draws among the depths that are exact."""


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="checkpoint (folder or Hub name), or model type: a tiny model of it is tried")
    text = "method to try (default: one for inputs or embeddings, and one for hidden layers)"
    parser.add_argument("--method", help=text)
    text = "what the model is trained for, e.g. token-classification (default: the model's class)"
    parser.add_argument("--family", help=text)


def run(arguments: list[str]) -> int:
    """Return 0 if the method (or any, where none is named) is exact at every depth, else 2."""
    parser = Parser(prog="hf-mixup check")
    flags(parser)
    chosen = parser.parse_args(arguments)
    from hf_mixup.experiments.tasks.saved import check_there

    check_there(chosen.model)
    from hf_mixup.methods import METHODS, unknown

    if chosen.method is not None and chosen.method not in METHODS:
        raise ValueError(f"method={chosen.method!r}: {unknown(chosen.method)}")
    from hf_mixup.experiments.check import EXACT, load, short_reason, try_model

    family, model = load(chosen.model, chosen.family)
    found = list(try_model(family, model, chosen.method))
    print(f"{type(model).__name__}, {family}")
    show(("method", "depth", "found"), [(each.method, each.depth, short_reason(each.verdict)) for each in found])
    print(_WHAT_IT_SAYS)
    by_method: dict[str, list[bool]] = {}
    for each in found:
        by_method.setdefault(each.method, []).append(each.verdict == EXACT)
    return 0 if any(map(all, by_method.values())) else 2


COMMAND = Command("try at which depths of a model its samples are mixed correctly", run, flags)
