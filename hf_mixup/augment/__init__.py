"""Synchronized augmentation: one random draw a row, applied to everything that the row holds, before collation.

A mirrored image whose caption still says "left", or a sped-up clip under the old subtitles, teaches a model what is
not so. `SynchronizedAugmentation` is a `datasets` transform that draws the parameters of each step once a row and
applies them to images, masks, boxes, captions, audio, frames and timed text alike. Each step separates `draw`
(random, looks at the whole row) from `apply` (deterministic), so that a draw can be injected, replayed and tested.

torchvision's v2 functions do the pixels (extra ``vision``), scipy resamples audio, librosa stretches it (extra
``audio``); all are imported on first use, as is `hf_mixup.augment.tta`, which averages a model's scores over views.
"""

from hf_mixup.utils.lazy import lazy_modules

from .base import Phrase as Phrase
from .base import Sample as Sample
from .base import Segment as Segment
from .base import Transform as Transform
from .color import ColorJitter as ColorJitter
from .color import JitterParams as JitterParams
from .columns import Columns as Columns
from .crop import Crop as Crop
from .crop import CropParams as CropParams
from .flip import Flip as Flip
from .flip import FlipParams as FlipParams
from .rows import read_row as read_row
from .rows import write_row as write_row
from .speed import Speed as Speed
from .speed import SpeedParams as SpeedParams
from .speed import TimeStretch as TimeStretch
from .synchronized import SynchronizedAugmentation as SynchronizedAugmentation
from .temporal import TemporalCrop as TemporalCrop
from .temporal import TemporalCropParams as TemporalCropParams
from .words import mirror_words as mirror_words

__getattr__ = lazy_modules(__name__, __path__)
