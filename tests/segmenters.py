"""Tiny semantic-segmentation models of every architecture that transformers has, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSemanticSegmentation, PreTrainedModel, ResNetConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

CLASSES = 4
SEGMENTERS = sorted(MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES)
TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
TRANSFORMER |= {"image_size": 32, "patch_size": 8}
NECK = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}
HEADS = {"pool_scales": [1, 2], "auxiliary_channels": 8}
MOBILE = {"image_size": 32, "aspp_out_channels": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "beit": {**TRANSFORMER, **HEADS, "out_indices": [1, 2, 3, 4]},
    "data2vec-vision": {**TRANSFORMER, **HEADS, "out_indices": [2, 3, 4, 5]},
    "dpt": {**TRANSFORMER, **NECK, "backbone_out_indices": [0, 1, 2, 3]},
    "mobilenet_v2": {"depth_multiplier": 0.1, "min_depth": 8, "image_size": 32},
    "mobilevit": {**MOBILE, "hidden_sizes": [8, 8, 8], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 8]},
    "mobilevitv2": {**MOBILE, "width_multiplier": 0.1, "base_attn_unit_dims": [32, 32, 32], "n_attn_blocks": [1, 1, 1]},
    "sapiens2": {
        **TRANSFORMER,
        "layer_types": ["full_attention"] * 4,
        "num_key_value_heads": 2,
        "head_config": {"upsample_out_channels": [8], "conv_out_channels": [8]},
    },
    "segformer": {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
    "tipsv2_dpt": NECK,
    "upernet": {**HEADS, "hidden_size": 16},
}
BACKBONES: dict[str, Any] = {
    "tipsv2_dpt": lambda: AutoConfig.for_model(
        "tipsv2_vision_model",
        **{**TRANSFORMER, "out_indices": [1, 2, 3, 4], "apply_layernorm": True, "reshape_hidden_states": False},
    ),
    "upernet": lambda: ResNetConfig(
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        embedding_size=8,
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    ),
}


def build_segmenter(kind: str, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """Build a tiny model whose rows score apart, in evaluation mode."""
    torch.manual_seed(seed)
    given = {"num_labels": CLASSES, **SETTINGS[kind], **settings}
    if kind in BACKBONES:
        given["backbone_config"] = BACKBONES[kind]()
    model = AutoModelForSemanticSegmentation.from_config(AutoConfig.for_model(kind, **given))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.std() > 1e-6:  # as large as keeps the size of what passes through
                parameter.mul_((2 / parameter[0].numel()) ** 0.5 / parameter.std())
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # true means, of these images
        if kind.startswith("mobilevit"):  # whose scores are near 0 otherwise
            model.segmentation_head.classifier.convolution.weight.mul_(50)
        model.train()(torch.randn(8, 3, side_of(kind), side_of(kind)))
    return model.eval()


def side_of(kind: str) -> int:
    """Return how large images have to be for a model."""
    return 64 if kind.startswith("mobile") else 32


def segmentation_batch(rows: int = 5, size: int = 32, seed: int = 1) -> dict[str, Tensor]:
    """Make images and their segmentation masks, in which some pixels are ignored (255)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (rows, size, size), generator=generator)
    labels[torch.rand(rows, size, size, generator=generator) < 0.1] = 255
    return {"pixel_values": torch.randn(rows, 3, size, size, generator=generator), "labels": labels}
