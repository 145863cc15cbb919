"""`import hf_mixup` loads next to nothing, and whatever the documents name is found from there."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import hf_mixup
from hf_mixup.methods import METHODS
from tests.test_public_names import mentioned

HEAVY = ("torch", "transformers", "datasets", "evaluate", "numpy", "PIL", "matplotlib", "sklearn", "torchvision")
HEAVY += ("peft", "gradio", "optuna")
OPTIONAL = ("torchvision", "PIL", "soundfile", "librosa", "matplotlib", "optuna", "gradio", "peft", "timm", "trl")
ROOMS = [each.name for each in pkgutil.iter_modules(hf_mixup.__path__)]


def told_by(program: str) -> str:
    """What a fresh interpreter prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(hf_mixup.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_no_other() -> None:
    program = f"import sys, hf_mixup; dir(hf_mixup); print([m for m in {HEAVY} if m in sys.modules])"
    assert told_by(program) == "[]"


def test_every_method_is_listed() -> None:
    named = {each.__name__ for each in METHODS.values() if each.__module__.startswith("hf_mixup.")}
    assert named == {name for name in dir(hf_mixup) if name[:1].isupper()} - {*hf_mixup.__all__}


def test_every_module_is_an_attribute_and_needs_no_optional_package() -> None:
    program = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL})); import hf_mixup\n"
    found = told_by(program + f"for room in {ROOMS}: print(getattr(hf_mixup, room).__name__)")
    assert found.splitlines() == [f"hf_mixup.{room}" for room in ROOMS]
    assert set(ROOMS) <= set(dir(hf_mixup))


def test_what_the_documents_name_needs_no_other_import() -> None:
    names = sorted(set(mentioned()))
    assert "hf_mixup.metrics.load" in names
    told_by(f"import hf_mixup\nfor name in {names}: eval(name)")


def test_what_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'metric'; did you mean 'metrics'\?"):
        hf_mixup.metric  # noqa: B018
