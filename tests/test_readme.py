"""What the README, CONTRIBUTING and recipes/README say holds: tables, paths, commands; and so does CITATION.cff."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_mixup import __version__
from hf_mixup.cli import check, init, main, presets
from hf_mixup.cli.entry import COMMANDS, EPILOG
from hf_mixup.cli.parser import Parser
from hf_mixup.experiments.compare.variants import parse_variants
from hf_mixup.methods import METHODS

ROOT = Path(__file__).parents[1]
README, RECIPES = ROOT / "README.md", ROOT / "recipes" / "README.md"
DOCUMENTS = (README, ROOT / "CONTRIBUTING.md", RECIPES, *sorted((ROOT / "hf_mixup" / "docs").rglob("*.md")))
# What stands for something in the text, and what it may stand for.
PLACEHOLDERS = {"CONFIG": "recipes/configs/emoji_image.yaml", "CHECKPOINT": "bert", "METHOD": "mixup"}

# Whose work is for tests of their own.
PARSED = {"check": check.flags, "init": init.flags, "presets": presets.flags}


def commands() -> list[str]:
    """The command lines in code blocks and in inline code, and those of `hf-mixup --help`."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        found += re.findall(r"`(hf-mixup [^`]+)`", text) + re.findall(r"^ *(hf-mixup .+)$", text, re.MULTILINE)
    found += re.findall(r"^ *(hf-mixup .+)$", EPILOG, re.MULTILINE)
    return sorted({shlex.join(shlex.split(each, comments=True)) for each in found})


@pytest.mark.parametrize("document", [ROOT / "CONTRIBUTING.md", RECIPES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = [ROOT / path for path in re.findall(r"(?<![\w/.])(?:recipes|notebooks|tests)/[\w./-]*\w", text)]
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    named += [document.parent / link for link in links if link]
    assert len(named) > 2
    assert [str(path) for path in named if not path.exists()] == []


def test_every_recipe_and_configuration_has_its_place_in_the_table() -> None:
    rows = re.findall(r"^\| (.*?) \|", RECIPES.read_text(encoding="utf-8").partition("| recipe |")[2], re.MULTILINE)
    table = rows[: next(place for place, row in enumerate(rows) if row.startswith("`hf-mixup"))]
    scripts = Counter(re.findall(r"\w+\.py", " ".join(table)))
    assert scripts == dict.fromkeys((path.name for path in (ROOT / "recipes").glob("*.py")), 1)
    configs = set(re.findall(r"\w+\.yaml", " ".join(table)))
    assert configs == {path.name for path in (ROOT / "recipes" / "configs").iterdir()}


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Commands read their settings and check them, and stop before any work; what they would have begun with."""
    begun: list[tuple[Any, ...]] = []
    work = ["tasks.train.train", "compare.run.compare", "sweep.run.sweep", "tasks.preview.preview"]
    for function in (*work, "evaluate.run.evaluate", "playground.run.playground"):
        monkeypatch.setattr(f"hf_mixup.experiments.{function}", lambda *given, **named: begun.append(given))
    for checked in ("tasks.saved.check_folder", "tasks.saved.check_there", "tasks.paths.check_there"):
        monkeypatch.setattr(f"hf_mixup.experiments.{checked}", lambda *given: None)
    monkeypatch.setattr("hf_mixup.experiments.tasks.saved.saved_task", lambda *given: ({}, 0))
    monkeypatch.chdir(ROOT)
    return begun


def run(command: str) -> int:
    """Run a command line of a document up to its work; `hf-mixup train` alone is a name in a sentence."""
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)[1:]]
    if len(words) == 1 and words[0] != "--help":
        return 0 if words[0] in COMMANDS else 2
    if words[0] in PARSED:
        PARSED[words[0]](parser := Parser())
        parser.parse_args(words[1:])
        return 0
    try:
        return main(words)
    except SystemExit as end:  # of `--help`
        return int(end.code or 0)


@pytest.mark.parametrize("command", commands())
def test_every_command_line_is_understood(
    command: str, stopped: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 0, capsys.readouterr().err
    for settings in stopped:
        for each in settings:
            if type(each).__name__ == "CompareArguments":
                assert parse_variants(each.methods, settings[2], paired=settings[1].task == "image-text")
            if type(each).__name__ == "SweepArguments":
                assert set(each.methods) <= set(METHODS)


@pytest.mark.parametrize(
    "command",
    [
        "hf-mixup compair CONFIG",
        "hf-mixup train recipes/configs/no_such.yaml",
        "hf-mixup train no_such_preset",
        "hf-mixup train CONFIG --alfa 1.0",
        "hf-mixup evaluate runs/none --suite al",
    ],
)
def test_what_no_document_may_say_is_refused(command: str, stopped: list[tuple[Any, ...]]) -> None:
    assert run(command) == 2
    assert stopped == []


def test_citation_is_of_this_version() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.")[0]
    project = dict(re.findall(r'^(\w+) = "(.*)"$', text, re.MULTILINE))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"] == __version__
    assert citation["license"] == project["license"].partition(" AND ")[0]
    assert (citation["title"], citation["abstract"]) == (project["name"], project["description"])
