"""What is done to single training images ahead of mixing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from transformers import ViTImageProcessor

from hf_mixup.cli import main
from hf_mixup.experiments.tasks.arguments import TaskArguments
from hf_mixup.experiments.tasks.augmentation import AUGMENTATIONS, Augmentation
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.image import load_image_processor
from hf_mixup.experiments.tasks.prepare import prepare

PROCESSOR = ViTImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.3])
MEAN, STD = (torch.tensor(values)[:, None, None] for values in (PROCESSOR.image_mean, PROCESSOR.image_std))


def image(seed: int = 0) -> Tensor:
    return torch.rand(3, 17, 23, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["randaugment", "trivialaugment", "autoaugment", "augmix"])
def test_it_is_torchvisions_on_colours_as_they_are_seen(name: str) -> None:
    peer = {"randaugment": v2.RandAugment, "trivialaugment": v2.TrivialAugmentWide, "autoaugment": v2.AutoAugment,
            "augmix": v2.AugMix}[name]()  # fmt: skip
    ours = Augmentation([name], PROCESSOR)
    for seed in range(12):
        torch.manual_seed(seed)
        found = ours((image() - MEAN) / STD) * STD + MEAN
        torch.manual_seed(seed)
        torch.testing.assert_close(found, peer(image()), rtol=0, atol=1e-2 if name == "autoaugment" else 1e-3)


def test_erasing_fills_with_the_mean() -> None:
    ours, erased = Augmentation(["erasing"], PROCESSOR), 0
    torch.manual_seed(0)
    for seed in range(400):
        normalised = (image(seed) - MEAN) / STD
        found = ours(normalised)
        changed = (found != normalised).any(0)
        erased += bool(changed.any())
        assert (found[:, changed] == 0).all()
    assert 70 < erased < 130  # a quarter


def test_a_crop_is_torchvisions_within_an_eighth() -> None:
    ours, normalised = Augmentation(["crop"], PROCESSOR), (image() - MEAN) / STD
    peer = v2.RandomCrop((17, 23), padding=2, padding_mode="edge")
    for seed in range(30):
        torch.manual_seed(seed)
        found = ours(normalised) * STD + MEAN
        torch.manual_seed(seed)
        torch.testing.assert_close(found, peer(image()))


def test_a_processor_that_does_not_normalise() -> None:
    torch.manual_seed(0)
    found = Augmentation(["trivialaugment"], ViTImageProcessor(do_normalize=False))(image())
    torch.manual_seed(0)
    torch.testing.assert_close(found, v2.TrivialAugmentWide()(image()))


def test_only_training_rows_change() -> None:
    task = TaskArguments(model_type="resnet", image_size=16, max_train_samples=8, augment=list(AUGMENTATIONS))
    prepared = prepare(task)
    rows = prepared.evaluated["test"]
    assert torch.equal(rows[0]["pixel_values"], rows[0]["pixel_values"])
    torch.manual_seed(0)
    drawn = [prepared.train[0]["pixel_values"] for _ in range(8)]
    assert any(not torch.equal(drawn[0], other) for other in drawn[1:])
    assert all(each.dtype == torch.float32 and each.isfinite().all() for each in drawn)
    expected = load_image_processor(task)(load_splits(task).train[0]["image"], return_tensors="pt")["pixel_values"][0]
    assert drawn[0].shape == expected.shape


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--augment", "randaugmet"], "did you mean 'randaugment'"),
        (["--augment", "erasing", "--task", "text-classification"], "is not for text-classification"),
    ],
)
def test_bad_names_are_refused(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    assert main(["train", *flags, "--output_dir", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
