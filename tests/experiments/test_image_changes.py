"""Corruptions, noise and out-of-distribution images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_mixup.data import load_emoji
from hf_mixup.experiments.evaluate import image_changes


class Plain:
    """A processor without normalisation."""

    do_normalize = False


def image(size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


SLOW = pytest.param("glass_blur", marks=pytest.mark.slow)  # it is compiled at its first use
REST = [name for name in (*image_changes.CORRUPTIONS, *image_changes.MORE_CORRUPTIONS) if name != "glass_blur"]


@pytest.mark.parametrize("name", [SLOW, *REST])
def test_corruptions_follow_from_their_seed_alone(name: str) -> None:
    pytest.importorskip("imagecorruptions")
    change, draws = image_changes.corruption(name, 3), np.random.SeedSequence
    state = np.random.get_state()[1].copy()
    once, again, other = (change(image(), draws(seed)) for seed in (0, 0, 1))
    assert (np.random.get_state()[1] == state).all(), "numpy's global generator is left as it was"
    assert once.dtype == np.uint8
    assert once.shape == (32, 32, 3)
    assert (once == again).all()
    assert (once != image()).any()
    drawn = name not in (*("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate"),
                         *("jpeg_compression", "gaussian_blur", "saturate"))  # fmt: skip
    assert (once != other).any() == drawn


def test_severities_rise_and_small_images_are_enlarged() -> None:
    pytest.importorskip("imagecorruptions")
    smooth = np.asarray(load_emoji("image")["test"][0]["image"])
    for name in ("gaussian_noise", "contrast", "jpeg_compression"):
        corrupted = [image_changes.corruption(name, level)(smooth, np.random.SeedSequence(0)) for level in (1, 3, 5)]
        changes = [float(np.abs(each.astype(float) - smooth).mean()) for each in corrupted]
        assert changes == sorted(changes)
    assert image_changes.corruption("contrast", 1)(image(12), np.random.SeedSequence(0)).shape == (12, 12, 3)


def test_changes_see_the_image_as_the_model_does() -> None:
    seen = torch.from_numpy(image()).permute(2, 0, 1).float() / 255

    class Normalised:
        image_mean, image_std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]

    mean, std = (torch.tensor(values)[:, None, None] for values in (Normalised.image_mean, Normalised.image_std))
    rows = [{"pixel_values": (seen - mean) / std, "labels": 1}]
    same = image_changes.ChangedImages(rows, Normalised(), lambda found, draws: found, (0,))
    torch.testing.assert_close(same[0]["pixel_values"], rows[0]["pixel_values"], rtol=0, atol=1e-5)
    assert same[0]["labels"] == 1
    found: list[np.ndarray] = []
    image_changes.ChangedImages(rows, Normalised(), lambda each, draws: found.append(each) or each, (0,))[0]
    assert (found[0] == image()).all()
    with pytest.raises(ValueError, match="do not lead back to images"):
        image_changes.ChangedImages(rows, Plain(), lambda each, draws: each, (0,))[0]


def test_each_image_has_draws_of_its_own() -> None:
    rows = [{"pixel_values": torch.full((3, 40, 40), 0.5), "labels": 0}] * 2
    noise = image_changes.gaussian_noise(0.1)
    noisy, again, other = (image_changes.ChangedImages(rows, Plain(), noise, (seed, 7)) for seed in (0, 0, 1))
    first, second = noisy[0]["pixel_values"], noisy[1]["pixel_values"]
    assert torch.equal(first, again[0]["pixel_values"])
    assert not torch.equal(first, second)
    assert not torch.equal(first, other[0]["pixel_values"])
    assert float(first.std()) == pytest.approx(0.1, rel=0.05)


def test_out_of_distribution_images() -> None:
    own, draws = image(10), np.random.SeedSequence(3)
    shuffled = image_changes.shuffled_patches(own, draws)
    assert sorted(shuffled[:8, :8].ravel()) == sorted(own[:8, :8].ravel())
    assert (shuffled[8:] == own[8:]).all()
    blocks = {own[y : y + 2, x : x + 2].tobytes() for y in range(0, 8, 2) for x in range(0, 8, 2)}
    assert {shuffled[y : y + 2, x : x + 2].tobytes() for y in range(0, 8, 2) for x in range(0, 8, 2)} == blocks
    with pytest.raises(ValueError, match="3 x 3 pixels has no 4 x 4 pieces"):
        image_changes.shuffled_patches(image(3), draws)
    noise = image_changes.gaussian_pixels(image(64), draws)
    assert noise.mean() == pytest.approx(127.5, abs=2)
