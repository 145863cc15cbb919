"""The evidence: what its commands leave is what the README shows."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def evidence() -> ModuleType:
    import sys

    spec = importlib.util.spec_from_file_location("evidence", ROOT / "recipes" / "evidence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["evidence"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_pages_show_what_the_results_say(evidence: ModuleType) -> None:
    for page in evidence.PAGES:
        text = page.read_text(encoding="utf-8")
        assert evidence.with_sections(text) == text, f"{page.name}: run python recipes/evidence.py --tables"


def test_every_part_is_measured_and_shown_once(evidence: ModuleType) -> None:
    shown = re.findall(r"<!-- evidence (\w+) -->", "".join(page.read_text(encoding="utf-8") for page in evidence.PAGES))
    assert sorted(shown) == sorted(evidence.PARTS)
    assert sorted(path.stem for path in evidence.RESULTS.glob("*.json")) == sorted(evidence.PARTS)


def test_results_are_of_the_commands_that_stand_beside_them(evidence: ModuleType) -> None:
    for name, part in evidence.PARTS.items():
        kept = json.loads((evidence.RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        assert kept["commands"] == list(part.commands), f"{name}: run python recipes/evidence.py {name}"
        assert kept["environment"]["hardware"]


def test_a_table_marks_what_is_beyond_noise(evidence: ModuleType) -> None:
    scores = {"none": (0.5, 0.6), "smoothing": (0.5, 0.6), "mixup": (0.7, 0.8)}
    results = [
        {"method": method, "seed": seed, "split": "test", "metrics": {"nll": value}}
        for method, values in scores.items()
        for seed, value in enumerate(values)
    ]
    sure = {"split": "test", "metric": "nll", "low": 0.1, "high": 0.3, "p": 0.001, "seeds": 2, "rows": 9, "failed": 0}
    unsure = {**sure, "low": None, "high": None, "p": None}
    differences = [
        {"method": "mixup", "control": "none", "estimate": 0.2, **sure},
        {"method": "mixup", "control": "smoothing", "estimate": 0.2, **unsure},
        {"method": "smoothing", "control": "none", "estimate": -0.2, **sure, "low": -0.3, "high": -0.1},
    ]
    made = evidence.table({"results": results, "differences": differences}, "on test", [("test", "nll", "NLL")])
    assert made.splitlines() == [
        "| on test | NLL |",
        "| --- | --- |",
        "| none | 0.550 ± 0.071 |",
        "| smoothing | 0.550 ± 0.071 ▲ |",
        "| mixup | 0.750 ± 0.071 ▼ |",
    ]
