"""Tiny models whose samples have several inputs, or labels that are no classes, with a batch of four for each."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import transformers as tr
from torch import Tensor, nn

Batch = dict[str, Any]
B = 4
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
IMAGE: dict[str, Any] = {**SMALL, "image_size": 32, "patch_size": 8}
FRAMES: dict[str, Any] = {
    **SMALL,
    "conv_dim": (8, 8),
    "conv_stride": (4, 4),
    "conv_kernel": (8, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 20,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
}


def words(length: int = 8, vocabulary: int = 60) -> Tensor:
    return torch.randint(5, vocabulary, (B, length))


def text(length: int = 8) -> Batch:
    return {"input_ids": words(length), "attention_mask": torch.ones(B, length, dtype=torch.long)}


def pixels(*shape: int) -> Tensor:
    return torch.randn(B, *(shape or (3, 32, 32)))


def boxes(length: int = 8) -> Tensor:
    return torch.randint(0, 30, (B, length, 4)).sort(-1).values


def classes(count: int = 5) -> Tensor:
    return torch.randint(0, count, (B,))


def vilt_answers() -> tuple[Any, Batch]:
    model = tr.ViltForQuestionAnswering(
        tr.ViltConfig(**IMAGE, vocab_size=60, num_labels=5, max_image_length=-1, num_images=1)
    )
    scores = torch.nn.functional.one_hot(classes(), 5).float()
    seen = torch.ones(B, 32, 32, dtype=torch.long)
    return model, {**text(), "pixel_values": pixels(), "pixel_mask": seen, "labels": scores}


def vilt_two_images() -> tuple[Any, Batch]:
    config = tr.ViltConfig(**IMAGE, vocab_size=60, num_labels=2, num_images=2, modality_type_vocab_size=3)
    config.max_image_length = -1
    model = tr.ViltForImagesAndTextClassification(config)
    return model, {**text(), "pixel_values": pixels(2, 3, 32, 32), "labels": classes(2)}


def layout_page() -> tuple[Any, Batch]:
    sizes = {"coordinate_size": 2, "shape_size": 4, "max_2d_position_embeddings": 64, "max_position_embeddings": 40}
    config = tr.LayoutLMv3Config(**SMALL, **sizes, vocab_size=60, input_size=32, patch_size=8, num_labels=5)
    model = tr.LayoutLMv3ForSequenceClassification(config)
    return model, {**text(), "bbox": boxes(), "pixel_values": pixels(), "labels": classes()}


def layout_tokens() -> tuple[Any, Batch]:
    config = tr.LayoutLMConfig(**SMALL, vocab_size=60, num_labels=5, max_2d_position_embeddings=64)
    model = tr.LayoutLMForTokenClassification(config)
    return model, {**text(), "bbox": boxes(), "labels": torch.randint(0, 5, (B, 8))}


def blip_captions() -> tuple[Any, Batch]:
    ends = {"bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0}
    config = tr.BlipConfig(
        text_config={**SMALL, **ends, "vocab_size": 60, "encoder_hidden_size": 16}, vision_config=IMAGE
    )
    batch = {**text(), "pixel_values": pixels()}
    return tr.BlipForConditionalGeneration(config), {**batch, "labels": batch["input_ids"].clone()}


def git_captions() -> tuple[Any, Batch]:
    config = tr.GitConfig(**SMALL, vocab_size=60, vision_config=IMAGE, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    batch = {**text(), "pixel_values": pixels()}
    return tr.GitForCausalLM(config), {**batch, "labels": batch["input_ids"].clone()}


def trocr() -> tuple[Any, Batch]:
    decoder = tr.TrOCRConfig(d_model=16, decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=60)
    decoder.cross_attention_hidden_size = 16
    config = tr.VisionEncoderDecoderConfig.from_encoder_decoder_configs(tr.ViTConfig(**IMAGE), decoder)
    model = tr.VisionEncoderDecoderModel(config)
    model.config.decoder_start_token_id, model.config.pad_token_id = 1, 0
    return model, {"pixel_values": pixels(), "labels": words()}


def whisper() -> tuple[Any, Batch]:
    layers = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_mel_bins": 8, "vocab_size": 60}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = tr.WhisperConfig(**layers, **sizes, **ends, max_source_positions=20, max_target_positions=20)
    return tr.WhisperForConditionalGeneration(config), {"input_features": pixels(8, 40), "labels": words()}


def speech2text() -> tuple[Any, Batch]:
    layers = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    sizes = {"vocab_size": 60, "d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "conv_channels": 16}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    lengths = {"max_source_positions": 100, "max_target_positions": 30}
    config = tr.Speech2TextConfig(
        **layers, **sizes, **tokens, **lengths, input_feat_per_channel=8, num_conv_layers=2, conv_kernel_sizes=(3, 3)
    )
    heard = (torch.arange(40) < torch.tensor([40, 32, 24, 40])[:, None]).long()
    return tr.Speech2TextForConditionalGeneration(config), {
        "input_features": pixels(40, 8),
        "attention_mask": heard,
        "labels": words(),
    }


def pix2struct() -> tuple[Any, Batch]:
    text = {"vocab_size": 60, "hidden_size": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    tokens = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 2}
    vision = {"hidden_size": 16, "patch_embed_hidden_size": 14, "d_ff": 32, "d_kv": 8, "seq_len": 64}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    config = tr.Pix2StructConfig(text_config={**text, **tokens}, vision_config={**vision, **layers})
    patches = torch.cat([torch.randint(1, 5, (B, 6, 2)).float(), torch.randn(B, 6, 14)], -1)  # rows and columns first
    return tr.Pix2StructForConditionalGeneration(config), {
        "flattened_patches": patches,
        "attention_mask": torch.ones(B, 6),
        "labels": words(),
    }


def transcripts(length: int = 6) -> tuple[Any, Batch]:
    model = tr.Wav2Vec2ForCTC(tr.Wav2Vec2Config(**FRAMES, ctc_zero_infinity=True))
    return model, {"input_values": pixels(800), "labels": torch.randint(1, 20, (B, length))}


def depth() -> tuple[Any, Batch]:
    config = tr.GLPNConfig(
        depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8
    )
    return tr.GLPNForDepthEstimation(config), {
        "pixel_values": pixels(3, 64, 64),
        "labels": torch.rand(B, 64, 64) + 0.1,
    }


def llava() -> tuple[Any, Batch]:
    config = tr.LlavaConfig(
        vision_config=tr.CLIPVisionConfig(**IMAGE),
        text_config=tr.LlamaConfig(**SMALL, vocab_size=70, num_key_value_heads=2),
        image_token_id=65,
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    ids = torch.cat([torch.full((B, 1), 1), torch.full((B, 16), 65), words()], 1)
    labels = ids.clone()
    labels[:, :17] = -100
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels(), "labels": labels}
    return tr.LlavaForConditionalGeneration(config), batch


def llava_lengths() -> tuple[Any, Batch]:
    model, batch = llava()
    for row, end in enumerate((25, 21, 23, 20)):
        batch["input_ids"][row, end:], batch["attention_mask"][row, end:], batch["labels"][row, end:] = 0, 0, -100
    return model, batch


def qwen2_vl() -> tuple[Any, Batch]:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    written = {**SMALL, "vocab_size": 80, "num_key_value_heads": 2, "rope_parameters": rope}
    seen = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8}
    config = tr.Qwen2VLConfig(
        text_config={**written, "bos_token_id": 1, "eos_token_id": 2},
        vision_config={**seen, "spatial_merge_size": 1, "temporal_patch_size": 2},
        image_token_id=75,
        video_token_id=76,
        vision_start_token_id=77,
        vision_end_token_id=78,
    )
    ids = torch.cat([torch.full((B, 1), 77), torch.full((B, 16), 75), torch.full((B, 1), 78), words()], 1)
    labels = ids.clone()
    labels[:, :18] = -100
    patches = {"pixel_values": torch.randn(B * 16, 3 * 2 * 8 * 8), "image_grid_thw": torch.tensor([[1, 4, 4]] * B)}
    kinds = {"attention_mask": torch.ones_like(ids), "mm_token_type_ids": (ids == 75).long()}
    return tr.Qwen2VLForConditionalGeneration(config), {"input_ids": ids, **kinds, **patches, "labels": labels}


def mask2former() -> tuple[Any, Batch]:
    backbone = tr.SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2)
    backbone.out_features = ["stage1", "stage2", "stage3", "stage4"]
    sizes = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "encoder_feedforward_dim": 16}
    counts = {"dim_feedforward": 16, "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2}
    config = tr.Mask2FormerConfig(
        backbone_config=backbone, **sizes, **counts, num_queries=5, num_labels=3, train_num_points=50
    )
    masks = [torch.randint(0, 2, (2, 64, 64)).float() for _ in range(B)]
    kinds = [torch.randint(0, 3, (2,)) for _ in range(B)]
    batch = {"pixel_values": pixels(3, 64, 64), "mask_labels": masks, "class_labels": kinds}
    return tr.Mask2FormerForUniversalSegmentation(config), batch


MODELS: tuple[Callable[[], tuple[Any, Batch]], ...] = (
    vilt_answers,
    vilt_two_images,
    layout_page,
    layout_tokens,
    blip_captions,
    git_captions,
    trocr,
    whisper,
    speech2text,
    pix2struct,
    transcripts,
    depth,
    llava,
    qwen2_vl,
    mask2former,
)


BY_NAME = {build.__name__: build for build in MODELS}


def samples(name: str, rows: int, seed: int) -> list[Batch]:
    """Return samples as a dataset holds them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        batches = [BY_NAME[name]()[1] for _ in range(-(-rows // B))]
    each = [{key: value[row] for key, value in batch.items()} for batch in batches for row in range(B)]
    return each[:rows]


def without_dropout(model: Any) -> Any:
    """Switch off all dropout, also that of modules which hold no layer for it."""
    for module in model.modules():
        for name in [name for name, value in vars(module).items() if "drop" in name and isinstance(value, float)]:
            setattr(module, name, 0.0)
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def make(build: Callable[[], tuple[Any, Batch]]) -> tuple[Any, Batch]:
    """Return a model in evaluation mode and its batch, the same at each call."""
    torch.manual_seed(0)
    model, batch = build()
    return model.eval(), batch


def rows_at(value: Any, which: Tensor) -> Any:
    """Return some samples of an entry of a batch, also of one that holds the patches of all, equally many of each."""
    if isinstance(value, Tensor) and len(value) == B:
        return value[which]
    if isinstance(value, Tensor) and value.dim() and len(value) % B == 0:
        return value.unflatten(0, (B, -1))[which].flatten(0, 1)
    return [value[row] for row in which] if isinstance(value, list) else value


class Fusion(nn.Module):
    """Scores an image beside what else there is: words, and a condition."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_labels=3)
        self.seen, self.read, self.asked = nn.Linear(12, 8), nn.Embedding(20, 8), nn.Embedding(6, 8)
        self.head = nn.Linear(8, 3)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None = None,
        condition: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        state = self.seen(pixel_values.flatten(1))
        if input_ids is not None:
            state = state + self.read(input_ids).mean(1)
        if condition is not None:
            state = state + self.asked(condition)
        logits = self.head(state.tanh())
        return (
            {"logits": logits}
            if labels is None
            else {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
        )


def fused(**more: Tensor) -> Batch:
    return {"pixel_values": torch.randn(4, 3, 2, 2), "labels": torch.tensor([0, 1, 2, 0]), **more}
