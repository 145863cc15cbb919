"""Runs on a Ray cluster have the results of one machine, also where a node is lost; bad input is one error."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import TrainingArguments

from hf_mixup import cli
from hf_mixup.experiments.compare.arguments import CompareArguments
from hf_mixup.experiments.compare.cluster import connected
from hf_mixup.experiments.compare.one_run import Failed
from hf_mixup.experiments.compare.run_table import RunTable
from hf_mixup.experiments.sweep.arguments import SweepArguments
from hf_mixup.utils.files import NoSpaceError
from tests.conftest import TINY_RUN


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "compare.yaml"
    sections = {"compare": {"methods": ["none", "mixup"], "seeds": 1}, "sweep": {"methods": ["mixup"], "trials": 2}}
    path.write_text(yaml.safe_dump({**TINY_RUN, **sections, "output_dir": str(tmp_path / "out")}), encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    return cli.main(["compare", *map(str, arguments)])


# Without Ray


@pytest.mark.parametrize("kind", [CompareArguments, SweepArguments])
def test_settings_of_a_cluster_need_one(kind: Any) -> None:
    with pytest.raises(ValueError, match="cpus_per_run=2 is for runs on a cluster: name one with --ray auto"):
        kind(cpus_per_run=2)
    with pytest.raises(ValueError, match=r"gpus_per_run=-1\.0: expected a number from 0 on"):
        kind(ray="auto", gpus_per_run=-1)


def test_without_the_package_the_extra_is_named(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hf_mixup.utils.suggest.find_spec", lambda name: None if name == "ray" else name)
    assert run(config, "--ray", "auto") == 2
    assert 'runs on a cluster need ray, which is not installed: pip install "hf-mixup[ray]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


class _Run:
    def __init__(self, method: str, seed: int) -> None:
        self.title, self.seed = f"{method}, seed {seed}", seed
        self.variant, self.setting = type("V", (), {"label": method}), type("S", (), {"name": ""})


def test_in_a_log_each_change_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    runs: Any = [_Run(method, seed) for seed in (1, 2) for method in ("none", "mixup")]
    with RunTable(runs, runs[1:]) as table:
        table.step(runs[1], "node1/ab", 0, 1)
        table.step(runs[1], "node1/ab", 5, 10)
        table.step(runs[1], "node2/cd", 1, 10)
        table.done(runs[2], Failed("ValueError: no"))
        table.step(runs[2], "node1/ab", 9, 10)  # heard too late
        shown = table._table()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "mixup, seed 1 begins on node1/ab",
        "mixup, seed 1 begins again on node2/cd",
        "none, seed 2 failed: ValueError: no",
    ]
    assert lines[3].startswith("run 2 of 4 has ended: none, seed 2; about ")
    assert len(lines) == 4
    assert [column.header for column in shown.columns] == ["seed", "1", "2"]
    assert [[str(cell) for cell in column.cells] for column in shown.columns] == [
        ["none", "mixup"],
        ["✓", "10%"],
        ["✗", "·"],
    ]
    assert str(shown.title).startswith("1 of 4 runs are finished, 1 at work, 1 failed")


# With Ray


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nobody.invalid:6379"])
def test_an_address_where_nobody_listens_is_told_within_seconds(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        named = address.format(port=free.getsockname()[1])
    began = time.monotonic()
    assert run(config, "--ray", named) == 2
    assert f"ray={named}: no Ray cluster answers there" in capsys.readouterr().err
    assert time.monotonic() - began < 60  # most of it is to load the libraries
    assert not (tmp_path / "out").exists()


def test_what_is_no_address(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    assert run(config, "--ray", "nowhere") == 2
    assert "ray=nowhere: expected auto, or an address HOST:PORT" in capsys.readouterr().err


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with one CPU."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'hf-mixup[ray]'")
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        made = Cluster(initialize_head=True, head_node_args=node)
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def test_results_on_a_cluster_are_those_of_one_machine(
    config: Path, tmp_path: Path, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ("--methods", "none,mixup")
    assert run(config, *methods, "--output_dir", tmp_path / "one") == 0
    assert run(config, *methods, "--ray", cluster.address, "--cpus_per_run", 9) == 2
    assert "cpus_per_run=9, gpus_per_run=0: no node of the cluster has as much" in capsys.readouterr().err
    assert run(config, *methods, "--ray", cluster.address) == 0
    error = capsys.readouterr().err
    assert "none, seed 42 begins on " in error
    assert "run 2 of 2 has ended: mixup, seed 42" in error
    for name in ("results.json", "differences.json", "table.md"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert run(config, *methods, "--ray", cluster.address) == 0
    assert "begins" not in capsys.readouterr().err  # nothing is repeated
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.slow
def test_the_runs_of_a_lost_node_begin_again(config: Path, tmp_path: Path, cluster: Any) -> None:
    flags = (config, "--methods", "none,mixup,cutmix", "--seeds", 2, "--max_steps", 40)
    assert run(*flags, "--output_dir", tmp_path / "one") == 0
    lost = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    ended, killed = threading.Event(), threading.Event()

    def kill() -> None:
        """Kill the second node as soon as runs have begun on both."""
        while not ended.wait(0.1):
            if len(list((tmp_path / "out" / "runs").glob(".*.part"))) == 2:
                cluster.remove_node(lost, allow_graceful=False)
                killed.set()
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert run(*flags, "--ray", cluster.address) == 0
    finally:
        ended.set()
        killer.join()
    assert killed.is_set()
    for name in ("results.json", "differences.json", "table.md"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.slow
def test_a_sweep_on_a_cluster(config: Path, tmp_path: Path, cluster: Any) -> None:
    """One trial at a time there makes the trials that it makes here."""
    flags = [str(config), "--trials", "3", "--control_seeds", "2"]
    assert cli.main(["sweep", *flags, "--output_dir", str(tmp_path / "one")]) == 0
    assert cli.main(["sweep", *flags, "--ray", cluster.address]) == 0
    one, there = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "out"))
    assert one == there


def _raises(tell: Any, text: str) -> str | None:
    time.sleep(1)  # until what was said is heard
    raise KeyError(text)


def _dies(tell: Any) -> str | None:
    os._exit(1)


def _fills_the_disk(tell: Any) -> str | None:
    raise NoSpaceError("no space to store it")


@pytest.mark.slow
def test_a_task_that_fails_has_a_reason_and_the_others_go_on(cluster: Any) -> None:
    heard: list[int] = []
    with connected(CompareArguments(ray=cluster.address), TrainingArguments(use_cpu=True)) as there:
        assert there is not None
        jobs: dict[int, tuple[str, ...]] = {0: ("a",), 1: ("b",)}
        found = dict(there.run(_raises, jobs, lambda number, *said: heard.append(number)))
        assert found == {0: "KeyError: 'a'", 1: "KeyError: 'b'"}
        assert {*heard} == {0, 1}
        ((_, reason),) = there.run(_dies, {0: ()}, lambda *said: None)
        assert reason.startswith("lost 4 times, the last time with WorkerCrashedError: ")
        with pytest.raises(NoSpaceError, match="no space to store it"):
            list(there.run(_fills_the_disk, {0: ()}, lambda *said: None))
