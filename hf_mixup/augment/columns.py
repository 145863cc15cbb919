"""Which column of a row holds what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from hf_mixup.utils.suggest import did_you_mean

Names = str | tuple[str, ...] | None


@dataclass(frozen=True)
class Columns:
    """The names of the columns that augmentation reads and changes; None is what the rows do not have.

    Args:
        image: a PIL image or a tensor [C, H, W], or a list of these (views, frames). Several columns may be named.
        caption: a string, or a list of strings. Several columns may be named.
        masks: a PIL image or a tensor [..., H, W] of the image's size, or a list of these.
        boxes: [N, 4] as (left, top, right, bottom) in pixels: nested lists, array, tensor or tv_tensors.BoundingBoxes.
        per_box: columns with one entry a box (labels, areas, instance masks): those of boxes cropped away are removed.
        phrases: a list of ``{"text": ..., "box": ...}``: words of the caption, and where they are seen, as a position
            in ``boxes`` or as four numbers. Words seen in several places are several entries.
        audio: ``{"array": [..., T], "sampling_rate": hertz}``, as `datasets` gives it, or the array alone.
        sampling_rate: the column, or the number itself, where audio is an array alone.
        video: frames as a list of PIL images or of tensors [C, H, W], or one tensor [T, C, H, W].
        fps: the column with the frames per second, or the number itself.
        timed_text: a list of ``{"text": ..., "start": seconds, "end": seconds}``.

    Raises:
        ValueError: names that need one another: a video and its fps, phrases and their caption, boxes and an image.

    >>> Columns(image=("left_eye", "right_eye"), boxes="boxes").names("image")
    ('left_eye', 'right_eye')
    """

    image: Names = "image"
    caption: Names = "caption"
    masks: Names = None
    boxes: str | None = None
    per_box: Names = None
    phrases: str | None = None
    audio: str | None = None
    sampling_rate: str | float | None = None
    video: str | None = None
    fps: str | float | None = None
    timed_text: str | None = None

    def __post_init__(self) -> None:
        seen = self.image or self.video
        for name, needs, what in (
            ("masks", seen, "image or video"),
            ("boxes", seen, "image or video"),
            ("per_box", self.boxes, "boxes"),
            ("phrases", self.caption, "caption"),
            ("phrases", seen, "image or video"),
            ("sampling_rate", self.audio, "audio"),
            ("video", self.fps, "fps"),
            ("fps", self.video, "video"),
        ):
            if getattr(self, name) and not needs:
                raise ValueError(f"Columns({name}={getattr(self, name)!r}) needs {what} too: name its column")
        if not self.changed():
            raise ValueError("Columns names no column: name at least one of image, caption, audio, video, timed_text")

    def names(self, field: str) -> tuple[str, ...]:
        """Return the columns of one field."""
        named = getattr(self, field)
        if isinstance(named, str):
            return (named,)
        return tuple(named) if isinstance(named, (tuple, list)) else ()

    def read(self) -> tuple[str, ...]:
        """Return every column that a row must have."""
        return tuple(dict.fromkeys(name for field in fields(self) for name in self.names(field.name)))

    def changed(self) -> tuple[str, ...]:
        """Return every column that augmentation may change."""
        kept = {*self.names("sampling_rate"), *self.names("fps")}
        return tuple(name for name in self.read() if name not in kept)

    def check(self, present: Iterable[str]) -> None:
        """Refuse rows that lack a column.

        Raises:
            ValueError: naming the column and the nearest one that is there.
        """
        present = list(present)
        for name in self.read():
            if name not in present:
                raise ValueError(
                    f"there is no column {name!r}: {did_you_mean(name, present)}. Columns(...) says which column holds "
                    "what; set a field to None if the rows do not have it"
                )
