"""How long a training is in epochs, for `disable_last_epochs`: parts of epochs, too, and datasets without a length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import IterableDataset

from hf_mixup import MixupConfig
from tests.conftest import build, examples
from tests.entry_points import ENTRY_POINTS


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from examples("resnet", 8)


def rates(entry_point: str, args: Any, data: Any, **settings: Any) -> list[float]:
    trainer = ENTRY_POINTS[entry_point](build("resnet"), args, MixupConfig("mixup", **settings), train_dataset=data)
    trainer.train()
    return [entry["mixup_rate"] for entry in trainer.state.log_history if "mixup_rate" in entry]


@pytest.mark.parametrize("entry_point", ["trainer", "adopted", "callback"])
def test_the_last_epochs_never_come_without_a_length(entry_point: str, arguments: Any) -> None:
    with pytest.raises(
        ValueError, match=r"disable_last_epochs=1.0 needs a Trainer that counts epochs, of a dataset with"
    ):
        rates(entry_point, arguments(max_steps=4), Stream(), disable_last_epochs=1)
    found = rates(
        entry_point, arguments(max_steps=4, logging_strategy="steps", logging_steps=1), Stream(), disable_last_ratio=0.5
    )
    assert found == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("settings", "off", "expected"),
    [
        ({"max_steps": 4}, 0.25, [1, 1, 1, 0]),  # four steps are one epoch
        ({"max_steps": 6}, 0.5, [1, 1, 1, 1, 0, 0]),
        ({"num_train_epochs": 1.5}, 0.5, [1, 1, 1, 1, 0, 0]),
        ({"num_train_epochs": 2, "gradient_accumulation_steps": 2}, 1, [1, 1, 0, 0]),
    ],
)
def test_parts_of_epochs_count(settings: dict[str, Any], off: float, expected: list[int], arguments: Any) -> None:
    args = arguments(**settings, logging_strategy="steps", logging_steps=1)
    assert rates("trainer", args, examples("resnet", 16), disable_last_epochs=off) == expected


def test_off_for_longer_than_the_training_is_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"disable_last_epochs=3.0 leaves nothing to mix in: training has 2 epochs"):
        rates("trainer", arguments(num_train_epochs=2), examples("resnet", 8), disable_last_epochs=3)
