"""All steps on rows of a dataset, in DataLoaders and processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hf_mixup.augment import (
    ColorJitter,
    Columns,
    Crop,
    Flip,
    SynchronizedAugmentation,
    mirror_words,
)
from hf_mixup.augment.keys import Keys
from hf_mixup.data import load_emoji
from tests.augment.common import EVERYTHING, STEPS, full_row, marked, same


def collate(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows


def flips(rows: list[dict[str, Any]]) -> list[bool]:
    """Which rows are mirrored, after a check that their words agree with their pixels."""
    for row in rows:
        side = "left" if np.array(row["image"])[0, 0, 0] == 255 else "right"
        assert row["caption"] == f"snow on the {side} of it"
    return ["right" in row["caption"] for row in rows]


def epoch(loader: DataLoader) -> list[dict[str, Any]]:
    return sorted((row for batch in loader for row in batch), key=lambda row: row["row"])


def test_a_data_set_and_its_words_agree() -> None:
    data = marked()
    data.set_transform(SynchronizedAugmentation([Flip()], seed=1))
    drawn = flips([data[i] for i in range(40)])
    assert 8 < sum(drawn) < 32
    assert len(data[:3]["image"]) == 3
    assert flips([marked().with_transform(SynchronizedAugmentation([Flip(1.0)]))[0]]) == [True]


@pytest.mark.parametrize("workers", [0, 2])
def test_same_seeds_same_rows_and_other_rows_each_epoch(workers: int) -> None:
    def two_epochs(seed: int) -> list[list[bool]]:
        data = marked()
        data.set_transform(SynchronizedAugmentation([Flip()], seed=seed))
        torch.manual_seed(5)
        loader = DataLoader(data, batch_size=5, shuffle=True, num_workers=workers, collate_fn=collate)
        return [flips(epoch(loader)) for _ in range(2)]

    first = two_epochs(0)
    assert first == two_epochs(0)
    assert first[0] != first[1]
    assert first != two_epochs(1)


def test_workers_do_not_repeat_each_other_nor_themselves() -> None:
    data = marked()
    data.set_transform(SynchronizedAugmentation([Flip()], seed=0))
    loader = DataLoader(data, batch_size=20, num_workers=2, collate_fn=collate, persistent_workers=True)
    drawn = [flips(epoch(loader)) for _ in range(2)]
    halves = [half for one in drawn for half in (one[:20], one[20:])]
    assert len({tuple(half) for half in halves}) == 4


def test_draws_leave_the_global_generators_alone() -> None:
    augment = SynchronizedAugmentation(STEPS, columns=EVERYTHING)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = augment.row(full_row())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    torch.manual_seed(9)
    again = SynchronizedAugmentation(STEPS, columns=EVERYTHING).row(full_row())
    assert same(again, first)


def test_set_epoch_starts_afresh() -> None:
    row = marked()[0]
    augment = SynchronizedAugmentation([Flip()])
    first = flips([augment.row(row) for _ in range(30)])
    augment.set_epoch(0)
    assert flips([augment.row(row) for _ in range(30)]) == first
    augment.set_epoch(1)
    second = flips([augment.row(row) for _ in range(30)])
    assert second != first
    resumed = SynchronizedAugmentation([Flip()])
    resumed.set_epoch(1)
    assert flips([resumed.row(row) for _ in range(30)]) == second


def test_processes_of_a_distributed_run_draw_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        draws.append(torch.rand(4, generator=Keys(0).next()))
    assert not torch.equal(*draws)


def test_all_steps_on_a_full_row_and_the_same_in_a_batch() -> None:
    rows = [full_row(), full_row()]
    rows[1]["caption"] = "a right dog and a cat"
    augment = SynchronizedAugmentation(STEPS, seed=3, columns=EVERYTHING)
    batch = augment({**{name: [row[name] for row in rows] for name in rows[0]}, "other": ["x", "y"]})
    one_by_one = SynchronizedAugmentation(STEPS, seed=3, columns=EVERYTHING)
    for position, row in enumerate(rows):
        new = one_by_one.row(row)
        assert same({name: value[position] for name, value in batch.items() if name != "other"}, new)
        height, width = new["image"][0].shape[-2:]
        assert new["image"][1].shape[-2:] == new["video"].shape[-2:] == new["masks"].shape == (height, width)
        assert len(new["labels"]) == len(new["boxes"])
        assert all(0 <= phrase["box"] < len(new["boxes"]) for phrase in new["phrases"])
        captions = [new["caption"], *new["alternatives"]]
        assert all(any(phrase["text"] in caption.lower() for caption in captions) for phrase in new["phrases"])
        assert len(new["video"]) / 4 == pytest.approx(new["audio"]["array"].shape[1] / 8)
    assert batch["other"] == ["x", "y"]
    assert same(rows[0], full_row())


def test_real_rows_stay_true() -> None:
    data = load_emoji("image-text")["train"].filter(lambda c: "left" in c or "right" in c, input_columns="caption")
    before = data[:30]
    augment = SynchronizedAugmentation([Flip(), ColorJitter()], columns=Columns(caption=("caption", "keywords")))
    data.set_transform(augment)
    after = data[:30]
    changed = [new != old for old, new in zip(before["caption"], after["caption"])]
    assert 5 < sum(changed) < len(changed)
    for old, new in zip(before["caption"], after["caption"]):
        assert new in (old, mirror_words(old))
    assert after["emoji"] == before["emoji"]
    assert all(image.size == (32, 32) for image in after["image"])


def test_independent_draws_warn_once_and_break_the_alignment() -> None:
    with pytest.warns(UserWarning, match="alignment") as caught:
        augment = SynchronizedAugmentation([Flip()], synchronized=False)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = marked()[0]
        new = [augment.row(row) for _ in range(60)]
    mirrored = [bool(np.array(r["image"])[0, 0, 0] == 0) for r in new]
    said = ["right" in r["caption"] for r in new]
    assert {(a, b) for a, b in zip(mirrored, said)} == {(False, False), (False, True), (True, False), (True, True)}


def test_independent_draws_work_on_a_full_row() -> None:
    with pytest.warns(UserWarning, match="alignment"):
        augment = SynchronizedAugmentation(STEPS, columns=EVERYTHING, synchronized=False)
    new = [augment.row(full_row()) for _ in range(20)]
    assert {len(row["video"]) / 4 == row["audio"]["array"].shape[1] / 8 for row in new} == {False, True}


def test_augmentation_can_be_pickled_and_hashed_by_datasets() -> None:
    from datasets.fingerprint import Hasher

    augment = SynchronizedAugmentation([Flip(), Crop()])
    assert Hasher.hash(augment) == Hasher.hash(SynchronizedAugmentation([Flip(), Crop()]))
    assert flips([pickle.loads(pickle.dumps(augment)).row(marked()[0])])


def test_import_is_cheap() -> None:
    code = "import sys, hf_mixup.augment; print(*{'torchvision', 'PIL', 'scipy', 'librosa'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
