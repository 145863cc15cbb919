"""Quicker runs of outer trainers."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def imported_objects_stay() -> Iterator[None]:
    """Spare the collector what the libraries hold: each end of training collects, which took half of a tiny run."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
