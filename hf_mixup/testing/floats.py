"""Batches of images, videos, audio clips and time series."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_mixup.testing.families import Family


def float_inputs(family: Family, model: Any, samples: int, rng: torch.Generator) -> dict[str, Any]:
    """Make a batch of floats for a model, with the labels of its family."""
    make = {"image": _images, "video": _videos, "audio": _audios, "time": _series}[family.partition("-")[0]]
    inputs = make(model, samples, rng)
    if family.endswith("classification"):
        key = "target_values" if "target_values" in inspect.signature(model.forward).parameters else "labels"
        return {**inputs, key: torch.arange(samples) % model.config.num_labels}
    if family == "time-series-regression":
        return {**inputs, "target_values": torch.randn(samples, model.config.num_targets, generator=rng)}
    return {**inputs, "future_values": torch.randn(samples, model.config.horizon_length, generator=rng)}


def _images(model: PreTrainedModel, samples: int, rng: torch.Generator) -> dict[str, Any]:
    config = model.config
    vision = getattr(config, "vision_config", config)
    channels = _setting(vision, "num_channels", "in_channels") or 3
    channels = channels if isinstance(channels, int) else 3
    if config.model_type == "imagegpt":
        return {"input_ids": torch.randint(10, 60, (samples, 16), generator=rng)}
    if config.model_type == "siglip2":
        side, patches = vision.patch_size, vision.num_patches
        return {
            "pixel_values": torch.randn(samples, patches, channels * side * side, generator=rng),
            "pixel_attention_mask": torch.ones(samples, patches, dtype=torch.long),
            "spatial_shapes": torch.full((samples, 2), int(patches**0.5)),
        }
    name = "inputs" if config.model_type == "perceiver" else "pixel_values"
    sides = _sides(getattr(vision, "image_size", None) or 32)
    return {name: torch.randn(samples, channels, *sides, generator=rng)}


def _sides(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _videos(model: PreTrainedModel, samples: int, rng: torch.Generator) -> dict[str, Any]:
    frames = _setting(model.config, "num_frames", "frames_per_clip")
    sides = _sides(_setting(model.config, "crop_size", "image_size"))
    return {model.main_input_name: torch.randn(samples, frames, 3, *sides, generator=rng)}


def _setting(config: Any, *names: str) -> Any:
    """Return the first of these settings that a configuration has."""
    return next((value for name in names if (value := getattr(config, name, None))), None)


def _audios(model: PreTrainedModel, samples: int, rng: torch.Generator) -> dict[str, Any]:
    config = model.config
    shapes = {
        "audio-spectrogram-transformer": lambda: (config.max_length, config.num_mel_bins),
        "wav2vec2-bert": lambda: (20, config.feature_projection_input_dim),
        "whisper": lambda: (config.num_mel_bins, 2 * config.max_source_positions),
    }
    shape = shapes[config.model_type]() if config.model_type in shapes else (800,)
    inputs = {model.main_input_name: torch.randn(samples, *shape, generator=rng)}
    if model.main_input_name == "input_values" and len(shape) == 1:
        inputs["attention_mask"] = torch.ones(samples, *shape, dtype=torch.long)
    return inputs


def _series(model: PreTrainedModel, samples: int, rng: torch.Generator) -> dict[str, Any]:
    config = model.config
    channels = getattr(config, "num_input_channels", None)
    shape = (config.context_length,) if channels is None else (config.context_length, channels)
    return {"past_values": torch.randn(samples, *shape, generator=rng)}
