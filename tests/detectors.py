"""Tiny object detectors of every architecture whose boxes can be mixed, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForObjectDetection,
    LwDetrViTConfig,
    PreTrainedModel,
    ResNetConfig,
    RTDetrResNetConfig,
)

CLASSES, SIDE = 3, 32
DETR = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "num_queries": 8,
    "dropout": 0.0,
    "auxiliary_loss": True,
}
RT_DETR = {
    "encoder_hidden_dim": 16,
    "encoder_in_channels": [8, 8, 8],
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "hidden_expansion": 0.5,
    "d_model": 16,
    "num_queries": 8,
    "decoder_in_channels": [16, 16, 16],
    "decoder_ffn_dim": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "num_denoising": 6,
    "disable_custom_kernels": True,
}
LW_DETR = {
    "d_model": 16,
    "decoder_layers": 2,
    "decoder_ffn_dim": 16,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2,
    "decoder_n_points": 2,
    "c2f_num_blocks": 1,
    "num_queries": 8,
    "group_detr": 2,
    "dropout": 0.0,
}
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 4}
SETTINGS: dict[str, dict[str, Any]] = {
    "detr": DETR,
    "conditional_detr": DETR,
    "dab-detr": {**{key: value for key, value in DETR.items() if key != "d_model"}, "hidden_size": 16},
    "deformable_detr": {
        **DETR,
        "d_model": 32,
        "two_stage": False,
        "disable_custom_kernels": True,
        "num_feature_levels": 2,
    },
    "table-transformer": DETR,
    "yolos": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": [SIDE, SIDE],
        "patch_size": 8,
        "num_detection_tokens": 8,
    },
    "lw_detr": {**LW_DETR, "projector_scale_factors": [1.0]},
    "rf_detr": LW_DETR,
    "rt_detr": RT_DETR,
    "rt_detr_v2": RT_DETR,
}
DETECTORS = sorted(SETTINGS)
WIDTHS = {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "layer_type": "basic"}


def build_detector(kind: str, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """Build a tiny detector in evaluation mode."""
    torch.manual_seed(seed)
    given = {"num_labels": CLASSES, **SETTINGS[kind], **settings}
    if kind.startswith("rt_"):
        given["backbone_config"] = RTDetrResNetConfig(**WIDTHS, out_features=["stage2", "stage3", "stage4"])
    elif kind == "lw_detr":
        given["backbone_config"] = LwDetrViTConfig(
            **VIT, pretrain_image_size=SIDE, num_windows=4, window_block_indices=[0], out_indices=[1, 2]
        )
    elif kind == "rf_detr":
        given["backbone_config"] = AutoConfig.for_model("rf_detr_dinov2", **VIT, num_windows=4, out_indices=[1, 2])
    elif kind != "yolos":
        stages = ["stage3", "stage4"] if kind == "deformable_detr" else ["stage4"]
        given["backbone_config"] = ResNetConfig(**WIDTHS, out_features=stages)
        given["use_timm_backbone"] = False
    model = AutoModelForObjectDetection.from_config(AutoConfig.for_model(kind, **given))
    return model.eval()


def boxed(rows: int = 4, seed: int = 1) -> dict[str, Any]:
    """Make images with two, three, none, one, ... boxes."""
    generator = torch.Generator().manual_seed(seed)
    labels: list[dict[str, Tensor]] = []
    for row in range(rows):
        count = (2, 3, 0, 1)[row % 4]
        size = 0.1 + 0.4 * torch.rand(count, 2, generator=generator)
        center = size / 2 + (1 - size) * torch.rand(count, 2, generator=generator)
        classes = torch.randint(0, CLASSES, (count,), generator=generator)
        labels.append({"class_labels": classes, "boxes": torch.cat([center, size], -1)})
    mask = torch.ones(rows, SIDE, SIDE, dtype=torch.long)
    for row in range(rows):
        mask[row, SIDE - 4 * (row % 3) :] = 0
    return {
        "pixel_values": torch.randn(rows, 3, SIDE, SIDE, generator=generator),
        "pixel_mask": mask,
        "labels": labels,
    }
