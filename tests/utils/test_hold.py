"""A file says which process is at work in a folder, and a dead one keeps nobody out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hf_mixup.utils import hold as holding
from hf_mixup.utils.hold import hold, holder

HOLDER = """
import sys, time
from pathlib import Path
from hf_mixup.utils.hold import hold
with hold(Path(sys.argv[1]), "a comparison"):
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "running.json"


def test_another_process_is_named_and_a_killed_one_is_not_waited_for(path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "holds\n"
        with pytest.raises(ValueError, match=f"in use by a comparison, process {other.pid} on .* --output_dir"):
            hold(path, "another").__enter__()
    finally:
        other.kill()
    assert path.exists()
    deadline = time.monotonic() + 20
    while holder(path) and time.monotonic() < deadline:  # it is dying
        time.sleep(0.02)
    with hold(path, "the next"):  # nobody has waited for the dead one yet
        assert f"the next, process {os.getpid()}" in (holder(path) or "")
    other.wait()
    assert list(path.parent.iterdir()) == []


def test_a_process_on_another_machine_lives_as_long_as_it_is_heard_of(path: Path) -> None:
    path.write_text(json.dumps({"id": "a", "work": "a sweep", "host": "node7", "machine": "node7 boot", "pid": 1}))
    with pytest.raises(ValueError, match="a sweep, process 1 on node7"):
        hold(path, "mine").__enter__()
    old = time.time() - holding.SILENT - 1
    os.utime(path, (old, old))
    with hold(path, "mine"):
        assert "mine" in (holder(path) or "")


def test_a_number_that_another_process_has_by_now_is_not_its_holder(path: Path) -> None:
    with hold(path, "mine"):
        told = json.loads(path.read_text())
        path.write_text(json.dumps({**told, "started": told["started"] - 100}))
        assert holder(path) is None


def test_a_half_written_file_is_somebodys(path: Path) -> None:
    path.write_text("")
    assert "something, process None" in (holder(path) or "")


def test_signs_of_life(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "BEAT", 0.05)
    with hold(path, "mine"):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 20
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert time.time() - path.stat().st_mtime < 30


def test_of_many_that_take_over_one_gets_it(path: Path) -> None:
    for _ in range(5):
        path.write_text(json.dumps({"id": "dead", "machine": "gone"}))
        os.utime(path, (0, 0))
        held, begun, tried = [], threading.Barrier(4), threading.Barrier(4)

        def take(held: list[str] = held, begun: threading.Barrier = begun, tried: threading.Barrier = tried) -> None:
            begun.wait()
            try:
                with hold(path, "mine"):
                    held.append("mine")
                    tried.wait()  # nobody lets go before all have tried
            except ValueError:
                tried.wait()

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert held == ["mine"]
