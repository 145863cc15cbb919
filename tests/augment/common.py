"""Rows and images that the tests of augmentation share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from hf_mixup.augment import (
    ColorJitter,
    Columns,
    Crop,
    Flip,
    FlipParams,
    Sample,
    Segment,
    Speed,
    TemporalCrop,
)

FLIP, STAY = FlipParams(True), FlipParams(False)


EVERYTHING = Columns(
    image="image",
    caption=("caption", "alternatives"),
    masks="masks",
    boxes="boxes",
    per_box=("labels",),
    phrases="phrases",
    audio="audio",
    video="video",
    fps="fps",
    timed_text="subtitles",
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(height: int = 8, width: int = 10, seed: int = 0) -> Tensor:
    return torch.randint(256, (3, height, width), generator=rng(seed), dtype=torch.uint8)


def pil(height: int = 8, width: int = 10, seed: int = 0) -> Image.Image:
    return Image.fromarray(image(height, width, seed).permute(1, 2, 0).numpy())


def pixels(image: Any) -> Tensor:
    return image if isinstance(image, Tensor) else torch.from_numpy(np.array(image)).permute(2, 0, 1)


def same(a: Any, b: Any) -> bool:
    """Equal in type and to the last bit, through lists and dicts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(np.array_equal(a, b))


def full_row() -> dict[str, Any]:
    return {
        "image": [image(), image(seed=1)],
        "caption": "A dog on the left and a bright cat",
        "alternatives": ["a dog and a cat", ""],
        "masks": torch.arange(80).view(8, 10),
        "boxes": [[0.0, 0.0, 4.0, 4.0], [6.0, 1.0, 9.0, 5.0]],
        "labels": [7, 9],
        "phrases": [{"text": "a dog", "box": 0, "id": 3}, {"text": "cat", "box": 1, "id": 4}],
        "audio": {"array": np.arange(32.0).reshape(2, 16), "sampling_rate": 8},
        "video": torch.stack([image(seed=s) for s in range(8)]),
        "fps": 4,
        "subtitles": [{"text": "on your right side", "start": 0.25, "end": 1.5}],
    }


def clip(seconds: int = 10, fps: int = 5, rate: int = 100) -> Sample:
    """Frames and samples that say when they were; one word a second."""
    frames = (torch.arange(seconds * fps) / fps).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    words = tuple(Segment({}, str(second), second, second + 1) for second in range(seconds))
    return Sample(frames=frames, fps=fps, audio=np.arange(seconds * rate) / rate, sampling_rate=rate, timed_text=words)


BOX = st.tuples(*[st.integers(0, 20)] * 4).map(
    lambda b: [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])]
)


STEPS = [Flip(), Crop(), ColorJitter(), TemporalCrop(1.0), Speed((0.5, 2.0))]


def marked(count: int = 40) -> Dataset:
    """Images whose left half is white, and whose caption says so."""
    half = np.zeros((4, 6, 3), dtype=np.uint8)
    half[:, :3] = 255
    return Dataset.from_dict(
        {
            "image": [Image.fromarray(half)] * count,
            "caption": ["snow on the left of it"] * count,
            "row": list(range(count)),
        }
    )
