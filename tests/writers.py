"""Tiny models that write a text for audio or an image, with a batch of four for each."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tr

from tests.streams import FRAMES, IMAGE, Batch

ENDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
LAYERS: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "vocab_size": 60,
    "dropout": 0.0,
}


def texts() -> torch.Tensor:
    """Return texts of different length, -100 behind their ends."""
    labels = torch.randint(5, 60, (4, 6))
    labels[1, 3:], labels[3, 5:] = -100, -100
    return labels


def heard(size: int) -> torch.Tensor:
    return (torch.arange(size) < torch.tensor([0.7, 0.5, 1.0, 0.9])[:, None] * size).long()


def whisper() -> tuple[Any, Batch]:
    config = tr.WhisperConfig(**LAYERS, **ENDS, num_mel_bins=8, max_source_positions=20, max_target_positions=20)
    return tr.WhisperForConditionalGeneration(config), {"input_features": torch.randn(4, 8, 40), "labels": texts()}


def speech_to_text() -> tuple[Any, Batch]:
    sizes = {"input_feat_per_channel": 8, "conv_channels": 16, "max_source_positions": 60, "max_target_positions": 20}
    model = tr.Speech2TextForConditionalGeneration(tr.Speech2TextConfig(**LAYERS, **ENDS, **sizes))
    mask = heard(40)
    return model, {"input_features": torch.randn(4, 40, 8) * mask[..., None], "attention_mask": mask, "labels": texts()}


def moonshine() -> tuple[Any, Batch]:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2}
    heads = {"encoder_num_attention_heads": 2, "decoder_num_attention_heads": 2, "vocab_size": 60}
    model = tr.MoonshineForConditionalGeneration(tr.MoonshineConfig(**sizes, **heads, **ENDS))
    mask = heard(2000)
    return model, {"input_values": torch.randn(4, 2000) * mask, "attention_mask": mask, "labels": texts()}


def speech_encoder_decoder() -> tuple[Any, Batch]:
    frames = {**FRAMES, "hidden_dropout": 0.0, "attention_dropout": 0.0, "apply_spec_augment": False}
    decoder = tr.BartConfig(**LAYERS, **ENDS, max_position_embeddings=20, is_decoder=True, add_cross_attention=True)
    decoder.d_model = 24  # so that there is a layer between the two
    config = tr.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(tr.Wav2Vec2Config(**frames), decoder)
    model = tr.SpeechEncoderDecoderModel(config)
    model.config.decoder_start_token_id, model.config.pad_token_id = 1, 0
    mask = heard(800)
    return model, {"input_values": torch.randn(4, 800) * mask, "attention_mask": mask, "labels": texts()}


def trocr() -> tuple[Any, Batch]:
    decoder = tr.TrOCRConfig(**LAYERS, cross_attention_hidden_size=16)
    config = tr.VisionEncoderDecoderConfig.from_encoder_decoder_configs(tr.ViTConfig(**IMAGE), decoder)
    model = tr.VisionEncoderDecoderModel(config)
    model.config.decoder_start_token_id, model.config.pad_token_id = 1, 0
    return model, {"pixel_values": torch.randn(4, 3, 32, 32), "labels": texts()}


WRITERS = (whisper, speech_to_text, moonshine, speech_encoder_decoder, trocr)


def make(build: Any) -> tuple[Any, Batch]:
    """Return a model in evaluation mode and its batch, the same at each call."""
    torch.manual_seed(0)
    model, batch = build()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return model.eval(), batch
