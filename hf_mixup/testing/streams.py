"""Inputs of models that read several streams: images, sound, videos and text, in the layouts their forward names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from hf_mixup.testing.sizes import END_OF_WORDS, FIRST_WORD

Batch = dict[str, Any]
VISION = ("vision_config", "image_config", "vision_model_config", "backbone_config", "encoder", "vq_config")
SOUND = ("audio_config", "audio_encoder_config", "audio_encoder", "speech_config", "encoder_config", "encoder")
GRID = 4  # patches along a side where a model takes patches in one row
FRAMES = 2


@dataclass
class Recipe:
    """What is known of a model when a batch is made for it.

    Args:
        model: the model.
        samples: number of samples B.
        rng: where the numbers come from.
    """

    model: Any
    samples: int
    rng: torch.Generator

    @property
    def config(self) -> Any:
        return self.model.config

    @cached_property
    def takes(self) -> set[str]:
        """The names of the arguments of the model's forward."""
        return set(inspect.signature(self.model.forward).parameters)

    def part(self, names: tuple[str, ...]) -> Any:
        """Return the part of the configuration that describes a modality, the whole where there is none."""
        for held in (self.config, getattr(self.config, "thinker_config", None)):
            for name in names:
                found = getattr(held, name, None)
                if isinstance(found, PreTrainedConfig):
                    return found
        return self.config

    def size(self, names: tuple[str, ...], *keys: str, default: Any = None) -> Any:
        """Return the first of these settings that is set, in the part of a modality, its parts, or the whole."""
        part = self.part(names)
        inner = [value for value in vars(part).values() if isinstance(value, PreTrainedConfig)]
        for config in (part, *inner, self.config):
            for key in keys:
                value = getattr(config, key, None)
                if value:
                    return value
        return default

    def floats(self, *shape: int) -> Tensor:
        return torch.randn(self.samples, *shape, generator=self.rng)

    def words(self, length: int, high: int = END_OF_WORDS) -> Tensor:
        return torch.randint(min(FIRST_WORD, high - 2), high, (self.samples, length), generator=self.rng)


# Images


def images(recipe: Recipe) -> Iterator[Batch]:
    """Yield what a model may be given for its images, the likeliest layout first."""
    if "pixel_values" not in recipe.takes:
        key = next((key for key in ("image_pixel_values", "flattened_patches", "image_patches") if key in recipe.takes), None)
        if key is None:
            yield {}
            return
        if key == "flattened_patches":
            yield from _flattened(recipe)
            return
        for found in _whole_images(recipe):
            yield {key: found["pixel_values"]}
        return
    takes = recipe.takes
    if "image_grid_thw" in takes or "grid_thw" in takes:
        yield from _patches_in_one_row(recipe)
    if "image_position_ids" in takes:
        yield from _patches_with_positions(recipe)
    if "target_sizes" in takes:
        yield from _patches_side_by_side(recipe)
    if "spatial_shapes" in takes:
        yield from _patches_of_a_sample(recipe)
    yield from _whole_images(recipe)


def _sides(recipe: Recipe) -> tuple[int, int]:
    size = recipe.size(VISION, "image_size", "input_size", "crop_size", default=64)
    if isinstance(size, dict):
        size = (size["height"], size["width"])
    return (size, size) if isinstance(size, int) else tuple(size)[-2:]  # type: ignore[return-value]


def _channels(recipe: Recipe) -> int:
    found = recipe.size(VISION, "num_channels", "in_channels", "in_chans", default=3)
    return found if isinstance(found, int) else 3


def _patch(recipe: Recipe) -> int:
    size = recipe.size(VISION, "patch_size", default=8)
    return size if isinstance(size, int) else size[-1]


def _whole_images(recipe: Recipe) -> Iterator[Batch]:
    takes, sides, channels = recipe.takes, _sides(recipe), _channels(recipe)
    extra: Batch = {}
    if "image_sizes" in takes:
        extra["image_sizes"] = torch.tensor([sides] * recipe.samples)
    if "pixel_mask" in takes and recipe.config.model_type != "aria":
        extra["pixel_mask"] = torch.ones(recipe.samples, *sides, dtype=torch.long)
    if "high_res_pixel_values" in takes:
        size = getattr(recipe.part(("high_res_vision_config",)), "image_size", 64)
        extra["high_res_pixel_values"] = recipe.floats(channels, size, size)
    whole = recipe.floats(channels, *sides)
    several = {"pixel_values": whole[:, None], **{key: value for key, value in extra.items() if key != "pixel_mask"}}
    if "pixel_attention_mask" in takes:
        several["pixel_attention_mask"] = torch.ones(recipe.samples, 1, *sides, dtype=torch.long)
    if "aspect_ratio_ids" in takes:
        tiles = recipe.size(VISION, "max_num_tiles")
        yield {
            "pixel_values": recipe.floats(1, tiles, channels, *sides),
            "aspect_ratio_ids": torch.full((recipe.samples, 1), 1),
            "aspect_ratio_mask": (torch.arange(tiles) < 1).long().expand(recipe.samples, 1, tiles).contiguous(),
        }
    if "pixel_attention_mask" in takes and "spatial_shapes" not in takes:
        yield several
    yield {"pixel_values": whole, **extra}
    yield several
    for tiles in (2, 5):
        yield {**several, "pixel_values": recipe.floats(tiles, channels, *sides)}
    if sides != (64, 64):
        for size in (64, 32, 128, 224):
            yield {"pixel_values": recipe.floats(channels, size, size)}


def _patches_in_one_row(recipe: Recipe) -> Iterator[Batch]:
    """Yield the patches of all samples in one tensor, with the grid of each sample: time, height, width."""
    side, channels = _patch(recipe), _channels(recipe)
    merge = recipe.size(VISION, "spatial_merge_size", default=1)
    merge = merge if isinstance(merge, int) else 1
    times = recipe.size(VISION, "temporal_patch_size", default=1)
    grid = GRID if GRID % merge == 0 else 2 * merge
    count = recipe.samples * grid * grid
    key = "image_grid_thw" if "image_grid_thw" in recipe.takes else "grid_thw"
    extra: Batch = {key: torch.tensor([[1, grid, grid]] * recipe.samples)}
    if "image_merge_sizes" in recipe.takes:
        extra["image_merge_sizes"] = torch.full((recipe.samples,), merge)
    for shape in ((channels * times * side * side,), (channels, side, side), (channels * side * side,)):
        yield {"pixel_values": torch.randn(count, *shape, generator=recipe.rng), **extra}


def _patches_with_positions(recipe: Recipe) -> Iterator[Batch]:
    side, channels = _patch(recipe), _channels(recipe)
    grid = 6
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    where = torch.stack([columns.flatten(), rows.flatten()], -1).expand(recipe.samples, -1, -1).contiguous()
    yield {"pixel_values": recipe.floats(grid * grid, channels * side * side).sigmoid(), "image_position_ids": where}


def _patches_of_a_sample(recipe: Recipe) -> Iterator[Batch]:
    side, channels = _patch(recipe), _channels(recipe)
    most = recipe.size(VISION, "num_patches", default=GRID * GRID)
    grid = int(most**0.5) if most <= 64 else GRID
    extra: Batch = {"spatial_shapes": torch.full((recipe.samples, 2), grid)}
    if "pixel_attention_mask" in recipe.takes:
        extra["pixel_attention_mask"] = torch.ones(recipe.samples, grid * grid, dtype=torch.long)
    yield {"pixel_values": recipe.floats(grid * grid, channels * side * side), **extra}


def _patches_side_by_side(recipe: Recipe) -> Iterator[Batch]:
    """Yield all patches of a batch beside each other in one image."""
    side, channels, grid = _patch(recipe), _channels(recipe), 8
    count = recipe.samples * grid * grid
    extra = {"target_sizes": torch.full((recipe.samples, 2), grid)}
    yield {"pixel_values": torch.randn(1, channels, side, count * side, generator=recipe.rng), **extra}


def _flattened(recipe: Recipe) -> Iterator[Batch]:
    """Yield patches with their row and column in front."""
    side, channels = _patch(recipe), _channels(recipe)
    rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    where = torch.stack([rows.flatten(), columns.flatten()], -1).expand(recipe.samples, -1, -1) + 1
    patches = torch.cat([where.float(), recipe.floats(GRID * GRID, channels * side * side)], -1)
    found: Batch = {"flattened_patches": patches}
    if "width" in recipe.takes:
        found |= {"width": torch.full((recipe.samples,), GRID), "height": torch.full((recipe.samples,), GRID)}
    yield found


# Sound


def sounds(recipe: Recipe) -> Iterator[Batch]:
    """Yield what a model may be given for its sound, the likeliest layout first."""
    key = next((key for key in ("input_features", "input_values", "audio_input_features") if key in recipe.takes), None)
    if key is None or (key == "input_values" and "pixel_values" in recipe.takes and False):
        yield {}
        return
    if key == "input_values":
        for length in (800, 1600, 3200, 6400, 24000):
            yield {key: recipe.floats(length)}
            yield {key: recipe.floats(1, length)}
            yield {**{key: recipe.floats(1, length)}, "padding_mask": torch.ones(recipe.samples, length).bool()} if "padding_mask" in recipe.takes else {key: recipe.floats(length // 20, 32)}
        return
    bins = recipe.size(SOUND, "num_mel_bins", "feature_projection_input_dim", "input_feat_per_channel", "input_dim", "feature_size", "input_feat_size", "n_mels", "mel_bins", "input_size", "feature_dim", default=16)
    fixed = recipe.size(SOUND, "max_source_positions", "n_window", default=32)
    for frames in (2 * fixed if fixed <= 200 else 64, 64, 100, 200):
        for shape in ((bins, frames), (frames, bins)):
            yield from _with_mask(recipe, key, recipe.floats(*shape), frames)


def _with_mask(recipe: Recipe, key: str, values: Tensor, frames: int) -> Iterator[Batch]:
    mask = torch.ones(recipe.samples, frames, dtype=torch.long)
    names = [name for name in ("feature_attention_mask", "input_features_mask") if name in recipe.takes]
    for name in names:
        yield {key: values, name: mask}
        yield {key: values, name: mask.bool()}
    if "audio_embed_sizes" in recipe.takes:
        yield {key: values, "audio_embed_sizes": torch.full((recipe.samples,), frames // 8), "audio_attention_mask": mask.bool()}
    yield {key: values}


# How many positions of the text a stream takes


def features_of(recipe: Recipe, name: str, inputs: Batch) -> int | None:
    """Return how many positions the features of a stream take in each sample, None if the model does not say."""
    for module in (recipe.model, recipe.model.base_model, getattr(recipe.model, "thinker", None), getattr(getattr(recipe.model, "thinker", None), "model", None)):
        make: Callable[..., Any] | None = getattr(module, name, None)
        if make is None:
            continue
        asked = inspect.signature(make).parameters
        given = {key: value for key, value in inputs.items() if key in asked}
        with torch.no_grad():
            found = make(**given)
        found = getattr(found, "pooler_output", found)
        found = found if isinstance(found, (list, tuple)) else [found]
        held = [each for each in found if isinstance(each, Tensor)]
        if not held:
            return None
        return sum(each.numel() // each.shape[-1] for each in held) // recipe.samples
    return None
