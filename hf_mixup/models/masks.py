"""The masks of mixed inputs: what is shown of a blend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hf_mixup.models.axes import OBSERVED
from hf_mixup.models.batches import HEARD, IDS, per_sample
from hf_mixup.models.embeddings import unite_masks

OF_FLOATS = ("pixel", "image", "feature", "input_features", "audio", "video", "visual", "speech")
"""How the names of masks begin that belong to floats beside tokens."""


def masks_of_floats(batch: Mapping[str, Any], partner: Tensor, lam: Tensor) -> dict[str, Tensor]:
    """Return the masks of blended floats, by their names: of series, of audio clips, of images."""
    return {
        **united_mask(batch, partner, lam),
        **_observed(batch, partner, lam),
        **_shown(batch, partner, lam),
    }


def united_mask(batch: Mapping[str, Any], partner: Tensor, lam: Tensor) -> dict[str, Tensor]:
    """Return the mask of mixed audio clips or series, by its name: what is heard of either; none beside tokens.

    A sample without a share (lam = 0 or 1) adds nothing, so that both ends are exact for any lengths.
    """
    masks = {key: mask for key in HEARD if isinstance(mask := batch.get(key), Tensor) and mask.dim() == 2}
    return {} if IDS in batch else {key: unite_masks(mask, mask[partner], lam)[0] for key, mask in masks.items()}


def _observed(batch: Mapping[str, Any], partner: Tensor, lam: Tensor) -> dict[str, Tensor]:
    """Return the masks of mixed series: a blend is known where both were observed, or the one that has a share."""
    masks = {key: mask for key in OBSERVED if isinstance(mask := batch.get(key), Tensor)}
    for key, mask in masks.items():
        share = lam.reshape(-1, *(1,) * (mask.dim() - 1))
        own, other = mask.bool() | (share == 0), mask[partner].bool() | (share == 1)
        masks[key] = (own & other).to(mask.dtype)
    return masks


def _shown(batch: Mapping[str, Any], partner: Tensor, lam: Tensor) -> dict[str, Tensor]:
    """Return the masks of mixed images, features and clips: what is no padding of either sample that has a share."""
    count = len(partner)
    return {
        key: unite_masks(mask, mask[partner], lam)[0]
        for key, mask in batch.items()
        if key.startswith(OF_FLOATS) and key.endswith("mask") and per_sample(key, mask, count)
    }
