"""Examine the classes of all auto mappings: `python -m hf_mixup.testing.reach` writes REACH.md and REACH.json."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_mixup.testing.families import FAMILIES
from hf_mixup.testing.reach.survey import cases, examine
from hf_mixup.testing.reach.table import JSON, examine_all, render, to_json


def main(arguments: list[str] | None = None) -> None:
    """Write the tables of all families, or print that of some architectures."""
    parser = argparse.ArgumentParser(prog="python -m hf_mixup.testing.reach", description=__doc__)
    parser.add_argument("--family", nargs="+", default=FAMILIES, choices=FAMILIES, metavar="FAMILY")
    parser.add_argument("--models", nargs="+", metavar="MODEL_TYPE", help="print the rows of these architectures alone")
    parser.add_argument("--processes", type=int, help="how many processes (default: one a core)")
    parser.add_argument("--out", type=Path, default=JSON.with_suffix(""), help="where, without an ending")
    chosen = parser.parse_args(arguments)
    if chosen.models:
        rows = [examine(*case) for case in cases(tuple(chosen.family)) if case[1] in chosen.models]
        print(to_json(rows), end="")
        return
    rows = examine_all(chosen.family, chosen.processes)
    chosen.out.with_suffix(".md").write_text(render(rows), encoding="utf-8")
    chosen.out.with_suffix(".json").write_text(to_json(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
