"""Tiny dual encoders of every architecture that transformers has, built from its auto mappings."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    BertConfig,
    ClvpConfig,
    PreTrainedConfig,
    PreTrainedModel,
    VisionTextDualEncoderConfig,
    ViTConfig,
)
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import model_type_to_module_name

from hf_mixup.models.dual_encoder import embeds_pairs

MAPPINGS = (
    "MODEL_MAPPING_NAMES",
    "MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES",
    "MODEL_FOR_PRETRAINING_MAPPING_NAMES",
)
# Sizes by the names that configurations give them; what a configuration lacks is left out.
SMALL: dict[str, Any] = {
    "hidden_size": 16, "d_model": 16, "dim": 16, "embed_dim": 16, "width": 16, "projection_dim": 12,
    "mit_hidden_size": 16, "intermediate_size": 32, "mit_intermediate_size": 32, "ffn_dim": 32,
    "projection_intermediate_dim": 16,
    "prompt_attention_dropout": 0.0, "num_hidden_layers": 2, "num_layers": 2, "mit_num_hidden_layers": 1,
    "prompt_layers": 1,
    "num_attention_heads": 2, "mit_num_attention_heads": 2, "prompt_num_attention_heads": 2, "num_heads": 2,
    "vocab_size": 60, "max_position_embeddings": 20, "image_size": 32, "patch_size": 8, "num_frames": 2,
    "projection_size": 16, "pooler_output_size": 16, "num_patches": 16, "tubelet_size": [1, 8, 8],
    "pad_token_id": 1, "bos_token_id": 58, "eos_token_id": 59, "project_dim": 16, "encoder_hidden_size": 16,
}  # fmt: skip
SIDES = {"text_config", "vision_config", "image_config", "audio_config", "multimodal_config"}


@cache
def may_embed_texts(model_type: str) -> bool:
    """Whether the source of an architecture has features of texts: to import all of them takes eight seconds."""
    folder = Path(transformers.__file__).parent / "models" / model_type_to_module_name(model_type)
    return any("get_text_features" in path.read_text(encoding="utf-8") for path in folder.glob("modeling_*.py"))


@cache
def dual_encoders(every: bool = False) -> dict[str, str]:
    """Return the class of each dual encoder in the mappings, and its model type; with `every`, after importing all."""
    found = {}
    for mapping in MAPPINGS:
        for model_type, names in getattr(modeling_auto, mapping).items():
            if not every and not may_embed_texts(model_type):
                continue
            for name in [names] if isinstance(names, str) else names:
                with suppress(AttributeError, ImportError):  # a class whose library is not installed
                    if embeds_pairs(getattr(transformers, name)):
                        found[name] = model_type
    return found


def shrink(config: PreTrainedConfig, **extra: Any) -> PreTrainedConfig:
    """Make a configuration tiny, sub-configurations included."""
    for name, value in {**SMALL, **extra}.items():
        if isinstance(getattr(config, name, None), (int, float, type(None))) and hasattr(config, name):
            with suppress(AttributeError, TypeError, ValueError):
                setattr(config, name, value)
    for name in list(vars(config)):
        value = getattr(config, name, None)
        if isinstance(value, PreTrainedConfig):
            shrink(value, **extra)
    return config


def build(name: str, attention: str | None = None) -> PreTrainedModel:
    """Build a tiny model of a class, its weights large enough that rows score apart."""
    torch.manual_seed(0)
    model_class = getattr(transformers, name)
    config = special(dual_encoders()[name])
    model = model_class._from_config(config, **({} if attention is None else {"attn_implementation": attention}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return model.eval()


# What a few architectures need beside small sizes, so that their parts fit together.
EXTRA: dict[str, dict[str, Any]] = {
    "align": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 16, "projection_dim": 32},
    "clap": {"depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "window_size": 4},
    "xclip": {"projection_dim": 16},
}


def special(model_type: str) -> PreTrainedConfig:
    if model_type == "vision-text-dual-encoder":
        return shrink(VisionTextDualEncoderConfig.from_vision_text_configs(ViTConfig(), BertConfig()))
    if model_type == "clvp":
        return speaking()
    config = shrink(AutoConfig.for_model(model_type))
    for part in (config, *(value for value in vars(config).values() if isinstance(value, PreTrainedConfig))):
        for name, value in EXTRA.get(model_type, {}).items():
            if hasattr(part, name) and not (name == "num_attention_heads" and "audio" not in part.model_type):
                setattr(part, name, value)
    return config


def speaking() -> ClvpConfig:
    """A decoder that makes codes of texts and sounds, and encoders that compare codes and texts."""
    encoder: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 12, "vocab_size": 60}
    encoder |= {"num_hidden_layers": 2, "num_attention_heads": 2, "bos_token_id": 58, "eos_token_id": 59}
    encoder["use_rotary_embedding"] = False
    decoder: dict[str, Any] = {"vocab_size": 60, "max_position_embeddings": 120, "max_text_tokens": 64}
    decoder |= {"hidden_size": 16, "n_inner": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "feature_size": 8}
    decoder |= {"num_mel_attn_blocks": 1, "bos_token_id": 58, "eos_token_id": 59, "decoder_fixing_codes": [1, 2, 3, 4]}
    return ClvpConfig(text_config=encoder, speech_config=encoder, decoder_config=decoder, projection_dim=12)


def batch(model: PreTrainedModel, rows: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    """Make pairs with captions of different length, as a processor pads them."""
    generator = torch.Generator().manual_seed(seed)
    length = 10
    ids = torch.randint(3, 57, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(rows):
        end = length - 1 - row % 4 * 2
        ids[row, 0], ids[row, end], ids[row, end + 1 :], mask[row, end + 1 :] = 58, 59, 1, 0
    made = {"input_ids": ids, **images(model.config.model_type, rows, generator)}
    return made if model.config.model_type == "siglip" else {**made, "attention_mask": mask}


def images(model_type: str, rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Make what the other side of a dual encoder takes."""
    if model_type == "clap":
        return {
            "input_features": torch.randn(rows, 1, 64, 64, generator=generator),
            "is_longer": torch.zeros(rows, 1, dtype=torch.bool),
        }
    if model_type == "clvp":
        return {"input_features": torch.randn(rows, 8, 30, generator=generator)}
    if model_type == "siglip2":
        return {
            "pixel_values": torch.randn(rows, 16, 3 * 8 * 8, generator=generator),
            "pixel_attention_mask": torch.ones(rows, 16, dtype=torch.long),
            "spatial_shapes": torch.full((rows, 2), 4),
        }
    if model_type == "videoprism":
        return {"pixel_values_videos": torch.randn(rows, 2, 3, 32, 32, generator=generator)}
    frames = (2,) if model_type == "xclip" else ()
    return {"pixel_values": torch.randn(rows, *frames, 3, 32, 32, generator=generator)}
