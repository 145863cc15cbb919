"""Videos, as frames -> classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.bases import PixelClassification
from hf_mixup.experiments.tasks.shared import WithVideos

if TYPE_CHECKING:
    from datasets import Dataset


@register
@dataclass(kw_only=True)
class VideoClassification(WithVideos, PixelClassification):
    """One class a video."""

    task: str = "video-classification"
    auto_class = "AutoModelForVideoClassification"
    input_setting = "video_column"
    preview_kind = "images"

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.video import emoji_video

        return {"emoji": emoji_video}

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_videos

        return read_videos(rows, self.video_column)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.video import VideoRows

        return VideoRows(rows, processor, self)
