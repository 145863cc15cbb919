"""Colour jitter leaves alone what the words name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from hf_mixup.augment import (
    ColorJitter,
    JitterParams,
    Sample,
    Segment,
)
from tests.augment.common import image, pil, rng


@pytest.mark.parametrize(
    ("text", "held"),
    [("a cat", ""), ("a red cat", "color"), ("a dark room", "shade"), ("a white cat", "both"), ("dark red", "both")],
)
def test_jitter_leaves_alone_what_the_words_name(text: str, held: str) -> None:
    params = ColorJitter().draw(Sample({"image": image()}, captions={"caption": ["", text]}), rng())
    assert (params.hue == 0 and params.saturation == 1) == (held in ("color", "both"))
    assert (params.brightness == 1 and params.contrast == 1) == (held in ("shade", "both"))


def test_jitter_reads_timed_text_too_and_draws_within_range() -> None:
    spoken = Sample({"image": image()}, timed_text=(Segment({}, "a white and blue ship", 0, 1),))
    assert ColorJitter().draw(spoken, rng()) == JitterParams()
    drawn = [ColorJitter(0.1, 0.2, 1.5, 0.05).draw(Sample(), rng(seed)) for seed in range(200)]
    assert all(0.9 <= p.brightness <= 1.1 and 0.8 <= p.contrast <= 1.2 for p in drawn)
    assert all(0 <= p.saturation <= 2.5 and -0.05 <= p.hue <= 0.05 for p in drawn)
    assert max(p.saturation for p in drawn) > 2.3


def test_jitter_is_shared_by_views_and_frames_and_spares_masks() -> None:
    same = image()
    sample = Sample({"image": [same, same]}, masks={"mask": same[0]}, frames=torch.stack([same, same]), fps=1)
    new = ColorJitter().apply(sample, JitterParams(1.3, 0.8, 0.5, 0.1))
    first, second = new.images["image"]
    assert not torch.equal(first, same)
    assert torch.equal(first, second)
    assert torch.equal(new.frames[1], first)
    assert torch.equal(new.masks["mask"], same[0])


def test_jitter_brightness_and_grey_against_arithmetic() -> None:
    image = torch.rand(3, 4, 4, generator=rng())
    dark = ColorJitter().apply(Sample({"image": image}), JitterParams(brightness=0.5)).images["image"]
    torch.testing.assert_close(dark, image / 2)
    grey = ColorJitter().apply(Sample({"image": image}), JitterParams(saturation=0.0)).images["image"]
    luma = image[0] * 0.2989 + image[1] * 0.587 + image[2] * 0.114
    torch.testing.assert_close(grey, luma.expand(3, 4, 4))
    turned = ColorJitter().apply(Sample({"image": pil()}), JitterParams(hue=0.5)).images["image"]
    assert turned.size == (10, 8)


@pytest.mark.parametrize("image", [Image.new("RGBA", (4, 4)), Image.new("P", (4, 4)), torch.zeros(4, 4, 4)])
def test_jitter_refuses_other_colours(image: Any) -> None:
    with pytest.raises(ValueError, match="RGB or greyscale"):
        ColorJitter().apply(Sample({"image": image}), JitterParams(brightness=0.5))
