"""Videos: moving emoji, and rows of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from datasets import ClassLabel, DatasetDict, Features, Image, List, Value
from datasets import Dataset as Rows
from PIL import Image as PILImage
from torch import Tensor

from hf_mixup.data import load_emoji
from hf_mixup.data.pair_collator import as_image
from hf_mixup.experiments.tasks.cached import CachedRows
from hf_mixup.experiments.tasks.shared import WithVideos

MOTIONS = ("left", "right", "up", "down", "clockwise", "counterclockwise", "nearer", "farther")
"""What the emoji of `emoji_video` do; position i is label i."""

_FRAMES, _SIDE = 8, 32
_LONGEST_WAY, _WIDEST_TURN, _ZOOM = 14.0, 100.0, 1.8  # pixels, degrees, and times over a clip
_ROWS = {"train": 640, "validation": 160, "test": 320, "test_shifted": 320}


@cache  # two seconds to make, and a comparison asks for it at every setting
def emoji_video() -> DatasetDict:
    """Videos of eight frames, 32 pixels a side: an emoji moves, and how it moves is the class.

    They are made from the bundled images, the same at every call: the emoji of the splits differ as those of
    `load_emoji("image")` do, and those of `test_shifted` are drawn by another artist. Where a motion starts, how far it
    goes, how large the emoji is, and a slow drift are drawn for each video.

    >>> rows = emoji_video()["validation"]
    >>> rows.num_rows, len(rows[0]["video"]), rows[0]["video"][0].size
    (160, 8, (32, 32))
    """
    images = load_emoji("image")
    features = Features(
        {"video": List(Image(mode="RGB")), "label": ClassLabel(names=list(MOTIONS)), "emoji": Value("string")}
    )
    made = {}
    for number, (split, count) in enumerate(_ROWS.items()):
        generator = np.random.default_rng(number)
        chosen = generator.permutation(len(images[split]))[:count].tolist()
        rows = images[split].select(chosen)
        clips = [
            {"video": _clip(row["image"], index % len(MOTIONS), generator), "label": index % len(MOTIONS),
             "emoji": row["emoji"]}
            for index, row in enumerate(rows)
        ]  # fmt: skip
        made[split] = Rows.from_list(clips, features=features)
    return DatasetDict(made)


def _clip(image: Any, motion: int, generator: np.random.Generator) -> list[Any]:
    drift = generator.uniform(-2, 2, 2)
    begin, angle = generator.uniform(-3, 3, 2), generator.uniform(-20, 20)
    size, strength = generator.uniform(0.6, 0.8), generator.uniform(0.5, 1.0)
    name, frames = MOTIONS[motion], []
    for share in np.linspace(-0.5, 0.5, _FRAMES):
        x, y = begin + drift * share
        way, turn, zoom = strength * share * _LONGEST_WAY, angle, size
        x += {"left": -way, "right": way}.get(name, 0.0)
        y += {"up": -way, "down": way}.get(name, 0.0)
        turn += {"clockwise": -1, "counterclockwise": 1}.get(name, 0) * strength * share * _WIDEST_TURN
        zoom *= _ZOOM ** ({"nearer": 1, "farther": -1}.get(name, 0) * strength * share)
        frames.append(_placed(image, x, y, turn, zoom))
    return frames


def _placed(image: Any, x: float, y: float, turn: float, zoom: float) -> Any:
    """Return the image turned (degrees, counterclockwise), resized and moved (pixels, right and down), on white."""
    middle, angle = (_SIDE - 1) / 2, np.deg2rad(turn)
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    back = (
        *(cos, -sin, middle - cos * (middle + x) + sin * (middle + y)),
        *(sin, cos, middle - sin * (middle + x) - cos * (middle + y)),
    )
    size, kind = (_SIDE, _SIDE), PILImage.Transform.AFFINE
    return image.transform(size, kind, back, PILImage.Resampling.BILINEAR, fillcolor="white")


class VideoRows(CachedRows):
    """Samples of `pixel_values` float32 [T, 3, H, W] and integer `labels`.

    Of each video `task.frames` frames are taken, spread evenly, and processed as single images.

    Raises:
        ValueError: (at the first use) for a clip without frames, or a frame that cannot be read, naming its row.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.data import load_splits
    >>> from hf_mixup.experiments.tasks.image import load_image_processor
    >>> task = TaskArguments(task="video-classification", model_type="videomae", image_size=16, max_train_samples=4)
    >>> rows = VideoRows(load_splits(task).train, load_image_processor(task), task)
    >>> rows[0]["pixel_values"].shape
    torch.Size([8, 3, 16, 16])
    """

    chunk = 32  # clips of several frames each

    def __init__(self, rows: Rows, processor: Callable[..., Any], task: WithVideos) -> None:
        super().__init__(rows, processor, task)
        self.video_column, self.frames = task.video_column, task.frames

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": self._item(index), "labels": self.labels[index]}

    def _processed(self, start: int, stop: int) -> Tensor:
        try:
            clips = self.rows[start:stop][self.video_column]
        except (OSError, SyntaxError):  # Pillow calls a broken PNG a SyntaxError
            self._name_the_broken_frame(start, stop)
            raise
        frames = [frame for index, clip in enumerate(clips) for frame in self._spread(clip, start + index)]
        pixels = self.processor(frames, return_tensors="pt")["pixel_values"]
        return pixels.reshape(len(clips), self.frames, *pixels.shape[-3:])

    def _name_the_broken_frame(self, start: int, stop: int) -> None:
        undecoded = self.rows.cast_column(self.video_column, List(Image(decode=False)))
        for row in range(start, min(stop, len(self))):
            for index, frame in enumerate(undecoded[row][self.video_column] or ()):
                as_image(frame, f"row {row}: frame {index} in column {self.video_column!r}")

    def _spread(self, clip: Sequence[Any] | None, row: int) -> list[Any]:
        if not clip:
            raise ValueError(f"row {row}: the clip in column {self.video_column!r} has no frame: drop the row")
        return [clip[index] for index in np.linspace(0, len(clip) - 1, self.frames).round().astype(int)]
