"""Images, in the layouts that the arguments of a model's forward name, the likeliest first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from hf_mixup.testing.layouts.recipe import VISION, Batch, Recipe

GRID = 4  # patches along a side where a model takes patches
KEYS = ("pixel_values", "image_pixel_values", "flattened_patches", "image_patches", "pixel_values_videos")
GRIDS = ("image_grid_thw", "grid_thw", "image_grid_hw", "grid_hws")


def images(recipe: Recipe) -> Iterator[Batch]:
    """Yield what a model may be given for its images."""
    takes = recipe.takes
    key = next((key for key in KEYS if key in takes), None)
    if key is None:
        return iter([{}])
    if key == "flattened_patches":
        return _flattened(recipe)
    if key == "pixel_values_videos":
        return _clips(recipe)
    ways = [
        _patches_in_one_row(recipe) if takes & set(GRIDS) else [],
        _patches_with_positions(recipe) if "image_position_ids" in takes else [],
        _patches_side_by_side(recipe) if "target_sizes" in takes else [],
        _patches_of_a_sample(recipe) if "spatial_shapes" in takes else [],
        _tiles_with_ratios(recipe) if "aspect_ratio_ids" in takes else [],
        _flat_patches(recipe) if key == "image_patches" else _whole(recipe),
    ]
    return ({(key if name == "pixel_values" else name): value for name, value in each.items()} for each in chain(*ways))


def sides_of(recipe: Recipe) -> tuple[int, int]:
    """Return height and width of the images that a model is made for."""
    size = recipe.size(VISION, "image_size", "input_size", "crop_size", default=64)
    if isinstance(size, dict):
        size = (size["height"], size["width"])
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    return height, width


def channels_of(recipe: Recipe) -> int:
    """Return how many channels the images of a model have."""
    found = recipe.size(VISION, "num_channels", "in_channels", "in_chans", default=3)
    return found if isinstance(found, int) and found <= 4 else 3


def patch_of(recipe: Recipe) -> int:
    """Return the side of a model's patches."""
    size = recipe.size(VISION, "patch_size", "encoder_patch_size", default=8)
    return size if isinstance(size, int) else size[-1]


def _whole(recipe: Recipe) -> Iterator[Batch]:
    """Yield an image a sample, several or one in a row of images, in tiles, and in other sizes."""
    takes, sides, channels = recipe.takes, sides_of(recipe), channels_of(recipe)
    extra: Batch = {}
    if "image_sizes" in takes:
        extra["image_sizes"] = torch.tensor([sides] * recipe.samples)
    if "high_res_pixel_values" in takes:
        size = getattr(recipe.part(("high_res_vision_config",)), "image_size", 64)
        extra["high_res_pixel_values"] = recipe.floats(channels, size, size)
    masks: Batch = {"pixel_mask": _ones(recipe, *sides)} if "pixel_mask" in takes else {}
    many: Batch = {"pixel_attention_mask": _ones(recipe, 1, *sides)} if "pixel_attention_mask" in takes else {}
    whole = recipe.floats(channels, *sides)
    several = {"pixel_values": whole[:, None], **extra, **many}
    if many:
        yield several
        present = {"pixel_attention_mask": _ones(recipe, 1).bool()}  # which images there are
        yield {**several, **present}
        yield {"pixel_values": whole, **extra, **present}
    if masks:
        yield {"pixel_values": whole, **extra, **masks}
    yield {"pixel_values": whole, **extra}
    if extra:
        yield {"pixel_values": whole}
    yield several
    for tiles in (2, 3, 5):
        yield {**several, "pixel_values": recipe.floats(tiles, channels, *sides)}
    for size in sorted({32, 64, 128} - {*sides}):
        yield {"pixel_values": recipe.floats(channels, size, size)}
    times, side = recipe.size(VISION, "temporal_patch_size", default=1), patch_of(recipe)
    yield {"pixel_values": recipe.floats(GRID, times, side, side, channels).flatten(0, 1)}


def _ones(recipe: Recipe, *shape: int) -> Tensor:
    return torch.ones(recipe.samples, *shape, dtype=torch.long)


def _clips(recipe: Recipe) -> Iterator[Batch]:
    frames = recipe.size(VISION, "num_frames", default=2)
    yield {"pixel_values_videos": recipe.floats(frames, channels_of(recipe), *sides_of(recipe))}


def _tiles_with_ratios(recipe: Recipe) -> Iterator[Batch]:
    """Yield an image a sample, in one of the tiles that it may have."""
    tiles = recipe.size(VISION, "max_num_tiles", default=4)
    yield {
        "pixel_values": recipe.floats(1, tiles, channels_of(recipe), *sides_of(recipe)),
        "aspect_ratio_ids": _ones(recipe, 1),
        "aspect_ratio_mask": (torch.arange(tiles) < 1).long().expand(recipe.samples, 1, tiles).contiguous(),
    }


def _patches_in_one_row(recipe: Recipe) -> Iterator[Batch]:
    """Yield the patches of all samples in one tensor, with the grid of each sample: time, height, width."""
    side, channels = patch_of(recipe), channels_of(recipe)
    merge = recipe.size(VISION, "spatial_merge_size", "merge_kernel_size", "merge_size", default=1)
    merge = merge if isinstance(merge, int) else max(merge)
    times = recipe.size(VISION, "temporal_patch_size", "patch_temporal", default=1)
    grid = GRID if GRID % merge == 0 else 2 * merge
    key = next(name for name in GRIDS if name in recipe.takes)
    sizes = [grid, grid] if "hw" in key[-4:] and "thw" not in key else [1, grid, grid]
    extra: Batch = {key: torch.tensor([sizes] * recipe.samples)}
    if "image_merge_sizes" in recipe.takes:
        extra["image_merge_sizes"] = torch.full((recipe.samples,), merge)
    merged = (merge * side, merge * side, channels)
    for shape in ((channels * times * side * side,), (channels, side, side), (channels * side * side,), merged):
        yield {"pixel_values": recipe.floats(grid * grid, *shape).flatten(0, 1), **extra}


def _patches_with_positions(recipe: Recipe) -> Iterator[Batch]:
    """Yield patches of each sample with their columns and rows."""
    side, channels = patch_of(recipe), channels_of(recipe)
    pool = recipe.size(VISION, "pooling_kernel_size", default=2)
    grid = 2 * (pool if isinstance(pool, int) else 2)
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    where = torch.stack([columns.flatten(), rows.flatten()], -1).expand(recipe.samples, -1, -1).contiguous()
    yield {"pixel_values": recipe.floats(grid * grid, channels * side * side).sigmoid(), "image_position_ids": where}


def _patches_of_a_sample(recipe: Recipe) -> Iterator[Batch]:
    side, channels = patch_of(recipe), channels_of(recipe)
    most = recipe.size(VISION, "num_patches", default=GRID * GRID)
    grid = int(most**0.5) if most <= 64 else GRID
    extra: Batch = {"spatial_shapes": torch.full((recipe.samples, 2), grid)}
    if "pixel_attention_mask" in recipe.takes:
        extra["pixel_attention_mask"] = _ones(recipe, grid * grid)
    yield {"pixel_values": recipe.floats(grid * grid, channels * side * side), **extra}


def _patches_side_by_side(recipe: Recipe) -> Iterator[Batch]:
    """Yield all patches of a batch beside each other in one image."""
    side, channels, grid = patch_of(recipe), channels_of(recipe), 8
    rows = recipe.floats(grid * grid, channels, side, side).flatten(0, 1)
    extra = {"target_sizes": torch.full((recipe.samples, 2), grid)}
    yield {"pixel_values": rows.permute(1, 2, 0, 3).flatten(2)[None].contiguous(), **extra}


def _flat_patches(recipe: Recipe) -> Iterator[Batch]:
    side, channels = patch_of(recipe), channels_of(recipe)
    yield {"pixel_values": recipe.floats(GRID, channels * side * side)}


def _flattened(recipe: Recipe) -> Iterator[Batch]:
    """Yield patches with their row and column in front."""
    rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    where = torch.stack([rows.flatten(), columns.flatten()], -1).expand(recipe.samples, -1, -1) + 1
    found: Batch = {}
    if "width" in recipe.takes:
        found = {"width": torch.full((recipe.samples,), GRID), "height": torch.full((recipe.samples,), GRID)}
    for side in dict.fromkeys((patch_of(recipe), 16, 8)):
        patches = recipe.floats(GRID * GRID, channels_of(recipe) * side * side)
        yield {"flattened_patches": torch.cat([where.float(), patches], -1), **found}


def fixed(value: Any) -> int:
    """Return a size that is given once or for each axis."""
    return value if isinstance(value, int) else value[0]
