"""Survey architectures and print the table: `python -m hf_mixup.testing > hf_mixup/testing/survey/ARCHITECTURES.md`."""

from __future__ import annotations

import argparse

from hf_mixup.testing.families import SCORED
from hf_mixup.testing.survey.survey import survey
from hf_mixup.testing.survey.table import render, table


def main() -> None:
    """Print the table of all families, of some, or of some architectures."""
    parser = argparse.ArgumentParser(prog="python -m hf_mixup.testing", description=__doc__)
    parser.add_argument("--family", nargs="+", default=SCORED, choices=SCORED, metavar="FAMILY")
    parser.add_argument("--models", nargs="+", metavar="MODEL_TYPE", help="only these architectures")
    chosen = parser.parse_args()
    if chosen.models:
        print(render(survey(family, kind) for family in chosen.family for kind in chosen.models), end="")
    else:
        print(table(chosen.family), end="")


if __name__ == "__main__":
    main()
