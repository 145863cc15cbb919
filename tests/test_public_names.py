"""Every public name says what it is for, what it takes and raises, and shows an example that runs.

Public is what a package exports, what the README, CONTRIBUTING, recipes and notebooks import or name, the methods of
the registry, and the settings of the commands. The examples themselves run as doctests.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import hf_mixup
from hf_mixup import functional
from hf_mixup.engine.settings import PARTS
from hf_mixup.experiments.compare.arguments import CompareArguments
from hf_mixup.experiments.evaluate.arguments import EvaluateArguments
from hf_mixup.experiments.sweep.arguments import SweepArguments
from hf_mixup.experiments.tasks import TASKS, TaskArguments
from hf_mixup.integrations.sentence_transformers import MixedNegativesRankingLoss
from hf_mixup.methods import METHODS, settings_of
from hf_mixup.models import losses

ROOT = Path(__file__).parents[1]
SETTINGS = (*PARTS.values(), TaskArguments, CompareArguments, SweepArguments, EvaluateArguments)
LOSSES = (
    *(functional.soft_cross_entropy, functional.two_target_cross_entropy, functional.soft_info_nce),
    *(functional.contrastive_cross_entropy, functional.soft_sigmoid_loss, losses.mixed_loss_sum),
    *(losses.distilled_loss_sum, MixedNegativesRankingLoss),
)
SPECIAL = ("__init__", "__post_init__", "__call__")
# What is named nowhere else and is in every user's hands: the batch of `with Mixup(...)(model, batch) as mixed`.
HELD = ("hf_mixup.engine.batch.MixedBatch",)
# Bases and capabilities of methods, and what a comparison takes in place of one configuration.
BASES = ("hf_mixup.methods.base.FloatInputs", "hf_mixup.experiments.mixing.SharedSettings")


def modules() -> list[str]:
    found = pkgutil.walk_packages(hf_mixup.__path__, "hf_mixup.")
    names = [each.name for each in found if not each.name.endswith("__main__")]
    return ["hf_mixup", *(name for name in names if not name.startswith("hf_mixup.docs"))]


def exported(module: str) -> list[str]:
    """The names in `__all__`, or else those that the package imports as themselves."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "__all__"):
        return list(loaded.__all__)
    statements = ast.parse(Path(str(loaded.__file__)).read_text(encoding="utf-8")).body
    imports = [each for each in statements if isinstance(each, ast.ImportFrom)]
    return [alias.name for each in imports for alias in each.names if alias.asname == alias.name]


def documents() -> list[Path]:
    """The pages that users read."""
    pages = sorted((ROOT / "hf_mixup" / "docs").rglob("*.md"))
    return [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "recipes/README.md")), *pages]


def sources() -> Iterator[str]:
    """Python that users read and copy."""
    for path in sorted(ROOT.glob("recipes/*.py")):
        yield path.read_text(encoding="utf-8")
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for path in documents():
        yield from re.findall(r"```py(?:thon)?\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def imported() -> Iterator[str]:
    for source in sources():
        for module, names in re.findall(r"^\s*from (hf_mixup[\w.]*) import (\([^)]*\)|[^\n#]*)", source, re.MULTILINE):
            yield from (f"{module}.{name}" for name in re.findall(r"(\w+)(?: as \w+)?", names))


def mentioned() -> Iterator[str]:
    """Dotted names in the prose of the documents, `hf_mixup.metrics.load` for instance."""
    for path in documents():
        # A line that begins with colons is for the site's generator, which names what it shows by its file.
        prose = re.sub(r"(?m)^:::.*$", "", path.read_text(encoding="utf-8"))
        yield from re.findall(r"\bhf_mixup(?:\.[a-z_]\w*)*(?:\.\w+)\b", prose)


def resolve(name: str) -> Any:
    module, _, rest = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), rest)


@cache
def public() -> dict[str, Any]:
    """The public functions and classes by name, each once, under the shortest of its names."""
    packages = [name for name in modules() if hasattr(importlib.import_module(name), "__path__")]
    names = [f"{package}.{name}" for package in packages for name in exported(package)]
    names += [*imported(), *mentioned(), *HELD, *BASES, *(f"{kind.__module__}.{kind.__name__}" for kind in SETTINGS)]
    names += [f"{method.__module__}.{method.__name__}" for method in METHODS.values()]
    found = {name: resolve(name) for name in sorted(set(names), key=lambda name: (name.count("."), name))}
    first: dict[int, str] = {}
    for name, value in found.items():
        if callable(value) and getattr(value, "__module__", "").startswith("hf_mixup"):
            first.setdefault(id(value), name)
    return {name: found[name] for name in first.values()}


def parts(value: Any) -> dict[str, Any]:
    """The functions that a public name holds: itself, or the methods that a class defines and does not hide."""
    if not inspect.isclass(value):
        return {"": value}
    own = {
        name: inspect.unwrap(part.fget if isinstance(part, property) else getattr(part, "__func__", part))
        for name, part in vars(value).items()
        if name in SPECIAL or not name.startswith("_")
    }
    return {name: part for name, part in own.items() if inspect.isfunction(part) and written_in(value, part)}


def written_in(kind: Any, function: Any) -> bool:
    """Whether a class's own text has the function: not the `__init__` of a dataclass, nor a field that holds one."""
    own = function.__qualname__.startswith(f"{kind.__qualname__}.")
    return own and Path(inspect.getfile(function)).is_relative_to(ROOT)


def documentation(value: Any) -> str:
    return "\n".join([value.__doc__ or "", *(part.__doc__ or "" for part in parts(value).values())])


def raised(function: Any) -> set[str]:
    """The built-in errors of bad input that a function raises in its own body."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [each.exc for each in ast.walk(tree) if isinstance(each, ast.Raise) and isinstance(each.exc, ast.Call)]
    names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    return names & {"ValueError", "TypeError", "FileNotFoundError", "ImportError"}


def all_missing(check: Any) -> list[str]:
    return [f"{name}: {found}" for name, value in public().items() if (found := check(value))]


def test_what_is_walked_is_what_users_see() -> None:
    assert len(public()) > 150
    for name in ("hf_mixup.MixupTrainer", "hf_mixup.functional.blend", "hf_mixup.augment.tta.five_crops"):
        assert name in public()
    assert {
        "MixedNegativesRankingLoss",
        "ManifoldMixup",
        "TaskArguments",
        "SharedSettings",
        "Blend",
        "setting",
        "register",
    } <= {name.split(".")[-1] for name in public()}


def test_every_module_and_public_part_says_what_it_is_for() -> None:
    assert [name for name in modules() if not importlib.import_module(name).__doc__] == []

    def silent(value: Any) -> list[str]:
        purpose = (value.__doc__ or "").partition("\n")[0]
        wrong = [] if purpose.rstrip().endswith((".", ":")) else ["no purpose in one line"]
        members = [each for each in parts(value) if each not in ("", *SPECIAL)]
        return wrong + [each for each in members if not inspect.getdoc(getattr(value, each))]

    assert all_missing(silent) == []


def test_every_parameter_and_return_value_is_annotated() -> None:
    def untyped(value: Any) -> list[str]:
        wrong = []
        for name, part in parts(value).items():
            signature = inspect.signature(part)
            holes = [each.name for each in signature.parameters.values() if each.annotation is each.empty]
            holes += ["return"] if signature.return_annotation is signature.empty else []
            wrong += [f"{name}({hole})" for hole in holes if hole not in ("self", "cls")]
        return wrong

    assert all_missing(untyped) == []


def test_every_error_of_bad_input_is_documented() -> None:
    def hidden(value: Any) -> set[str]:
        return {
            f"{name} {error}".strip()
            for name, part in parts(value).items()
            for error in raised(part)
            if error not in f"{value.__doc__} {inspect.getdoc(getattr(value, name, part))}"
        }

    assert all_missing(hidden) == []


def test_every_name_has_an_example_that_runs() -> None:
    assert all_missing(lambda value: "" if ">>> " in documentation(value) else "no example") == []
    skipped = [str(path) for path in (ROOT / "hf_mixup").rglob("*.py") if "+SKIP" in path.read_text(encoding="utf-8")]
    assert skipped == []


@pytest.mark.parametrize("name", METHODS)
def test_every_method_names_its_source(name: str) -> None:
    method = METHODS[name]
    source = (method.__doc__ or "").partition("Source: ")[2]
    for paper in method.paper.split(", "):
        number = re.findall(r"\d{4}\.\d{5}\b|\d+", paper)[-1]  # of arXiv, of an article, or the year of a meeting
        assert number in source


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_every_loss_names_its_source(loss: Any) -> None:
    assert re.search(r"Source: .*\d{4}\.\d{5}", str(loss.__doc__))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_lists_its_settings(name: str) -> None:
    """With the default of each, in what `help(hf_mixup.CutMix)` shows."""
    kind = METHODS[name]
    assert getattr(hf_mixup, kind.__name__) is kind
    listed = str(kind.__doc__).partition("\nSettings:\n")[2].partition("\n\n")[0]
    assert {*re.findall(r"^    (\w+) \(default ", listed, re.MULTILINE)} == {*settings_of(name)}


@pytest.mark.parametrize("settings", [*SETTINGS, *METHODS.values(), *TASKS.values()])
def test_every_setting_has_a_help_text(settings: Any) -> None:
    declared = [each for each in dataclasses.fields(settings) if each.name != "task" or settings is TaskArguments]
    assert [each.name for each in declared if not each.metadata.get("help")] == []
