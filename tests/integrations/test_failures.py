"""A process that fails ends the run of both, with its error; what cannot begin is said before the first step."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from tests.integrations.launched import forked
from tests.scripts.failing import REASON, train


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("dataset", REASON),
        ("collator", REASON),
        ("forward", REASON),
        ("evaluation", REASON),
        ("empty", "process 1 of 2 has no samples of the stream to train on"),
        ("few", "process 1 of 2 has no samples of 1 samples to train on"),
    ],
)
def test_an_error_of_one_ends_both(where: str, reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(ChildFailedError):
        forked(train, str(tmp_path), where)
    assert reason in capfd.readouterr().err
    assert time.monotonic() - began < 60


def test_a_stream_that_ends_early_begins_anew(tmp_path: Path) -> None:
    assert forked(train, str(tmp_path), "ends") == {0: 3, 1: 3}
