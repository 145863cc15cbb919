"""Words of the field, wherever a user looks: documents, notebooks, help and messages."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_mixup.engine.settings import PARTS
from hf_mixup.experiments.compare.arguments import CompareArguments
from hf_mixup.experiments.evaluate.arguments import EvaluateArguments
from hf_mixup.experiments.sweep.arguments import SweepArguments
from hf_mixup.experiments.tasks import TASKS
from hf_mixup.methods import METHODS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "hf_mixup" / "docs"
# What not to write, and what to write instead.
INSTEAD = {
    r"pictures?": "image",
    r"sounds?": "audio, audio clip",
    r"films?": "video",
    r"data sets?": "dataset",
    r"knobs?": "setting",
    r"towers?": "encoder",
    r"doors?": "entry point",
    r"strange (rows|samples|images)": "out-of-distribution samples",
    r"not distinguishable": "not significant",
    r"refit(ted)?": "after temperature scaling",
    r"not told apart|told from noise": "not significant",
    r"(un)?sure of itself": "its confidence is too high (low)",
    r"label maps?": "segmentation mask",
    r"comes? along": "bundled",
}
FORBIDDEN = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)
SETTINGS = (*METHODS.values(), *TASKS.values(), *PARTS.values(), CompareArguments, EvaluateArguments, SweepArguments)


def documents() -> Iterator[tuple[str, str]]:
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "recipes/README.md")),
        *sorted(DOCS.rglob("*.md")),
        *sorted((ROOT / "hf_mixup" / "presets").glob("*.yaml")),
        *sorted((ROOT / "hf_mixup").rglob("*.j2")),
    ):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path.name, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def helps() -> Iterator[tuple[str, str]]:
    for kind in SETTINGS:
        for field in dataclasses.fields(kind):  # type: ignore[arg-type]
            yield f"{kind.__name__}.{field.name}", str(field.metadata.get("help", ""))
    for name, method in METHODS.items():
        yield name, f"{method.title} {method.blends} {method.__doc__}"


def messages() -> Iterator[tuple[str, str]]:
    """The texts in `raise` statements and warnings; names of variables in them are none."""
    for path in sorted((ROOT / "hf_mixup").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            warns = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "warn" in node.func.attr
            if isinstance(node, ast.Raise) or warns:
                texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
                yield f"{path.name}:{node.lineno}", " ".join(text for text in texts if isinstance(text, str))


@pytest.mark.parametrize("source", [documents, helps, messages], ids=lambda source: source.__name__)
def test_the_words_are_those_of_the_field(source: object) -> None:
    found = [(name, match[0]) for name, text in source() for match in FORBIDDEN.finditer(text)]  # type: ignore[operator]
    assert found == [], f"instead: {INSTEAD}"


@pytest.mark.parametrize("text", ["two Pictures", "a data set", "not distinguishable with 5 seeds"])
def test_a_word_to_avoid_is_found(text: str) -> None:
    assert FORBIDDEN.search(text)
    assert not FORBIDDEN.search("images, datasets; soundfile is a package")
