"""What single methods need or can do beyond mixing inputs: small classes that a method has among its bases.

Whoever wants to know asks by `isinstance`, of each of the methods that may be drawn (`Method.choices`) or that a method
holds (`registry.each_part`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor

from hf_mixup.methods._learner import Learner


class MixesPixelLabels:
    """Has a rule for labels of pixels, [B, H, W]: see `Method.other_labels` and `Method.label_lam`."""

    def pixel_parts(self, labels: Tensor, draw: Any) -> Tensor:
        """Return whose part of a mixed image each pixel lies in, long [B or 1, H, W].

        0 is the sample's own, 1 the partner's, 2 and more those of `Method.further_rows`.

        Args:
            labels: of pixels, [B, H, W].
        """
        return (self.label_lam(labels, draw) == 0).long()  # type: ignore[attr-defined]


class MixesForecasts:
    """Mixes past and future alike, linearly, so that a model's own loss of a forecast fits the blend."""


class MixesTranscripts:
    """Blends all of two audio clips, so that both transcripts are in the blend, each with the weight of its clip."""


class MixesBoxes:
    """Has a rule for the boxes of object detection."""

    def mixed_boxes(
        self, labels: Sequence[Mapping[str, Tensor]], draw: Any, height: int, width: int
    ) -> list[dict[str, Tensor]]:
        """Return the boxes of the mixed images, with their `weights`.

        Args:
            labels: `class_labels` [N] and `boxes` [N, 4] of each sample.
            draw: on the CPU.
            height, width: of the images, in pixels.
        """
        raise NotImplementedError


class NeedsTokenizer:
    """Reads tokens, and has to know which of them are special."""

    def set_tokenizer(self, tokenizer: Any) -> None:
        """Take what is needed from a tokenizer, or from a processor that has it."""
        raise NotImplementedError


class NeedsAttention:
    """Reads the attention of the mixed forward pass, which the model has to return."""


class NeedsSamplingRate:
    """Has to know how many samples a second its waveforms have."""

    sampling_rate: int


class AsksGuide:
    """Asks a model where to look in the images, which may be another than the one in training."""

    @property
    def asks_guide(self) -> bool:
        """Whether it does with its settings as they are."""
        return True


class Learns:
    """May have a network of its own that is trained beside the model, see `engine.learning`.

    The network is no setting: copies of the method, also those in another process, begin anew.
    """

    learner: Learner | None = None
    saved: dict[str, Any] | None = None  # of the learner, until the first batch tells what network that is

    @property
    def learns(self) -> bool:
        """Whether it does with its settings as they are."""
        raise NotImplementedError

    def learner_for(self, request: Any) -> Learner:
        """Return the learner, made for the first batch: from the seed of the run, or as it was saved."""
        raise NotImplementedError

    def begin(self, saved: dict[str, Any] | None = None) -> None:
        """Begin a run, anew or as it was saved."""
        self.learner, self.saved = None, deepcopy(saved)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "learner": None, "saved": None}


class SettlesLater:
    """Draws what is complete only when the model has run: its draws are `open`."""

    def settle(self, logits: Tensor, labels: Tensor, draw: Any) -> Any:
        """Return the draw with the partners, or lam, that follow from the forward pass of the mixed batch."""
        raise NotImplementedError
