"""Videos, as frames -> classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_mixup.experiments.tasks.arguments import register
from hf_mixup.experiments.tasks.shared import Classified, WithVideos

if TYPE_CHECKING:
    from datasets import Dataset


@register
@dataclass(kw_only=True)
class VideoClassification(WithVideos, Classified):
    """One class a video.

    >>> VideoClassification(model_type="videomae", frames=4).columns
    {'input': 'video', 'label': 'label'}
    """

    task: str = "video-classification"
    input_setting = "video_column"
    preview_kind = "images"

    def bundled(self) -> Any:
        from hf_mixup.experiments.tasks.video import emoji_video

        return {"emoji": emoji_video}

    def read_inputs(self, rows: Dataset, split: str) -> Dataset:
        from hf_mixup.experiments.tasks.columns import read_videos

        return read_videos(rows, self.video_column)

    def load_processor(self, train: Dataset) -> Any:
        from hf_mixup.experiments.tasks.image import load_image_processor

        return load_image_processor(self)

    def samples(self, rows: Dataset, processor: Any, train: bool = False) -> Any:
        from hf_mixup.experiments.tasks.video import VideoRows

        return VideoRows(rows, processor, self)

    def load_model(self, label_names: list[str], processor: Any) -> Any:
        from hf_mixup.experiments.tasks.video import load_video_model

        return load_video_model(self, label_names)
