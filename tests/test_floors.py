"""What pyproject.toml promises: a lowest release of every dependency, and the versions of Python that are tried."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from pip._vendor import tomli

from tests import floors


def test_every_dependency_has_a_floor_that_is_met_here() -> None:
    pins = [Requirement(pin) for pin in floors.floors(extras=True)]
    names = {each.name for each in pins}
    assert {"torch", "transformers", "accelerate", "pillow", "optuna", "psycopg", "ray", "gradio"} <= names
    assert not {"mkdocs-material", "pytest"} & names
    assert len(names) == len(pins) > len(floors.floors())
    for each in pins:
        (pin,) = each.specifier
        if each.name not in ("librosa",):  # which `make test` does without
            assert Version(version(each.name).partition("+")[0]) >= Version(pin.version), each


@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize("declared", ["torch", "torch>=2,<3", "torch==2"])
def test_a_dependency_without_a_floor(declared: str, extras: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    project: dict[str, Any] = {"dependencies": [], "optional-dependencies": {"dev": ["ruff"]}}
    if extras:
        project["optional-dependencies"]["vision"] = [declared]
    else:
        project["dependencies"] = [declared]
    monkeypatch.setattr(floors, "declared", lambda: project)
    with pytest.raises(ValueError, match=f"'{declared}' is no name>=release"):
        floors.floors(extras=extras)


def test_the_pythons_that_are_named_are_those_that_are_tried() -> None:
    project = floors.declared()
    tox = tomli.loads(floors.PROJECT.read_text(encoding="utf-8"))["tool"]["tox"]
    tried = [f"3.{each.removeprefix('py3')}" for each in tox["env_list"] if each.startswith("py3")]
    named = [each.rpartition(" :: ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    assert named == tried
    assert project["requires-python"] == f">={tried[0]}"
