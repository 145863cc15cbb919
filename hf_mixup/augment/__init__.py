"""Synchronized augmentation: one random draw a row, applied to everything that the row holds, before collation.

A mirrored image whose caption still says "left", or a sped-up clip under the old subtitles, teaches a model what is
not so. `SynchronizedAugmentation` is a `datasets` transform that draws the parameters of each step once a row and
applies them to images, masks, boxes, captions, audio, frames and timed text alike. Each step separates `draw`
(random, looks at the whole row) from `apply` (deterministic), so that a draw can be injected, replayed and tested.

torchvision's v2 functions do the pixels (extra ``vision``), scipy resamples audio, librosa stretches it (extra
``audio``); all are imported on first use, as is `hf_mixup.augment.tta`, which averages a model's scores over views.
"""

from hf_mixup.utils.lazy import lazy_modules

from .base import Phrase, Sample, Segment, Transform
from .color import ColorJitter, JitterParams
from .columns import Columns
from .crop import Crop, CropParams
from .flip import Flip, FlipParams
from .rows import read_row, write_row
from .speed import Speed, SpeedParams, TimeStretch
from .synchronized import SynchronizedAugmentation
from .temporal import TemporalCrop, TemporalCropParams
from .words import mirror_words

__all__ = [
    "ColorJitter",
    "Columns",
    "Crop",
    "CropParams",
    "Flip",
    "FlipParams",
    "JitterParams",
    "Phrase",
    "Sample",
    "Segment",
    "Speed",
    "SpeedParams",
    "SynchronizedAugmentation",
    "TemporalCrop",
    "TemporalCropParams",
    "TimeStretch",
    "Transform",
    "mirror_words",
    "read_row",
    "write_row",
]

__getattr__ = lazy_modules(__name__, __path__)
