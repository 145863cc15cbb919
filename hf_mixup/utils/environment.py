"""What a run was made with: versions and hardware, for reports."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on.

    >>> sorted(versions())[:2]
    ['Python', 'accelerate']
    """
    import hf_mixup

    found = {"Python": platform.python_version(), "hf-mixup": hf_mixup.__version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """Return processor, number of cores and accelerators in one line.

    >>> " cores; " in hardware()  # AMD EPYC 7763, 2 cores; Linux, for instance
    True
    """
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{_processor()}, {cores} cores", platform.system()]
    parts += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return "; ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
