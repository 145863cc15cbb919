"""Workers on several machines share one study: each trial is one worker's, a dead one's another's."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("optuna")

from hf_mixup import cli
from hf_mixup.experiments.sweep import storage as storages
from hf_mixup.experiments.sweep.shared import Shared, TrialFailed
from hf_mixup.experiments.sweep.storage import opened, without_password
from hf_mixup.experiments.sweep.store import _create
from tests import postgres
from tests.conftest import TINY_RUN

PSYCOPG = pytest.mark.skipif(find_spec("psycopg") is None, reason="needs psycopg: pip install 'hf-mixup[sweep]'")


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Shared]]:
    """Two workers of a study of four trials, as two processes are."""
    with opened(str(tmp_path / "study.log")) as first, opened(str(tmp_path / "study.log")) as second:
        yield [Shared(_create(storage, "sweep", "nll"), 4, worker) for storage, worker in (first, second)]


def alpha(trial: Any, before: int) -> float:
    return float(trial.suggest_float("alpha", 0.1, 4))


def test_two_workers_do_the_trials_of_one_budget(workers: list[Shared]) -> None:
    """While one worker is with a trial the other one does the rest; each has another number of trials before it."""
    one, two = workers
    numbers: list[int] = []

    def value(trial: Any, before: int) -> float:
        numbers.append(before)
        return alpha(trial, before)

    def meanwhile(trial: Any, before: int) -> float:
        while two.work(value):
            pass
        return value(trial, before)

    assert one.work(meanwhile)
    assert sorted(numbers) == [0, 1, 2, 3]
    assert len(one.done()) == len(two.done()) == 4
    assert not one.work(value)
    assert not two.work(value)


def test_who_comes_second_to_the_last_trial_gives_it_back(workers: list[Shared]) -> None:
    one, two = workers
    for _ in range(3):
        one.work(alpha)
    last, too_many = one.study.ask(), one.study.ask()
    assert too_many.number == 4
    three = Shared(two.study, 5, two.worker)  # sees room for one more than there is
    assert [three.work(alpha), two.work(alpha), len(two.done())] == [False, False, 3]
    one.study.tell(last, 1.0)
    assert len(one.done()) == 4


def test_a_trial_that_was_interrupted_is_tried_again_with_its_settings(workers: list[Shared]) -> None:
    one, two = workers
    seen: list[float] = []

    def interrupted(trial: Any, before: int) -> float:
        seen.append(alpha(trial, before))
        raise KeyboardInterrupt

    def noted(trial: Any, before: int) -> float:
        seen.append(alpha(trial, before))
        return seen[-1]

    with pytest.raises(KeyboardInterrupt):
        one.work(interrupted)
    assert one.done() == []
    assert two.work(noted)
    assert seen[0] == seen[1]


def test_the_trial_of_a_dead_worker_is_tried_again_and_that_of_a_living_one_is_not(workers: list[Shared]) -> None:
    one, two = workers
    assert one.worker is not None
    worker = one.worker
    seen: list[float] = []

    def noted(trial: Any, before: int) -> float:
        seen.append(alpha(trial, before))
        return seen[-1]

    def dies(trial: Any, before: int) -> float:
        seen.append(alpha(trial, before))
        while two.work(noted):
            pass
        assert len(set(seen)) == 4  # the other three
        worker.write_text(json.dumps({**json.loads(worker.read_text()), "started": 0}))  # another process by now
        assert two.work(noted)
        assert seen[-1] == seen[0]
        assert not two.work(noted)
        return 0.0

    assert one.work(dies)  # it was not dead after all, and comes too late
    assert len(two.done()) == 4
    assert [trial.value for trial in two.done()].count(seen[0]) == 1


def test_a_trial_that_failed_counts(workers: list[Shared]) -> None:
    def fails(trial: Any, before: int) -> float:
        raise TrialFailed("no memory")

    assert workers[0].work(fails)
    (trial,) = workers[1].done()
    assert (trial.state.name, trial.user_attrs["reason"]) == ("FAIL", "no memory")


def test_only_what_was_queued(workers: list[Shared]) -> None:
    one = Shared(workers[0].study, None, workers[0].worker)
    assert not one.work(alpha)
    one.study.enqueue_trial({"alpha": 2.0})
    assert one.work(alpha)
    assert one.done()[0].params == {"alpha": 2.0}
    assert not one.work(alpha)


# Whole commands


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    sweep = {"methods": ["mixup", "cutmix"], "trials": 4, "control_seeds": 2}
    path.write_text(yaml.safe_dump({**TINY_RUN, "sweep": sweep, "output_dir": str(tmp_path / "out")}))
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    pytest.importorskip("psycopg")
    yield from postgres.start()


@pytest.mark.parametrize(
    "kind", ["journal", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sqlite", "postgresql"))]
)
def test_of_two_processes_one_is_killed_and_the_other_does_its_trial(
    config: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    where = {"journal": tmp_path / "study.log", "sqlite": f"sqlite:///{tmp_path / 'study.db'}"}.get(kind)
    where = where or request.getfixturevalue("server")
    log = tmp_path / "log"
    log.touch()
    command = [sys.executable, "-m", "tests.sweep_worker", log]
    flags = [config, "--storage", where, "--output_dir"]
    started = [
        subprocess.Popen([*map(str, [*command, hangs, *flags, tmp_path / hangs])], stderr=subprocess.PIPE, text=True)
        for hangs in ("1", "0")
    ]
    killed, living = started
    try:
        deadline = time.monotonic() + 300
        while "hangs" not in log.read_text():
            assert killed.poll() is None, killed.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        killed.kill()
        _, error = living.communicate(timeout=300)
        assert living.returncode == 0, error
    finally:
        for each in started:
            each.kill()
            each.wait()
    lines = [line.split() for line in log.read_text().splitlines()]
    trained = [words[1] for words in lines if words[1] not in ("none", "hangs")]
    (lost,) = [words[1] for words in lines if words[0] == str(killed.pid) and words[1] not in ("none", "hangs")]
    assert sorted(words[2] for words in lines if words[1] == "none") == ["42", "43"]  # each by one of them
    found = json.loads((tmp_path / "0" / "results.json").read_text())["trials"]
    assert len(trained) == 5
    assert trained.count(lost) == 2
    assert sorted(trial["label"] for trial in found) == sorted(set(trained))
    assert {trial["state"] for trial in found} == {"complete"}
    text = "".join(path.read_text() for path in (tmp_path / "0").glob("*.*") if path.suffix in (".json", ".html"))
    assert postgres.PASSWORD not in text + (error or "")
    assert not list(tmp_path.glob("*.worker")) or kind != "journal"


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:////nowhere/study.db", "storage=sqlite:////nowhere/study.db: unable to open database file"),
        ("nowhere/study.log", "storage=nowhere/study.log: there is no folder nowhere"),
        pytest.param(
            "postgresql://me:s3cret@127.0.0.1:9/db", "storage=postgresql://me:***@127.0.0.1:9/db: ", marks=PSYCOPG
        ),
        ("cheese://me:s3cret@host/db", "storage=cheese://me:***@host/db: "),
        ("sqlite://me:s3cret@host:port/db", "storage=sqlite://me:***@host:port/db: "),
    ],
)
def test_a_storage_that_cannot_be_had_is_named_without_its_password(
    config: Path, capsys: pytest.CaptureFixture[str], storage: str, message: str
) -> None:
    assert cli.main(["sweep", str(config), "--storage", storage]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "s3cret" not in error


def test_a_locked_storage(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(storages, "_SQLITE_WAITS", 0.1)
    locked = sqlite3.connect(tmp_path / "study.db")
    locked.execute("CREATE TABLE mine (x)")
    locked.execute("BEGIN EXCLUSIVE")
    assert cli.main(["sweep", str(config), "--storage", f"sqlite:///{tmp_path / 'study.db'}"]) == 2
    assert "study.db: database is locked; finished runs are kept" in capsys.readouterr().err


@pytest.mark.slow
def test_a_wrong_password_is_not_printed(config: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep", str(config), "--storage", server.replace(postgres.PASSWORD, "wr0ng")]) == 2
    error = capsys.readouterr().err
    assert "password authentication failed" in error
    assert "wr0ng" not in error


def test_passwords() -> None:
    assert without_password("sqlite:///a.db, me@host and a://me@host") == "sqlite:///a.db, me@host and a://me@host"
    assert without_password("a://me:p:/@h/d?password=x&y=1") == "a://me:***@h/d?password=***&y=1"
