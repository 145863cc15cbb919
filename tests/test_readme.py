"""The README's generated parts are what their commands print."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_mixup.cli import main

README = Path(__file__).parents[1] / "README.md"


def test_methods_table_is_the_generated_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--markdown"]) == 0
    assert capsys.readouterr().out.strip() in README.read_text(encoding="utf-8")
