"""Between-class learning: audio clips blended by loudness."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.functional import heard_weights, loudness

RATE = 16000
PARTNER = torch.tensor([1, 2, 0])


def clips(rows: int = 3, samples: int = 4000, seed: int = 0) -> Tensor:
    """Make noises of very different loudness."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, samples, generator=generator) * torch.logspace(-2, 1, rows)[:, None]


def loudness_by_hand(audio: np.ndarray, rate: int, size: int) -> float:
    """Compute one audio's loudness a window at a time, in float64."""
    f = np.fft.rfftfreq(size, 1 / rate)
    over = 12194.0**2 * f**4
    under = (f**2 + 20.6**2) * np.sqrt((f**2 + 107.7**2) * (f**2 + 737.9**2)) * (f**2 + 12194.0**2)
    with np.errstate(divide="ignore"):
        decibels = np.maximum(20 * np.log10(over / under) + 2.0, -80)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    levels = []
    for start in range(0, len(audio) - size + 1, size // 2):
        spectrum = np.abs(np.fft.rfft(window * audio[start : start + size])) ** 2
        levels.append((spectrum * 10 ** (decibels / 10)).sum())
    return max(10 * np.log10(max(max(levels), 1e-30)), -80.0)


@pytest.mark.parametrize(("rate", "size"), [(16000, 2048), (8000, 1024), (44100, 4096)])
def test_loudness_by_hand(rate: int, size: int) -> None:
    made = clips(samples=3 * size + 17)
    expected = [loudness_by_hand(audio.double().numpy(), rate, size) for audio in made]
    torch.testing.assert_close(loudness(made, rate), torch.tensor(expected).float(), rtol=1e-4, atol=1e-3)


def test_loudness_grows_with_the_audio_alone() -> None:
    made = clips(samples=300)  # shorter than a window
    torch.testing.assert_close(loudness(10 * made, RATE), loudness(made, RATE) + 20, rtol=0, atol=1e-3)
    assert loudness(torch.zeros(1, 50), RATE).tolist() == [-80]
    for bad, message in ((torch.zeros(3), "shape"), (made, "above 0")):
        with pytest.raises(ValueError, match=message):
            loudness(bad, RATE if bad.dim() == 1 else 0)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_each_audio_is_as_loud_as_its_share(share: float) -> None:
    """At factors a and b, amplitudes as they are heard stand as lam to 1 - lam, and the energy is that of one audio."""
    levels, lam = torch.tensor([-30.0, 4.0, -12.0]).double(), torch.full((3,), share).double()
    own, other = heard_weights(levels, PARTNER, lam)
    amplitude = 10 ** (levels / 20)
    torch.testing.assert_close(own * amplitude / (other * amplitude[PARTNER]), lam / (1 - lam))
    torch.testing.assert_close(own.square() + other.square(), torch.ones(3).double())


def speaker(**settings: Any) -> Any:
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=[8, 8],
        conv_kernel=[10, 8], conv_stride=[5, 4], num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        classifier_proj_size=8, num_labels=3, feat_extract_norm="layer", mask_time_prob=0.0, **settings,
    )  # fmt: skip
    return Wav2Vec2ForSequenceClassification(config).eval()


def heard(lengths: tuple[int, ...] = (4000, 3000, 2000)) -> dict[str, Tensor]:
    values, mask = clips(), torch.zeros(3, 4000, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, :length], values[row, length:] = 1, 0
    return {"input_values": values, "attention_mask": mask, "labels": torch.tensor([0, 1, 2])}


def test_between_class_by_hand() -> None:
    model, batch, lam = speaker(), heard(), torch.tensor([0.3, 0.8, 0.5])
    with Mixup("between_class")(model, batch, partner=PARTNER, lam=lam) as mixed:
        found = mixed.inputs["input_values"]
    for row, other in enumerate(PARTNER.tolist()):
        one, two = batch["input_values"][row].double(), batch["input_values"][other].double()
        gains = [loudness_by_hand(each.numpy(), RATE, 2048) for each in (one, two)]
        r = float(lam[row])
        p = 1 / (1 + 10 ** ((gains[0] - gains[1]) / 20) * (1 - r) / r)
        expected = (p * one + (1 - p) * two) / np.sqrt(p**2 + (1 - p) ** 2)
        torch.testing.assert_close(found[row].double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["between_class", "mixup"])
def test_ends_are_exact_whatever_the_lengths(method: str) -> None:
    model, batch = speaker(), heard()
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    plain = model(**inputs).logits
    for lam, expected in ((1.0, plain), (0.0, plain[PARTNER])):
        with Mixup(method)(model, batch, partner=PARTNER, lam=lam) as mixed:
            torch.testing.assert_close(model(**mixed.inputs).logits, expected)
    with Mixup(method)(model, batch, partner=PARTNER, lam=0.4) as mixed:
        either = batch["attention_mask"] | batch["attention_mask"][PARTNER]
        assert torch.equal(mixed.inputs["attention_mask"], either)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_between_class_keeps_the_dtype_and_the_users_tensors(dtype: torch.dtype) -> None:
    batch = {"input_values": clips().to(dtype), "labels": torch.tensor([0, 1, 2])}
    before = batch["input_values"].clone()
    with Mixup("between_class")(speaker().to(dtype), batch, lam=0.3) as mixed:
        assert mixed.inputs["input_values"].dtype == dtype
        assert mixed.inputs["input_values"].isfinite().all()
    assert torch.equal(batch["input_values"], before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loudness_is_as_precise_under_autocast(dtype: torch.dtype) -> None:
    made = clips() * 100
    with torch.autocast("cpu", dtype):
        found = loudness(made, RATE)
    assert torch.equal(found, loudness(made, RATE))


def test_padding_is_not_listened_to() -> None:
    batch = heard()
    noise = torch.where(batch["attention_mask"].bool(), batch["input_values"], 100.0)
    results = []
    for values in (batch["input_values"], noise):
        with Mixup("between_class")(speaker(), {**batch, "input_values": values}, partner=PARTNER, lam=0.4) as mixed:
            results.append(mixed.inputs["input_values"])
    both = (batch["attention_mask"] & batch["attention_mask"][PARTNER]).bool()
    torch.testing.assert_close(results[1][both], results[0][both])


def test_between_class_trains_and_refuses_what_is_no_audio(arguments: Any) -> None:
    batch = heard()
    rows = [{key: value[row] for key, value in batch.items()} for row in range(3)]
    assert MixupTrainer(speaker(), arguments(max_steps=2), mixup="between_class", train_dataset=rows).train()
    images = {"input_values": torch.rand(3, 1, 8, 8), "labels": batch["labels"]}
    mixed = Mixup(MixupConfig("between_class", self_check=False))(speaker(), images)
    with pytest.raises(ValueError, match="2 dimensions"):
        mixed.__enter__()
    with pytest.raises(ValueError, match="sampling_rate=0"):
        MixupConfig("between_class", sampling_rate=0)
