"""The figures of the documentation: the commands that measure them, and the tables made from their results.

    python recipes/evidence.py                # all of it: about two hours on two CPU cores
    python recipes/evidence.py image audio    # some of it
    python recipes/evidence.py --tables       # measure nothing, write the tables from recipes/results/ anew

A command that was stopped goes on where it was. Each part leaves `recipes/results/PART.json`, with the scores of every
seed, the differences to the controls, the commands and the hardware; the tables of the documentation are made from
these files.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_mixup.experiments.report.robustness import conditions
from hf_mixup.experiments.report.statistics import Difference
from hf_mixup.experiments.report.verdict import judgement
from hf_mixup.metrics.results import aggregate, methods_and_splits
from hf_mixup.utils.environment import hardware, versions
from hf_mixup.utils.files import write_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "recipes" / "results"
PAGES = (ROOT / "hf_mixup" / "docs" / "evidence.md", ROOT / "recipes" / "README.md")
RUNS = "runs/evidence"
# A mark for each control, and for each verdict on a method: better or worse than it, beyond noise.
MARKS = {"none": {1: "▲", -1: "▼", 0: ""}, "smoothing": {1: "△", -1: "▽", 0: ""}}

Columns = Sequence[tuple[str, str, str]]
"""Split, metric and heading of each column of a table."""


def calibrated(split: str) -> Columns:
    """Return the columns for classes on a split."""
    after = "after temperature scaling"
    names = {"ece": "ECE", "ece_temperature": f"ECE {after}", "nll": "NLL", "nll_temperature": f"NLL {after}"}
    return [(split, metric, heading) for metric, heading in {"accuracy": "accuracy", **names}.items()]


def retrieved(split: str) -> Columns:
    """Return the columns for pairs on a split."""
    found = {"i2t_r1": "R@1, image to caption", "t2i_r1": "R@1, caption to image", "mean_recall": "mean recall"}
    return [*((split, metric, heading) for metric, heading in found.items()), *calibrated(split)[1:]]


def predicted(split: str) -> Columns:
    """Return the columns for numbers on a split."""
    return [
        (split, metric, heading)
        for metric, heading in {"mse": "MSE", "mae": "MAE", "r2": "R²", "spearman": "Spearman"}.items()
    ]


def changed(score: str) -> Columns:
    """Return the columns of a score for images with texts: whole samples, and those with one side missing or noisy."""
    changes = ("no_text", "no_image", "noisy_text", "noisy_image")
    return [("test", score, "whole"), *((f"test_{each}", score, each.replace("_", " ")) for each in changes)]


def transcribed(splits: Mapping[str, str]) -> Columns:
    """Return the columns for transcripts on some splits, each with its name in the headings."""
    return [(split, metric, f"{name}{metric.upper()}") for split, name in splits.items() for metric in ("wer", "cer")]


PERTURBED: Columns = [
    ("test", "accuracy", "as they are"),
    ("test, corruption", "accuracy", "15 corruptions"),
    ("test, noise", "accuracy", "pixel noise"),
    ("test, adversarial fgsm", "accuracy", "FGSM 8/255"),
    ("test, adversarial pgd", "accuracy", "PGD 8/255"),
]
ATTACKED: Columns = [
    ("test", "accuracy", "as they are"),
    ("test", "nll", "as they are: NLL"),
    ("test, corruption", "accuracy", "15 corruptions"),
    ("test, adversarial fgsm", "accuracy", "FGSM 8/255"),
    ("test, adversarial pgd", "accuracy", "PGD 8/255"),
]
CONFIDENCE: Columns = [
    ("test", "ece", "as they are: ECE"),
    ("test, corruption", "ece", "15 corruptions: ECE"),
    ("test, adversarial pgd", "ece", "PGD: ECE"),
    ("test against shuffled_patches", "auroc_energy", "out-of-distribution detection, shuffled patches: AUROC"),
    ("test against gaussian_pixels", "auroc_energy", "out-of-distribution detection, noise: AUROC"),
]


@dataclass(frozen=True)
class Compared:
    """A part whose commands compare methods.

    Args:
        commands: run in order, in the root of the repository.
        folder: where one of them leaves `results.json` and `differences.json`.
        tables: columns by title.
        images: files in `folder` that the documentation shows, and what they are called there.
    """

    commands: Sequence[str]
    folder: str
    tables: Mapping[str, Columns]
    images: Mapping[str, str] = field(default_factory=dict)

    def collected(self) -> dict[str, Any]:
        """Return the scores and differences that the tables show, and copy the images."""
        folder = ROOT / self.folder
        for source, name in self.images.items():
            shutil.copyfile(folder / source, RESULTS / name)
        rows = _read(folder / "results.json")
        if any("suite" in row for row in rows):  # results of an evaluation, not of a comparison
            rows = [row for many in conditions(rows).values() for row in many]
        asked = {column[:2] for columns in self.tables.values() for column in columns}
        return {
            "results": [
                {**row, "metrics": scores}
                for row in rows
                if (scores := {name: value for name, value in row["metrics"].items() if (row["split"], name) in asked})
            ],
            "differences": [
                each for each in _read(folder / "differences.json") if (each["split"], each["metric"]) in asked
            ],
        }

    def shown(self, found: Mapping[str, Any]) -> list[str]:
        """Return the tables, in Markdown."""
        return [table(found, title, columns) for title, columns in self.tables.items()]


@dataclass(frozen=True)
class Several:
    """Comparisons that belong to one part, each with a name and tables of its own."""

    parts: Mapping[str, Compared]

    @property
    def commands(self) -> Sequence[str]:
        """The commands of all of them."""
        return [command for part in self.parts.values() for command in part.commands]

    def collected(self) -> dict[str, Any]:
        """Return the scores and differences of each, by its name."""
        return {"parts": {name: part.collected() for name, part in self.parts.items()}}

    def shown(self, found: Mapping[str, Any]) -> list[str]:
        """Return the tables of all of them, in Markdown."""
        return [each for name, part in self.parts.items() for each in part.shown(found["parts"][name])]


@dataclass(frozen=True)
class Cost:
    """What the steps of each method cost; the command writes its figures into `file`."""

    commands: Sequence[str]
    file: str

    def collected(self) -> dict[str, Any]:
        """Return the figures."""
        return {"results": _read(ROOT / self.file)["results"]}

    def shown(self, found: Mapping[str, Any]) -> list[str]:
        """Return one table, with the model and the methods that are measured on it."""
        return [costs(found["results"])]


def _compared(name: str, arguments: str, tables: Mapping[str, Columns]) -> Compared:
    folder = f"{RUNS}/{name}"
    return Compared([f"hf-mixup compare {arguments} --output_dir {folder}"], folder, tables)


_IMAGE = "recipes/configs/emoji_image.yaml --methods none,smoothing,mixup,cutmix,switch,manifold,adversarial --seeds 5"
_SHIFTED = {"on test": calibrated("test"), "on test_shifted": calibrated("test_shifted")}
_MULTIMODAL = "recipes/configs/emoji_multimodal.yaml"
_SCORES = {"accuracy": "accuracy", "NLL": "nll"}
_VOICES = {"test": "", "test_shifted": "shifted ", "test_human": "human "}
_TABLES = {  # those of patients and cars are numbers to predict, the others classes
    "digits": calibrated("test"),
    "wine": calibrated("test"),
    "breast_cancer": calibrated("test"),
    "diabetes": predicted("test"),
    "cars": predicted("test"),
}
PARTS: dict[str, Compared | Several | Cost] = {
    "image": replace(
        image := _compared("image", _IMAGE, _SHIFTED),
        commands=[
            *image.commands,
            f"hf-mixup preview recipes/configs/emoji_image.yaml --method cutmix --output {image.folder}/cutmix.png",
        ],
        images={"figures/reliability.png": "reliability.png", "cutmix.png": "cutmix.png"},
    ),
    "robust": Compared(
        [
            f"hf-mixup evaluate {image.folder} --suite all --max_eval_samples 300 --severities 1 3 5 "
            "--adversarial_eps 8/255 --test_splits test"
        ],
        f"{image.folder}/evaluation",
        {"accuracy on test": PERTURBED, "confidence on test": CONFIDENCE},
    ),
    "attack": Compared(
        [
            f"hf-mixup compare recipes/configs/emoji_attack.yaml --seeds 5 --output_dir {RUNS}/attack",
            f"hf-mixup evaluate {RUNS}/attack --suite calibration,corruption,adversarial --max_eval_samples 300 "
            "--severities 3 --adversarial_eps 8/255 --test_splits test",
        ],
        f"{RUNS}/attack/evaluation",
        {"trained under attack, on test": ATTACKED},
    ),
    "text_few": _compared("text_few", "recipes/configs/emoji_few.yaml", {"on test": calibrated("test")}),
    "text_noise": _compared(
        "text_noise",
        "recipes/configs/emoji_few.yaml --few_shot 50 --label_noise 0.4",
        {"on test": calibrated("test")},
    ),
    "pairs": _compared(
        "pairs",
        "recipes/configs/emoji_pairs.yaml --seeds 5",
        {"on test": retrieved("test"), "on test_shifted": retrieved("test_shifted")},
    ),
    "audio": _compared(
        "audio", "recipes/configs/instruments.yaml --methods none,smoothing,mixup,specmix,manifold --seeds 5", _SHIFTED
    ),
    "tables": Several(
        {
            name: _compared(f"tables/{name}", f"recipes/configs/{name}_tabular.yaml", {f"{name}, test": columns})
            for name, columns in _TABLES.items()
        }
    ),
    "multimodal": Several(
        {
            "mixed": _compared("multimodal", _MULTIMODAL, {name: changed(score) for name, score in _SCORES.items()}),
            "dropout": _compared(
                "multimodal_dropout",
                f"{_MULTIMODAL} --methods none --modality_dropout 0.3",
                {f"with modality dropout: {name}": changed(score) for name, score in _SCORES.items()},
            ),
        }
    ),
    "speech": Several(
        {
            name: _compared(f"speech/{name}", f"recipes/configs/numbers_{name}.yaml", {name: transcribed(_VOICES)})
            for name in ("ctc", "whisper")
        }
    ),
    "long": _compared("long", "recipes/configs/emoji_long.yaml --seeds 3", _SHIFTED),
    "vit": _compared("vit", "recipes/configs/emoji_vit.yaml --seeds 3", _SHIFTED),
    "cost": Cost([f"python tests/benchmarks/bench_step.py --json {RUNS}/cost.json"], f"{RUNS}/cost.json"),
}


def measure(name: str) -> None:
    """Run the commands of a part and keep what its tables need.

    Raises:
        subprocess.CalledProcessError: if a command fails; finished runs stay for the next time.
    """
    part = PARTS[name]
    (ROOT / RUNS).mkdir(parents=True, exist_ok=True)
    for command in part.commands:
        print(f"$ {command}", flush=True)
        subprocess.run(shlex.split(command), cwd=ROOT, env=_environment(), check=True)
    RESULTS.mkdir(exist_ok=True)
    found = {"commands": list(part.commands), **part.collected(), "environment": {**versions(), "hardware": hardware()}}
    write_text(RESULTS / f"{name}.json", json.dumps(_short(found), indent=1) + "\n")


def _environment() -> dict[str, str]:
    """Return an environment in which `python` and `hf-mixup` are those that this script runs with."""
    return {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _short(value: Any) -> Any:
    """Round all numbers to more digits than any table shows."""
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def section(name: str) -> str:
    """Return the commands and tables of a part as Markdown, from its results file."""
    part, found = PARTS[name], _read(RESULTS / f"{name}.json")
    return "\n\n".join(["\n".join(["```bash", *part.commands, "```"]), *part.shown(found)])


def table(found: Mapping[str, Any], title: str, columns: Columns) -> str:
    """Return a table of methods: mean and deviation over seeds, with marks for what is beyond noise."""
    summaries = aggregate(found["results"])
    known = {
        (each["method"], each["split"], each["metric"], each["control"]): _difference(each)
        for each in found["differences"]
    }
    lines = [[title, *(heading for *_, heading in columns)], ["---"] * (len(columns) + 1)]
    for method in methods_and_splits(summaries)[0]:
        cells = []
        for split, metric, _ in columns:
            marks = [
                signs[judgement(metric, known[method, split, metric, control])]
                for control, signs in MARKS.items()
                if (method, split, metric, control) in known
            ]
            cells.append(" ".join(filter(None, [str(summaries[method, split][metric]), "".join(marks)])))
        lines.append([method.replace(":", ", "), *cells])
    return _markdown(lines)


def _difference(found: Mapping[str, Any]) -> Difference:
    names = ("estimate", "low", "high", "p", "seeds", "rows", "failed")
    numbers: dict[str, Any] = {name: np.nan if found[name] is None else found[name] for name in names}
    return Difference(**numbers)


def costs(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of what each method costs, as ratios to the plain Trainer."""
    lines = [["model (plain step)", "method", "time of a step", "quartiles", "peak memory"], ["---"] * 5]
    model = ""
    for each in results:
        if each["method"] == "none":
            model = f"{each['model']} ({each['step_ms']:.3g} ms, {each['peak_mb']:.3g} MB)"
            continue
        spread = f"{each['ratio_low']:.2f} to {each['ratio_high']:.2f}"
        lines.append([model, each["method"], f"{each['ratio']:.2f}", spread, f"{each['memory_ratio']:.2f}"])
        model = ""  # once is enough
    return _markdown(lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_sections(text: str) -> str:
    """Return a page with everything between `<!-- evidence PART -->` and `<!-- /evidence -->` made anew."""

    def made(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{section(match[2])}\n\n{match[3]}"

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
