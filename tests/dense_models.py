"""Tiny models whose targets lie on the pixels: depth, and the hidden parts of an image; with a batch for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as tr
from transformers import PreTrainedModel

SIDE, FRAMES = 32, 4
VIT: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT |= {"image_size": SIDE, "patch_size": 8}
SWIN: dict[str, Any] = {"image_size": SIDE, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1]}
SWIN |= {"window_size": 2, "drop_path_rate": 0.0, "encoder_stride": 4}
PAINTER: dict[str, Any] = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1}
PAINTER |= {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}


def glpn() -> PreTrainedModel:
    sizes = {"hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 8}
    return tr.GLPNForDepthEstimation(tr.GLPNConfig(depths=[1, 1, 1, 1], drop_path_rate=0.0, **sizes))


def vit() -> PreTrainedModel:
    return tr.ViTForMaskedImageModeling(tr.ViTConfig(**VIT, encoder_stride=8))


def deit() -> PreTrainedModel:
    return tr.DeiTForMaskedImageModeling(tr.DeiTConfig(**VIT, encoder_stride=8))


def swin() -> PreTrainedModel:
    return tr.SwinForMaskedImageModeling(tr.SwinConfig(**SWIN))


def swinv2() -> PreTrainedModel:
    return tr.Swinv2ForMaskedImageModeling(tr.Swinv2Config(**SWIN))


def focalnet() -> PreTrainedModel:
    sizes = {"embed_dim": 8, "depths": [1, 1], "focal_levels": [1, 1], "focal_windows": [3, 3]}
    config = tr.FocalNetConfig(image_size=SIDE, patch_size=4, encoder_stride=8, drop_path_rate=0.0, **sizes)
    return tr.FocalNetForMaskedImageModeling(config)


def mae() -> PreTrainedModel:
    return tr.ViTMAEForPreTraining(tr.ViTMAEConfig(**VIT, **PAINTER))


def hiera() -> PreTrainedModel:
    sizes = {"embed_dim": 8, "num_heads": [1, 1, 2, 2], "depths": [1, 1, 1, 1]}
    decoder = {"decoder_hidden_size": 16, "decoder_depth": 1, "decoder_num_heads": 2, "normalize_pixel_loss": False}
    return tr.HieraForPreTraining(tr.HieraConfig(image_size=[64, 64], **sizes, **decoder))


def videomae() -> PreTrainedModel:
    return tr.VideoMAEForPreTraining(tr.VideoMAEConfig(**VIT, **PAINTER, num_frames=FRAMES, tubelet_size=2))


PARTS = {"vit": 16, "deit": 16, "swin": 256, "swinv2": 256, "focalnet": 64, "videomae": 32}
"""How many parts of its images a model is told to hide or to show."""
PAINTERS: dict[str, Callable[[], PreTrainedModel]] = {
    each.__name__: each for each in (vit, deit, swin, swinv2, focalnet, mae, hiera, videomae)
}


def build(kind: str) -> PreTrainedModel:
    """Build a tiny model in evaluation mode."""
    torch.manual_seed(0)
    return (glpn if kind == "glpn" else PAINTERS[kind])().eval()


def images(kind: str, rows: int = 4, seed: int = 1) -> dict[str, Any]:
    """Make images with depth, of which some pixels have none, or with the parts to be hidden."""
    generator = torch.Generator().manual_seed(seed)
    shape = {"glpn": (3, 64, 64), "hiera": (3, 64, 64), "videomae": (FRAMES, 3, SIDE, SIDE)}.get(kind, (3, SIDE, SIDE))
    batch: dict[str, Any] = {"pixel_values": torch.randn(rows, *shape, generator=generator)}
    if kind == "glpn":
        depth = 1 + 5 * torch.rand(rows, 64, 64, generator=generator)
        batch["labels"] = depth.masked_fill(torch.rand(depth.shape, generator=generator) < 0.2, 0.0)
    if kind in PARTS:
        order = torch.rand(rows, PARTS[kind], generator=generator).argsort(1)
        batch["bool_masked_pos"] = order < PARTS[kind] // 2
    return batch
