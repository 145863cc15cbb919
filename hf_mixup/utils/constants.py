"""What several rooms share, without torch: metrics, reports and help are made where it is not loaded."""

from typing import Literal, get_args

IGNORE_INDEX = -100
"""The label that `torch` and `transformers` leave out of the loss."""

Modality = Literal["image", "text", "audio", "video", "table", "pairs"]
"""A kind of samples that methods mix; pairs are of an image and a text, for dual encoders."""
MODALITIES: tuple[Modality, ...] = get_args(Modality)
