"""`hf-mixup methods`."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path

from hf_mixup.cli.command import Command
from hf_mixup.cli.parser import Parser


def flags(parser: argparse.ArgumentParser) -> None:
    from hf_mixup.utils.constants import MODALITIES

    text = f"show those for a modality ({', '.join(MODALITIES)}), or with a word in their description"
    parser.add_argument("words", nargs="*", metavar="WORD", help=text)
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--models", action="store_true", help="print what can be mixed in each architecture")


def run(arguments: list[str]) -> None:
    parser = Parser()
    flags(parser)
    chosen = parser.parse_args(arguments)
    if chosen.models:
        print(_survey(), end="")
        return
    from hf_mixup.experiments.listing import listed

    rows = listed(chosen.words)
    if not rows:
        raise ValueError(f"no method fits {' '.join(chosen.words)!r}: `hf-mixup methods` lists all")
    if chosen.json:
        print(json.dumps(rows, indent=1))
    elif chosen.markdown:
        cells = [{**row, "name": f"`{row['name']}`", "begin with": f"`{row['begin with']}`"}.values() for row in rows]
        for each in (rows[0], ("---",) * len(rows[0]), *cells):
            print(f"| {' | '.join(each)} |")
    else:
        for row in rows:
            about = textwrap.fill(row["blends"].replace("`", ""), 76, initial_indent="    ", subsequent_indent="    ")
            print(f"{row['name']}  {row['method']}  {row['paper']}\n{about}\n    begin with {row['begin with']}")


def _survey() -> str:
    """Return the table of architectures; a clone of the repository has it, an installed package does not."""
    table = Path(__file__).parents[1] / "testing" / "survey" / "ARCHITECTURES.md"
    if not table.is_file():
        raise FileNotFoundError(
            "the table of architectures is not installed: read "
            "https://github.com/hf-mixup/hf-mixup/blob/main/hf_mixup/testing/survey/ARCHITECTURES.md, or try a model "
            "with `hf-mixup check`"
        )
    return table.read_text(encoding="utf-8")


COMMAND = Command("list the mixing methods, or what can be mixed in each architecture", run, flags)
