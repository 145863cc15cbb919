"""The lowest releases: declared for every dependency, and not above what is installed."""

from __future__ import annotations

from importlib.metadata import version

from packaging.version import Version

from tests.floors import floors


def test_every_dependency_has_a_floor_that_is_met_here() -> None:
    pins = dict(pin.split("==") for pin in floors())
    assert {"torch", "transformers", "accelerate"} <= set(pins)
    for name, lowest in pins.items():
        assert Version(version(name).partition("+")[0]) >= Version(lowest)
