"""Examine the classes of all auto mappings: `python -m hf_mixup.testing.reach` fills REACH.md and REACH.json."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_mixup.testing.families import FAMILIES
from hf_mixup.testing.reach.survey import cases
from hf_mixup.testing.reach.table import JSON, LIMIT, examine_all, held_in, save


def main(arguments: list[str] | None = None) -> None:
    """Examine all classes, or some, and save each row as it is found, beside those that the tables hold already."""
    parser = argparse.ArgumentParser(prog="python -m hf_mixup.testing.reach", description=__doc__)
    parser.add_argument("--family", nargs="+", default=FAMILIES, choices=FAMILIES, metavar="FAMILY")
    parser.add_argument("--models", nargs="+", metavar="MODEL_TYPE", help="only these architectures")
    parser.add_argument("--missing", action="store_true", help="only classes that the tables lack, as after a cut")
    parser.add_argument("--processes", type=int, help="how many processes (default: one a core)")
    parser.add_argument(
        "--limit", type=int, default=LIMIT, metavar="SECONDS", help="for a class (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=JSON.with_suffix(""), help="the tables, without an ending")
    chosen = parser.parse_args(arguments)
    held = {(row.family, row.model_type) for row in held_in(chosen.out)} if chosen.missing else set()
    found = [
        case
        for case in cases(tuple(chosen.family))
        if case not in held and (not chosen.models or case[1] in chosen.models)
    ]
    for row in examine_all(found, chosen.processes, chosen.limit):
        save([row], chosen.out)


if __name__ == "__main__":
    main()
