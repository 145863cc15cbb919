"""Tiny models of every architecture that learns masks with classes, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as tr
from torch import Tensor
from transformers import PreTrainedModel, SwinConfig

CLASSES, SIDE, QUERIES, TEXTS, WORDS = 3, 32, 6, 4, 7
LOSS = {"num_labels": CLASSES, "num_queries": QUERIES, "train_num_points": 40}
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}
DETR = {"encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
DETR |= {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 32, "num_queries": QUERIES, "dropout": 0.0}


def swin() -> SwinConfig:
    sizes = {"image_size": SIDE, "patch_size": 2, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4}
    return SwinConfig(**sizes, window_size=2, drop_path_rate=0.0, out_features=["stage1", "stage2", "stage3", "stage4"])


def maskformer() -> PreTrainedModel:
    config = tr.MaskFormerConfig(
        backbone_config=swin(),
        decoder_config=tr.DetrConfig(**DETR),
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=CLASSES,
    )
    return tr.MaskFormerForInstanceSegmentation(config)


def mask2former() -> PreTrainedModel:
    sizes = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "encoder_feedforward_dim": 16}
    counts = {"dim_feedforward": 16, "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2}
    config = tr.Mask2FormerConfig(backbone_config=swin(), dropout=0.0, **sizes, **counts, **LOSS)
    return tr.Mask2FormerForUniversalSegmentation(config)


def oneformer() -> PreTrainedModel:
    text = {"text_encoder_width": 64, "text_encoder_context_length": WORDS, "text_encoder_num_layers": 1}
    text |= {"text_encoder_vocab_size": 50, "text_encoder_n_ctx": QUERIES - TEXTS, "task_seq_len": WORDS}
    sizes = {"conv_dim": 64, "mask_dim": 64, "hidden_dim": 64, "encoder_feedforward_dim": 16, "dim_feedforward": 16}
    counts = {"encoder_layers": 1, "decoder_layers": 3, "num_attention_heads": 2, "query_dec_layers": 1}
    config = tr.OneFormerConfig(
        backbone_config=swin(), is_training=True, dropout=0.0, **text, **sizes, **counts, **LOSS
    )
    model = tr.OneFormerForUniversalSegmentation(config)
    model.main_input_name = "pixel_values"  # a list in transformers, which its own Trainer does not take
    return model


def eomt() -> PreTrainedModel:
    config = tr.EomtConfig(**VIT, **LOSS, num_blocks=1, num_upscale_blocks=1, num_register_tokens=1)
    return tr.EomtForUniversalSegmentation(config)


def eomt_dinov3() -> PreTrainedModel:
    blocks = {"num_blocks": 1, "num_upscale_blocks": 1, "num_register_tokens": 1, "intermediate_size": 32}
    return tr.EomtDinov3ForUniversalSegmentation(tr.EomtDinov3Config(**VIT, **LOSS, **blocks))


BUILDERS: dict[str, Callable[[], PreTrainedModel]] = {
    each.__name__: each for each in (maskformer, mask2former, oneformer, eomt, eomt_dinov3)
}
KINDS = sorted(BUILDERS)


def build(kind: str) -> PreTrainedModel:
    """Build a tiny model in evaluation mode whose classes and masks differ between queries."""
    torch.manual_seed(0)
    model = BUILDERS[kind]().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("class_predictor", "class_embed", "query")) and parameter.dim() > 1:
                parameter.normal_(0, 1)
    return model


def instances(kind: str, rows: int = 4, seed: int = 1, counts: tuple[int, ...] = (2, 3, 1, 2)) -> dict[str, Any]:
    """Make images with rectangles as masks, overlapping ones too; some images with fewer."""
    generator = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    masks: list[Tensor] = []
    for row in range(rows):
        own = torch.zeros(counts[row % len(counts)], SIDE, SIDE)
        for each in own:
            top, left = number(0, SIDE - 8), number(0, SIDE - 8)
            each[top : number(top + 4, SIDE), left : number(left + 4, SIDE)] = 1
        masks.append(own)
    batch: dict[str, Any] = {
        "pixel_values": torch.randn(rows, 3, SIDE, SIDE, generator=generator),
        "mask_labels": masks,
        "class_labels": [torch.randint(0, CLASSES, (len(each),), generator=generator) for each in masks],
    }
    if kind == "oneformer":
        batch["task_inputs"] = torch.randint(0, 50, (rows, WORDS), generator=generator)
        batch["text_inputs"] = torch.randint(1, 50, (rows, TEXTS, WORDS), generator=generator)
    return batch


def pick(batch: dict[str, Any], which: list[int]) -> dict[str, Any]:
    """Return some samples of a batch."""
    return {
        key: value[which] if isinstance(value, Tensor) else [value[i] for i in which] for key, value in batch.items()
    }
