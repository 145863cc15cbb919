"""Audio, in the layouts that the arguments of a model's forward name, the likeliest first."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from hf_mixup.testing.layouts.recipe import AUDIO, Batch, Recipe

KEYS = ("input_features", "input_values", "audio_input_features")
BINS = (
    "num_mel_bins",
    "feature_projection_input_dim",
    "input_feat_per_channel",
    "input_dim",
    "feature_size",
    "input_feat_size",
    "n_mels",
    "input_size",
    "feature_dim",
    "num_chroma",
)
MASKS = ("feature_attention_mask", "input_features_mask", "padding_mask")


def audio_inputs(recipe: Recipe) -> Iterator[Batch]:
    """Yield what a model may be given for its audio."""
    names = [name for name in KEYS if name in recipe.takes]
    main = getattr(getattr(recipe.model, "encoder", None), "main_input_name", recipe.model.main_input_name)
    if not names or None in (getattr(recipe.config, part, ...) for part in AUDIO):
        return iter([{}])
    key = main if main in names else names[0]
    return _waves(recipe) if key == "input_values" else _spectrograms(recipe, key)


def _spectrograms(recipe: Recipe, key: str) -> Iterator[Batch]:
    bins = recipe.size(AUDIO, *BINS, default=getattr(recipe.config, "d_model", 16))
    bins *= recipe.size(AUDIO, "num_stacked_frames", default=1)
    given = recipe.size(AUDIO, "max_source_positions", "n_window", default=32)
    for frames in dict.fromkeys((2 * given if given <= 200 else 64, 32, 64, 100, 200)):
        for shape in ((frames, bins), (bins, frames)):
            yield from _with_masks(recipe, {key: recipe.floats(*shape)}, frames)
        for stacked in (2, 4):  # frames in one
            yield from _with_masks(recipe, {key: recipe.floats(frames // 4, stacked * bins)}, frames // 4)


def _waves(recipe: Recipe) -> Iterator[Batch]:
    patches = getattr(recipe.part(AUDIO), "patch_sizes", None)  # of the stages, each of which joins so many numbers
    for length in (math.prod(patches),) if patches else (800, 1600, 3200, 6400, 24000):
        yield from _with_masks(recipe, {"input_values": recipe.floats(length)}, length)
        yield from _with_masks(recipe, {"input_values": recipe.floats(1, length)}, length)
    yield {"input_values": recipe.floats(40, 32)}


def _with_masks(recipe: Recipe, inputs: Batch, frames: int) -> Iterator[Batch]:
    """Yield audio with the masks of its frames that a model takes, and without."""
    mask = torch.ones(recipe.samples, frames, dtype=torch.long)
    names = [name for name in MASKS if name in recipe.takes]
    if "input_ids" not in recipe.takes and "attention_mask" in recipe.takes:
        names.append("attention_mask")
    if "audio_embed_sizes" in recipe.takes:
        inputs = {**inputs, "audio_embed_sizes": torch.full((recipe.samples,), frames // 8)}
        names.append("audio_attention_mask")
    if "chunk_sample_lengths" in recipe.takes:
        hop = recipe.size(AUDIO, "hop_length", default=1)
        inputs = {**inputs, "chunk_sample_lengths": torch.full((recipe.samples,), frames * hop)}
    if names:
        yield {**inputs, **dict.fromkeys(names, mask)}
        yield {**inputs, **dict.fromkeys(names, mask.bool())}
    yield inputs
