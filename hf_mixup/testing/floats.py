"""Batches of images, videos, audio clips and time series."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_mixup.testing.families import Family


def float_inputs(family: Family, model: Any, rows: int, rng: torch.Generator) -> dict[str, Any]:
    """Make a batch of floats for a model, with the labels of its family."""
    make = {"image": _images, "video": _videos, "audio": _audios, "time": _series}[family.partition("-")[0]]
    inputs = make(model, rows, rng)
    if family.endswith("classification"):
        key = "target_values" if "target_values" in inspect.signature(model.forward).parameters else "labels"
        return {**inputs, key: torch.arange(rows) % model.config.num_labels}
    if family == "time-series-regression":
        return {**inputs, "target_values": torch.randn(rows, model.config.num_targets, generator=rng)}
    return {**inputs, "future_values": torch.randn(rows, model.config.horizon_length, generator=rng)}


def _images(model: PreTrainedModel, rows: int, rng: torch.Generator) -> dict[str, Any]:
    config = model.config
    vision = getattr(config, "vision_config", config)
    channels = next((n for n in (getattr(vision, k, None) for k in ("num_channels", "in_channels")) if n), 3)
    channels = channels if isinstance(channels, int) else 3
    if config.model_type == "imagegpt":
        return {"input_ids": torch.randint(10, 60, (rows, 16), generator=rng)}
    if config.model_type == "siglip2":
        side, patches = vision.patch_size, vision.num_patches
        return {
            "pixel_values": torch.randn(rows, patches, channels * side * side, generator=rng),
            "pixel_attention_mask": torch.ones(rows, patches, dtype=torch.long),
            "spatial_shapes": torch.full((rows, 2), int(patches**0.5)),
        }
    size = getattr(vision, "image_size", None) or 32
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    name = "inputs" if config.model_type == "perceiver" else "pixel_values"
    return {name: torch.randn(rows, channels, height, width, generator=rng)}


def _videos(model: PreTrainedModel, rows: int, rng: torch.Generator) -> dict[str, Any]:
    config = model.config
    frames = next(n for n in (getattr(config, k, None) for k in ("num_frames", "frames_per_clip")) if n)
    size = next(n for n in (getattr(config, k, None) for k in ("crop_size", "image_size")) if n)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return {model.main_input_name: torch.randn(rows, frames, 3, height, width, generator=rng)}


def _audios(model: PreTrainedModel, rows: int, rng: torch.Generator) -> dict[str, Any]:
    config = model.config
    shapes = {
        "audio-spectrogram-transformer": lambda: (config.max_length, config.num_mel_bins),
        "wav2vec2-bert": lambda: (20, config.feature_projection_input_dim),
        "whisper": lambda: (config.num_mel_bins, 2 * config.max_source_positions),
    }
    shape = shapes[config.model_type]() if config.model_type in shapes else (800,)
    inputs = {model.main_input_name: torch.randn(rows, *shape, generator=rng)}
    if model.main_input_name == "input_values" and len(shape) == 1:
        inputs["attention_mask"] = torch.ones(rows, *shape, dtype=torch.long)
    return inputs


def _series(model: PreTrainedModel, rows: int, rng: torch.Generator) -> dict[str, Any]:
    config = model.config
    channels = getattr(config, "num_input_channels", None)
    shape = (config.context_length,) if channels is None else (config.context_length, channels)
    return {"past_values": torch.randn(rows, *shape, generator=rng)}
