"""Batches that fit a tiny model: the inputs of its forward, and the labels of its family."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, PreTrainedModel

from hf_mixup.testing.build import build, shrink
from hf_mixup.testing.families import Family
from hf_mixup.testing.floats import float_inputs
from hf_mixup.testing.sizes import END_OF_WORDS, FIRST_WORD, STEPS
from hf_mixup.utils.constants import IGNORE_INDEX

Lengths = Literal["equal", "right", "left"]
Batch = dict[str, Any]
CHOICES = 3
SOURCES = ("time-series", "image", "video", "audio")


def tiny(family: Family, model_type: str, samples: int = 4) -> tuple[PreTrainedModel, Batch]:
    """Return a tiny random model and a batch for it, to see what a method does: `build` and `make_batch` in one.

    Raises:
        CannotBuild, ValueError: see `build`.

    >>> model, batch = tiny("image-classification", "vit")
    >>> model(**batch).logits.shape
    torch.Size([4, 4])
    """
    model = build(family, model_type)
    return model, make_batch(family, model, samples)


def tiny_pairs(samples: int = 4) -> tuple[CLIPModel, Batch]:
    """Return a tiny random CLIP, and images [B, 3, 64, 64] with captions [B, 8] for it.

    >>> model, batch = tiny_pairs()
    >>> model(**batch).logits_per_image.shape
    torch.Size([4, 4])
    """
    config: Any = shrink(CLIPConfig())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(config).eval()
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(FIRST_WORD, END_OF_WORDS, (samples, 8), generator=rng)
    ids[:, 0], ids[:, -1] = model.config.text_config.bos_token_id, model.config.text_config.eos_token_id
    size = model.config.vision_config.image_size
    pixels = torch.randn(samples, 3, size, size, generator=rng)
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def make_batch(
    family: Family,
    model: PreTrainedModel,
    samples: int = 4,
    length: int = 10,
    lengths: Lengths = "equal",
    seed: int = 0,
) -> Batch:
    """Make a batch for a model: its inputs and the labels of the family.

    Args:
        family: the family the model was built for.
        model: a model of `build`.
        samples: number of samples B.
        length: number of tokens T, rounded up where an architecture works in steps.
        lengths: "equal", or samples of different length padded on the "right" or on the "left".
        seed: seed of the ids and floats.

    Returns:
        tensors by the names of the model's inputs, with `labels` ([B], [B, T] or floats) or `start_positions` and
        `end_positions` [B].

    >>> from hf_mixup.testing.build import build
    >>> batch = make_batch("token-classification", build("token-classification", "bert"), samples=2, lengths="right")
    >>> {name: list(value.shape) for name, value in batch.items()}
    {'input_ids': [2, 10], 'attention_mask': [2, 10], 'token_type_ids': [2, 10], 'labels': [2, 10]}
    """
    rng = torch.Generator().manual_seed(seed)
    if family.startswith(SOURCES):
        return float_inputs(family, model, samples, rng)
    step = STEPS.get(model.config.model_type, 1)
    length = -(-length // step) * step
    if family == "multiple-choice":
        flat = _text(family, model, samples * CHOICES, length, lengths, rng)
        inputs = {name: value.unflatten(0, (samples, CHOICES)) for name, value in flat.items()}
        return {**inputs, "labels": torch.arange(samples) % CHOICES}
    inputs = _text(family, model, samples, length, lengths, rng)
    return {**inputs, **_labels(family, model, inputs, lengths, rng)}


def real_tokens(samples: int, length: int, lengths: Lengths) -> Tensor:
    """Return which tokens are real, not padding, bool [B, T]: sample i lacks (i mod 4) fifths of the length.

    >>> real_tokens(2, 5, "left").int()
    tensor([[1, 1, 1, 1, 1],
            [0, 1, 1, 1, 1]], dtype=torch.int32)
    """
    short = torch.arange(samples) % 4 * (length // 5) * (lengths != "equal")
    positions = torch.arange(length)
    positions = positions.flip(0) if lengths == "left" else positions
    return positions[None, :] < (length - short)[:, None]


def _text(
    family: Family, model: PreTrainedModel, samples: int, length: int, lengths: Lengths, rng: torch.Generator
) -> Batch:
    real, takes = real_tokens(samples, length, lengths), inspect.signature(model.forward).parameters
    ids = torch.randint(FIRST_WORD, END_OF_WORDS, (samples, length), generator=rng)
    text = model.config.get_text_config()
    if family != "seq2seq" and model.config.is_encoder_decoder:  # some pool where a text ends
        ids[torch.arange(samples), _last(real)] = _first(text.eos_token_id)
    if model.config.model_type == "longformer" and family in ("question-answering", "multiple-choice"):
        first, last = real.int().argmax(-1), _last(real)
        for position in (first + 1, last - 1, last):  # it looks for these tokens to find the question
            ids[torch.arange(samples), position] = text.sep_token_id
    name = "inputs" if "input_ids" not in takes else "input_ids"
    batch: Batch = {name: torch.where(real, ids, text.pad_token_id or 0)}
    if "attention_mask" in takes:
        batch["attention_mask"] = real.long()
    if "token_type_ids" in takes:
        batch |= _token_types(model, real)
    if model.config.model_type == "git":  # it removes the image tokens from the scores
        size = model.config.vision_config.image_size
        batch["pixel_values"] = torch.randn(samples, 3, size, size, generator=rng)
    if "bbox" in takes:
        batch["bbox"] = _boxes(model, real, rng)
    return batch


def _first(token: int | list[int]) -> int:
    return token[0] if isinstance(token, list) else token


def _token_types(model: PreTrainedModel, real: Tensor) -> Batch:
    """Return 1 for the second text's tokens, which begin at a position that differs by sample; empty without types."""
    samples, length = real.shape
    types = (torch.arange(length)[None, :] >= 2 + torch.arange(samples)[:, None] % (length - 2)) & real
    if hasattr(model.config, "type_vocab_sizes"):  # tapas: columns and rows of a table
        return {"token_type_ids": types.long()[..., None].repeat(1, 1, len(model.config.type_vocab_sizes))}
    return {"token_type_ids": types.long()} if getattr(model.config, "type_vocab_size", 0) > 1 else {}


def _boxes(model: PreTrainedModel, real: Tensor, rng: torch.Generator) -> Tensor:
    low = torch.randint(0, 30, (*real.shape, 2), generator=rng)
    boxes = torch.cat([low, low + torch.randint(1, 30, low.shape, generator=rng)], -1) * real[..., None]
    return boxes / 60 if model.config.model_type == "bros" else boxes


def _labels(family: Family, model: Any, inputs: Batch, lengths: Lengths, rng: torch.Generator) -> Batch:
    ids: Tensor = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs"]
    samples, length = ids.shape
    real = real_tokens(samples, length, lengths)
    if family == "sequence-classification":
        return {"labels": torch.arange(samples) % model.config.num_labels}
    if family == "token-classification":
        labels = torch.randint(0, model.config.num_labels, ids.shape, generator=rng)
        labels[:, 2::3] = IGNORE_INDEX  # like the later pieces of a word
        return {"labels": labels.where(real, IGNORE_INDEX)}
    if family == "question-answering":
        first, last = real.int().argmax(-1), _last(real)
        start = first + torch.arange(samples) % 3
        return {"start_positions": torch.minimum(start, last), "end_positions": torch.minimum(start + 2, last)}
    if family == "masked-lm":
        labels = ids.clone()
        asked = real & (torch.arange(length) % 3 == 1)
        ids[asked] = torch.randint(FIRST_WORD, END_OF_WORDS, ids.shape, generator=rng)[asked]
        return {"labels": labels.where(asked, IGNORE_INDEX)}
    if family == "causal-lm" or not model.config.is_encoder_decoder:
        return {"labels": ids.where(real, IGNORE_INDEX)}
    width = length - 3  # another length than the question's
    answer = torch.randint(FIRST_WORD, END_OF_WORDS, (samples, width), generator=rng)
    labels = answer.where(real_tokens(samples, width, "equal" if lengths == "equal" else "right"), IGNORE_INDEX)
    if model.config.model_type == "fsmt":  # it would derive its decoder's inputs from the question
        return {"labels": labels, "decoder_input_ids": answer.roll(1, 1)}
    return {"labels": labels}


def _last(real: Tensor) -> Tensor:
    return real.shape[1] - 1 - real.flip(-1).int().argmax(-1)
