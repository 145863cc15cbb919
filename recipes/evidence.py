"""The figures of the README: the commands that measure them, and the tables made of what these leave.

    python recipes/evidence.py                # all of it: about three hours on two CPU cores, less with a GPU
    python recipes/evidence.py image audio    # some of it
    python recipes/evidence.py --tables       # measure nothing, write the tables from recipes/results/ anew

A command that was stopped goes on where it was. Each part leaves `recipes/results/PART.json`, with the scores of every seed,
the differences to the controls, the commands and what they ran on; the tables of README.md are made of these files alone.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_mixup.files import write_text
from hf_mixup.report.environment import hardware, versions
from hf_mixup.report.results import aggregate, methods_and_splits
from hf_mixup.report.statistics import Difference
from hf_mixup.report.verdict import judgement

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "recipes" / "results"
PAGES = (ROOT / "README.md", ROOT / "recipes" / "README.md")
RUNS = "runs/evidence"
# A mark for each control, and for each verdict on a method: better or worse than it, beyond noise.
MARKS = {"none": {1: "▲", -1: "▼", 0: ""}, "smoothing": {1: "△", -1: "▽", 0: ""}}

CALIBRATED = {
    "accuracy": "accuracy",
    "ece": "ECE",
    "ece_temperature": "ECE, refitted",
    "nll": "NLL",
    "nll_temperature": "NLL, refitted",
}
RETRIEVED = {
    "i2t_r1": "R@1, picture to caption",
    "t2i_r1": "R@1, caption to picture",
    "mean_recall": "mean recall",
    "nll": "NLL",
    "nll_temperature": "NLL, refitted",
    "ece": "ECE",
    "ece_temperature": "ECE, refitted",
}


@dataclass(frozen=True)
class Part:
    """A part of the evidence.

    Args:
        commands: run in order, in the root of the repository.
        folder: where the last one leaves `results.json`.
        tables: columns by split, each with its heading.
    """

    commands: Sequence[str]
    folder: str
    tables: Mapping[str, Mapping[str, str]]


def _compared(name: str, arguments: str, tables: Mapping[str, Mapping[str, str]]) -> Part:
    folder = f"{RUNS}/{name}"
    return Part([f"hf-mixup compare {arguments} --output_dir {folder}"], folder, tables)


PARTS = {
    "image": _compared(
        "image",
        "recipes/configs/emoji_image.yaml --methods none,smoothing,mixup,cutmix,switch,manifold,adversarial --seeds 5",
        {"test": CALIBRATED, "test_shifted": CALIBRATED},
    ),
    "text_few": _compared("text_few", "recipes/configs/emoji_few.yaml", {"test": CALIBRATED}),
    "text_noise": _compared(
        "text_noise", "recipes/configs/emoji_few.yaml --few_shot 50 --label_noise 0.4", {"test": CALIBRATED}
    ),
    "pairs": _compared(
        "pairs", "recipes/configs/emoji_pairs.yaml --seeds 5", {"test": RETRIEVED, "test_shifted": RETRIEVED}
    ),
    "audio": _compared(
        "audio",
        "recipes/configs/instruments.yaml --methods none,smoothing,mixup,specmix,manifold --seeds 5",
        {"test": CALIBRATED, "test_shifted": CALIBRATED},
    ),
}


def measure(name: str) -> None:
    """Run the commands of a part and keep what its tables need.

    Raises:
        subprocess.CalledProcessError: if a command fails; what it finished is kept, for the next time.
    """
    part = PARTS[name]
    for command in part.commands:
        print(f"$ {command}", flush=True)
        program, *arguments = shlex.split(command)
        subprocess.run([sys.executable, "-m", _MODULES[program], *arguments], cwd=ROOT, check=True)
    kept = collected(part, ROOT / part.folder)
    kept |= {"environment": {**versions(), "hardware": hardware()}}
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / f"{name}.json", json.dumps(kept, indent=1) + "\n")


_MODULES = {"hf-mixup": "hf_mixup.cli"}


def collected(part: Part, folder: Path) -> dict[str, Any]:
    """Return the commands, scores and differences of a part, without what its tables do not show."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    differences = json.loads((folder / "differences.json").read_text(encoding="utf-8"))
    shown = [
        {**each, "metrics": {name: _short(each["metrics"].get(name)) for name in part.tables[each["split"]]}}
        for each in results
        if each["split"] in part.tables
    ]
    asked = [
        {name: _short(value) for name, value in each.items()}
        for each in differences
        if each["metric"] in part.tables.get(each["split"], {})
    ]
    return {"commands": list(part.commands), "results": shown, "differences": asked}


def _short(value: Any) -> Any:
    """Round a number to more digits than any table shows."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def section(name: str) -> str:
    """Return the commands and tables of a part as Markdown, from its results file."""
    kept = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    part = PARTS[name]
    blocks = ["\n".join(["```bash", *part.commands, "```"])]
    blocks += [table(kept, split, columns) for split, columns in part.tables.items()]
    return "\n\n".join(blocks)


def table(kept: Mapping[str, Any], split: str, columns: Mapping[str, str]) -> str:
    """Return the table of a split: mean and deviation over seeds, with marks for what is beyond noise."""
    summaries = aggregate(each for each in kept["results"] if each["split"] == split)
    known = {(d["method"], d["control"], d["metric"]): _difference(d) for d in kept["differences"] if d["split"] == split}
    lines = [[f"on `{split}`", *columns.values()], ["---"] * (len(columns) + 1)]
    for method in methods_and_splits(summaries)[0]:
        cells = []
        for metric in columns:
            marks = [
                signs[judgement(metric, known[method, control, metric])]
                for control, signs in MARKS.items()
                if (method, control, metric) in known
            ]
            cells.append(" ".join(filter(None, [str(summaries[method, split][metric]), "".join(marks)])))
        lines.append([method.replace(":", ", "), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _difference(found: Mapping[str, Any]) -> Difference:
    names = ("estimate", "low", "high", "p", "seeds", "rows", "failed")
    return Difference(**{name: np.nan if found[name] is None else found[name] for name in names})


def with_sections(text: str) -> str:
    """Return a page with everything between `<!-- evidence PART -->` and `<!-- /evidence -->` made anew."""

    def made(match: re.Match[str]) -> str:
        return f"{match[1]}\n{section(match[2])}\n{match[3]}"

    return re.sub(r"(<!-- evidence (\w+) -->).*?(<!-- /evidence -->)", made, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} [all]")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    given = parser.parse_args()
    for name in given.parts:
        if name not in PARTS:
            parser.error(f"no part {name!r}: choose of {', '.join(PARTS)}")
    for name in () if given.tables else given.parts or PARTS:
        measure(name)
    for page in PAGES:
        write_text(page, with_sections(page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
