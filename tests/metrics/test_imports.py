"""Importing metrics and plots loads no optional library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_python(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root), **environment}
    return subprocess.run([sys.executable, "-c", script], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def test_importing_the_package_loads_no_optional_library(tmp_path):
    optional = {"scipy", "sklearn", "torchmetrics", "evaluate", "datasets", "matplotlib", "rich"}
    script = (
        "import sys, hf_mixup; before = set(sys.modules); import hf_mixup.metrics, hf_mixup.plots\n"
        f"print(sorted({optional} & (set(sys.modules) - before)))"
    )
    run = run_python(script, cwd=tmp_path)
    assert run.stdout.strip() == "[]", run.stderr
