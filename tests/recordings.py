"""Tiny speech recognisers of every architecture that transformers trains by CTC, and recordings with transcripts."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, Wav2Vec2Config, Wav2Vec2ForCTC
from transformers.models.auto import modeling_auto

from hf_mixup.testing.build import default_config, shrink
from tests.streams import FRAMES

CTC: dict[str, str] = dict(modeling_auto.MODEL_FOR_CTC_MAPPING_NAMES)
SAMPLES, SPECTRA, CONTEXT = 1600, 96, 16
PARTNER = torch.tensor([1, 0, 0, 2])  # no permutation: a sum over the batch would not tell whose transcript is whose
LAM = torch.tensor([0.3, 0.8, 1.0, 0.0])


def build_ctc(kind: str, **settings: Any) -> PreTrainedModel:
    """Build a tiny model that learns transcripts, in evaluation mode."""
    model_class = getattr(transformers, CTC[kind])
    config: Any = default_config(model_class.config_class)
    if hasattr(getattr(config, "encoder_config", None), "context_size"):  # no longer than its positions, when shrunk
        config.encoder_config.context_size = CONTEXT
    masks = {name: 0.0 for name in ("mask_time_prob", "layerdrop") if hasattr(config, name)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class._from_config(shrink(config, **masks, **settings))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(4)
    return model.eval()


def recordings_for(model: Any, uneven: bool = True) -> dict[str, Tensor]:
    """Return four recordings with transcripts for a model, of different length, and the mask that it takes."""
    rng, config = torch.Generator().manual_seed(0), getattr(model.config, "encoder_config", model.config)
    waves = model.main_input_name == "input_values"
    size = SAMPLES if waves else SPECTRA
    lengths = torch.tensor([0.75, 0.6, 1.0, 0.9] if uneven else [1.0] * 4) * size
    seen = torch.arange(size) < lengths[:, None]
    if waves:
        sound = torch.randn(4, size, generator=rng) * seen
        sound = sound[:, None] if "OmniASR" in type(model).__name__ else sound
    else:
        sizes = (getattr(config, name, None) for name in ("feature_projection_input_dim", "num_mel_bins"))
        bins = next(each for each in sizes if each) * (4 if "Granite" in type(model).__name__ else 1)
        sound = torch.randn(4, size, bins, generator=rng) * seen[..., None]
    mask = next(name for name in inspect.signature(model.forward).parameters if name.endswith("_mask"))
    return {model.main_input_name: sound, mask: seen.long(), "labels": transcripts(rng)}


def transcripts(rng: torch.Generator) -> Tensor:
    """Return four transcripts of 3, 2, 3 and 0 tokens, -100 behind their ends."""
    labels = torch.randint(5, 18, (4, 3), generator=rng)
    labels[1, 2:], labels[3] = -100, -100
    return labels


def recogniser(seed: int = 0, **settings: Any) -> Wav2Vec2ForCTC:
    """Build a tiny wav2vec2 without dropout."""
    drops = dict.fromkeys(("hidden", "activation", "attention", "feat_proj", "final"), 0.0)
    given = {f"{name}_dropout": value for name, value in drops.items()}
    torch.manual_seed(seed)
    return Wav2Vec2ForCTC(Wav2Vec2Config(**{**FRAMES, **given, "apply_spec_augment": False, **settings}))


def recordings(rows: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return recordings as a dataset holds them, with transcripts of different length."""
    rng, made = torch.Generator().manual_seed(seed), []
    for row in range(rows):
        labels = torch.randint(1, 20, (4,), generator=rng)
        labels[1 + row % 4 :] = -100
        made.append({"input_values": torch.randn(400, generator=rng), "labels": labels})
    return made
