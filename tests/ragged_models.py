"""Tiny models that take images of several sizes, and rows for them: two sizes of images, texts of several lengths."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tr
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tests import streams

Row = dict[str, Tensor]
SIZES = [(2, 2), (2, 2), (4, 2), (4, 2)]  # of the images of four rows after each other, in patches
PATCH = 8
IMAGE, START, END = 75, 77, 78  # tokens
JOINED = ("pixel_values", "image_grid_thw", "image_sizes")  # the parts of all samples, one after the other
PADDING = {"labels": -100}


def qwen2_vl() -> Any:
    """Patches of all samples in one tensor, with a grid for each image."""
    return streams.without_dropout(streams.make(streams.qwen2_vl)[0])


def pixtral() -> Any:
    """Images of all samples in one tensor, padded to one size, with the size of each."""
    seen = tr.PixtralVisionConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=PATCH,
    )
    written = tr.MistralConfig(**streams.SMALL, vocab_size=80, num_key_value_heads=2)
    config = tr.LlavaConfig(
        vision_config=seen,
        text_config=written,
        image_token_id=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return tr.LlavaForConditionalGeneration(config)


def siglip2() -> Any:
    """Patches of each image, padded to one number, with the shape of each."""
    sizes = {**streams.SMALL, "num_patches": 16, "patch_size": PATCH}
    return tr.Siglip2ForImageClassification(tr.Siglip2Config(vision_config=sizes, num_labels=4))


BUILD = {"qwen2_vl_pages": qwen2_vl, "pixtral": pixtral, "siglip2": siglip2}


def rows(name: str, count: int, seed: int = 1) -> list[Row]:
    generator = torch.Generator().manual_seed(seed)
    return [_row(name, SIZES[row % len(SIZES)], 5 + row % 3, generator) for row in range(count)]


def _row(name: str, size: tuple[int, int], words: int, generator: torch.Generator) -> Row:
    patches = size[0] * size[1]
    if name == "siglip2":
        pixels = torch.randn(16, 3 * PATCH**2, generator=generator)
        seen = (torch.arange(16) < patches).long()
        label = torch.randint(4, (), generator=generator)
        return {
            "pixel_values": pixels,
            "pixel_attention_mask": seen,
            "spatial_shapes": torch.tensor(size),
            "labels": label,
        }
    text = torch.randint(5, 60, (words,), generator=generator)
    ids = torch.cat([torch.tensor([START]), torch.full((patches,), IMAGE), torch.tensor([END]), text])
    row = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.where(ids < 60, -100)}
    if name == "qwen2_vl_pages":
        pixels = torch.randn(patches, 2 * 3 * PATCH**2, generator=generator)
        kinds = (ids == IMAGE).long()
        return {**row, "mm_token_type_ids": kinds, "pixel_values": pixels, "image_grid_thw": torch.tensor([[1, *size]])}
    pixels, side = torch.zeros(1, 3, 4 * PATCH, 4 * PATCH), [PATCH * each for each in size]
    pixels[..., : side[0], : side[1]] = torch.randn(1, 3, *side, generator=generator)
    return {**row, "pixel_values": pixels, "image_sizes": torch.tensor([side])}


def collate(samples: list[Row]) -> Row:
    """Pad the tokens, and put the parts of all images behind each other."""
    made = {}
    for key in samples[0]:
        parts = [each[key] for each in samples]
        if "input_ids" not in samples[0]:
            made[key] = torch.stack(parts)
        elif key in JOINED:
            made[key] = torch.cat(parts)
        else:
            made[key] = pad_sequence(parts, batch_first=True, padding_value=PADDING.get(key, 0))
    return made
