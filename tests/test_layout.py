"""Every module knows its level: imports go downwards, nowhere in a circle, and the core loads nothing heavy."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hf_mixup

PACKAGE = Path(hf_mixup.__file__).parent
LEVELS = (
    ("functional", "data", "utils"),
    ("models", "tabular"),
    ("methods",),
    ("engine",),
    ("integrations", "metrics", "augment"),
    ("plots",),
    ("testing",),
    ("experiments",),
    ("cli", "docs"),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
MOST_ROOMS, MOST_LEVELS = 16, 9

CORE = (
    "hf_mixup.functional",
    "hf_mixup.methods",
    "hf_mixup.models",
    "hf_mixup.engine.mixup",
)
WITH_TRAINER = ("hf_mixup.integrations.trainer", "hf_mixup.integrations.collator", "hf_mixup.integrations.callback")
HEAVY = ("datasets", "evaluate", "sklearn", "scipy", "rich", "jinja2", "matplotlib", "optuna", "gradio")


@cache
def modules() -> dict[str, Path]:
    """The files of the package by the names of their modules."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(module: str) -> Iterator[str]:
    """The modules of the package that a module imports: anywhere in it, lazily and for types alone included."""
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in modules())
        elif isinstance(node, ast.ImportFrom):
            home = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (home, node.module) if part)
            for each in node.names:
                whole = f"{source}.{each.name}"
                if whole in modules() or source in modules():
                    yield whole if whole in modules() else source


@cache
def graph() -> dict[str, set[str]]:
    """What each module imports. The face of the package names its parts, and is left out."""
    return {name: {*imported(name)} - {name, "hf_mixup"} for name in modules() if name != "hf_mixup"}


def room_of(module: str) -> str:
    return module.split(".")[1]


def circles() -> set[frozenset[str]]:
    """Groups of modules each of which reaches the others by imports."""
    reached: dict[str, set[str]] = {}
    for start in graph():
        seen, waiting = set(), [start]
        while waiting:
            for each in graph()[waiting.pop()] - seen:
                seen.add(each)
                waiting.append(each)
        reached[start] = seen
    groups = {frozenset(other for other in seen if name in reached[other]) for name, seen in reached.items()}
    return groups - {frozenset()}


def test_there_are_few_rooms_and_each_has_a_level() -> None:
    rooms = {room_of(name) for name in graph()}
    assert rooms == set(LEVEL)
    assert len(rooms) <= MOST_ROOMS
    assert len(LEVELS) <= MOST_LEVELS


def test_imports_go_downwards() -> None:
    up = {
        (name, other)
        for name, others in graph().items()
        for other in others
        if LEVEL[room_of(other)] > LEVEL[room_of(name)]
    }
    assert not up


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not circles()


def heavy_after(*programs: str) -> list[set[str]]:
    """The heavy packages that a fresh interpreter has loaded after each of the programs."""
    names = f"print(*(each for each in {HEAVY} if each in sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", "\n".join(["import sys", *(f"{program}\n{names}" for program in programs)])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_the_core_loads_nothing_heavy() -> None:
    """Beside transformers, which brings jinja2 for the templates of chats, and its Trainer with what that brings."""
    before, trainer, after = heavy_after(
        *(f"import {', '.join(each)}" for each in (CORE, ("transformers.trainer",), WITH_TRAINER))
    )
    assert before <= {"jinja2"}
    assert after == trainer
