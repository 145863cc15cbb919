"""Text beside images and audio: ids, with a placeholder for each of their features."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from hf_mixup.testing.families import COMPARE, Family
from hf_mixup.testing.layouts.recipe import TEXT, Batch, Recipe
from hf_mixup.testing.sizes import FIRST_WORD

IMAGE, AUDIO = 1, 3  # kinds of tokens, as processors number them
SPECIAL = (  # the settings that name a placeholder, the kind, the features that take its place, and their inputs
    (
        ("image_token_id", "image_token_index"),
        IMAGE,
        "get_image_features",
        ("pixel_values", "image_patches", "flattened_patches"),
    ),
    (
        ("audio_token_id", "audio_token_index", "speech_token_id"),
        AUDIO,
        "get_audio_features",
        ("input_features", "input_values"),
    ),
)


def texts(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    """Yield the inputs with text that has a placeholder for each feature, then with text alone if it needs none."""
    if only_answers(recipe, inputs):
        yield inputs
        return
    codebooks = getattr(recipe.config, "num_codebooks", None)
    for columns in (codebooks, codebooks + 1) if codebooks else ():  # codes of audio, alone or beside a word
        ids = recipe.words(TEXT * columns).unflatten(1, (TEXT, columns))
        yield {"input_ids": ids, "attention_mask": torch.ones(ids.shape[:2], dtype=torch.long)}
    ids = recipe.words(TEXT)
    kinds, told = torch.zeros_like(ids), False
    for token, kind, make in _placeholders(recipe, inputs):
        count, told = _places(recipe, make, inputs, ids)
        ids = torch.cat([torch.full((len(ids), count), token), ids], 1)
        kinds = torch.cat([torch.full((len(ids), count), kind), kinds], 1)
    yield {**inputs, **_text(recipe, family, inputs, ids, kinds)}
    if kinds.any() and not told:
        ids = recipe.words(TEXT)
        yield {**inputs, **_text(recipe, family, inputs, ids, torch.zeros_like(ids))}
    if inputs and recipe.decodes and "decoder_input_ids" in recipe.takes:
        yield inputs


def _placeholders(recipe: Recipe, inputs: Batch) -> Iterator[tuple[int, int, str]]:
    """Yield the tokens that stand for inputs, their kind, and the method that makes the features."""
    config = getattr(recipe.config, "thinker_config", recipe.config)
    for names, kind, make, keys in SPECIAL:
        token = next((value for name in names if isinstance(value := getattr(config, name, None), int)), None)
        if kind == IMAGE and "image_embeds_position_mask" in recipe.takes:
            token = FIRST_WORD  # a mask tells where images are
        if token is not None and any(key in inputs for key in keys):
            yield token, kind, make


def only_answers(recipe: Recipe, inputs: Batch) -> bool:
    """Whether a model's text is its answer alone: an encoder-decoder that reads images or audio."""
    if "input_ids" not in recipe.takes:
        return True
    reads = recipe.model.main_input_name in inputs and "input_ids" not in recipe.required
    return recipe.decodes and reads and "decoder_input_ids" in recipe.takes


def _places(recipe: Recipe, make: str, inputs: Batch, ids: Tensor) -> tuple[int, bool]:
    """Return how many placeholders a sample needs, and whether the model's features told, or its error without any."""
    said: Exception | None = None
    try:
        count = features_of(recipe, make, inputs)
        if count is not None:
            return count, True
    except Exception as error:  # noqa: BLE001 - the model itself may say it
        said = error
    try:
        with torch.no_grad():
            recipe.model(**inputs, input_ids=ids)
    except Exception as error:  # noqa: BLE001
        found = re.search(r"features:? (\d+)", str(error))
        if found:
            return int(found[1]) // recipe.samples, True
        said = said or error
    if said is None:
        return 1, False
    raise said


def features_of(recipe: Recipe, name: str, inputs: Batch) -> int | None:
    """Return how many positions the features of a stream take in each sample, None if the model does not say."""
    thinker = getattr(recipe.model, "thinker", None)
    for module in (recipe.model.base_model, getattr(thinker, "model", None), thinker, recipe.model):
        make: Callable[..., Any] | None = getattr(module, name, None)
        if make is None:
            continue
        given = {key: value for key, value in inputs.items() if key in inspect.signature(make).parameters}
        if not given:
            continue
        with torch.no_grad():
            found = make(**given)
        found = getattr(found, "pooler_output", found)
        found = found if isinstance(found, (list, tuple)) else [found]
        held = [each for each in found if isinstance(each, Tensor)]
        return sum(each.numel() // each.shape[-1] for each in held) // recipe.samples if held else None
    return None


def _text(recipe: Recipe, family: Family, inputs: Batch, ids: Tensor, kinds: Tensor) -> Batch:
    config, takes = recipe.text, recipe.takes
    end = config.eos_token_id
    if end is not None and (
        family in COMPARE or family == "document-question-answering"  # some pool where a text ends
    ):
        ids[:, -1] = end[0] if isinstance(end, list) else end
    marks = [value for name, value in recipe.model.named_buffers() if name.endswith("special_tokens")]
    if marks:  # between phrases
        ids[:, ::4] = marks[0][-1]
    found: Batch = {"input_ids": ids}
    if "attention_mask" in takes:
        found["attention_mask"] = torch.ones_like(ids)
    if "mm_token_type_ids" in takes:
        found["mm_token_type_ids"] = kinds
    if "token_type_ids" in takes:
        found["token_type_ids"] = _types(recipe, ids, kinds)
    if "image_embeds_position_mask" in takes:
        found["image_embeds_position_mask"] = kinds == IMAGE
    images = inputs.get("pixel_values")
    if "image_attention_mask" in takes and images is not None and images.dim() == 5:  # which of several a word sees
        found["image_attention_mask"] = torch.ones(*ids.shape, images.shape[1], dtype=torch.long)
    if "bbox" in takes:
        low = torch.randint(0, 30, (*ids.shape, 2), generator=recipe.rng)
        high = low + torch.randint(1, 30, low.shape, generator=recipe.rng)
        found["bbox"] = torch.cat([low, high], -1)
        if recipe.config.model_type == "udop":
            found["bbox"] = found["bbox"] / 60
    return found


def _types(recipe: Recipe, ids: Tensor, kinds: Tensor) -> Tensor:
    """Return columns and rows of a table, which of two texts a token is in, or where it stands for an image."""
    position = torch.arange(ids.shape[1])
    sizes = getattr(recipe.config, "type_vocab_sizes", None)
    if sizes:
        types = torch.ones(*ids.shape, len(sizes), dtype=torch.long)
        types[:, :2] = 0
        types[..., 1], types[..., 2] = position % 3, position // 3 % 4
        return types
    size = getattr(recipe.text, "type_vocab_size", None)
    if size is None:
        return (kinds == 0).long()
    return ((position[None] >= 2 + torch.arange(len(ids))[:, None] % 3) & (size > 1)).long()
