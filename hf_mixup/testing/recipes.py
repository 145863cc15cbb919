"""Batches of the families whose samples hold several streams, or whose targets are no classes: found by trying."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.testing.families import Family
from hf_mixup.testing.sizes import END_OF_WORDS
from hf_mixup.testing.streams import FRAMES, VISION, Batch, Recipe, _channels, _sides, features_of, images, sounds
from hf_mixup.utils.constants import IGNORE_INDEX

TEXT = 10
ANSWER = 6
SPECIAL = (  # a placeholder in the text, by the settings that name it, and the features that take its place
    (("image_token_id", "image_token_index"), "get_image_features", ("pixel_values",)),
    (("audio_token_id", "audio_token_index", "speech_token_id"), "get_audio_features", ("input_features", "input_values")),
)


class NoBatch(Exception):
    """No layout of the inputs fits a model; the message says what it said of the likeliest."""


def fitting_batch(family: Family, model: Any, samples: int, seed: int = 0) -> Batch:
    """Return the first batch with which a model runs and gives a finite loss."""
    first: Exception | None = None
    for batch in _candidates(family, model, samples, seed):
        if isinstance(batch, Exception):
            first = first or batch
            continue
        try:
            with torch.no_grad():
                torch.manual_seed(0)
                loss = loss_of(model(**batch))
        except NotImplementedError as error:
            raise NoBatch(f"has no training loss: {_line(error)}") from error
        except Exception as error:
            first = first or error
            continue
        if loss is None:
            raise NoBatch(f"returns no loss for {', '.join(batch)}")
        if torch.isfinite(loss).all():
            return batch
        first = first or ValueError(f"the loss is {loss}")
    raise NoBatch(_line(first)) from first


def loss_of(outputs: Any) -> Tensor | None:
    """Return the loss of a model's outputs, whatever they call it."""
    return next((value for key, value in outputs.items() if key == "loss" and value is not None), None)


def _line(error: Exception | None) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:250]}"


def _candidates(family: Family, model: Any, samples: int, seed: int) -> Iterator[Batch | Exception]:
    def new() -> Recipe:
        return Recipe(model, samples, torch.Generator().manual_seed(seed))

    count = 0
    for pictures in images(new()):
        for sound in sounds(new()):
            for make in (_with_text, _without_placeholders):
                count += 1
                if count > 60:
                    return
                recipe = new()
                try:
                    inputs = make(recipe, family, {**pictures, **sound, **_others(recipe, family)})
                    for labels in _labels(recipe, family, inputs):
                        yield {**inputs, **labels}
                except Exception as error:
                    yield error


def _others(recipe: Recipe, family: Family) -> Batch:
    """Return the further inputs that some models take beside their images, sound and text."""
    found, takes = {}, recipe.takes
    if "pixel_values_videos" in takes and family == "zero-shot-image-classification":
        frames = recipe.size(VISION, "num_frames", default=FRAMES)
        found["pixel_values_videos"] = recipe.floats(frames, _channels(recipe), *_sides(recipe))
    if "prompt_depth" in takes:
        found["prompt_depth"] = recipe.floats(1, *_sides(recipe)).abs()
    if "speaker_embeddings" in takes:
        found["speaker_embeddings"] = recipe.floats(recipe.config.speaker_embedding_dim)
    if "task_inputs" in takes:
        found["task_inputs"] = recipe.words(8)
        found["text_inputs"] = recipe.words(4 * 8).unflatten(1, (4, 8))
    if "protein_input_ids" in takes:
        found["protein_input_ids"] = recipe.words(8, 20)
        found["protein_attention_mask"] = torch.ones(recipe.samples, 8, dtype=torch.long)
    if "qformer_input_ids" in takes:
        found["qformer_input_ids"] = recipe.words(6)
        found["qformer_attention_mask"] = torch.ones(recipe.samples, 6, dtype=torch.long)
    if "state" in takes and "actions" in takes:
        found["state"] = recipe.floats(recipe.config.max_state_dim)
        found["actions"] = recipe.floats(recipe.config.chunk_size, recipe.config.max_action_dim)
    if "visual_embeds" in takes:
        found["visual_embeds"] = recipe.floats(4, recipe.config.visual_embedding_dim)
    if "visual_feats" in takes:
        found["visual_feats"] = recipe.floats(4, recipe.config.visual_feat_dim)
        found["visual_pos"] = recipe.floats(4, recipe.config.visual_pos_dim).sigmoid()
    return found


def _with_text(recipe: Recipe, family: Family, inputs: Batch) -> Batch:
    """Add the text, with a placeholder for each feature of images and sound."""
    if "input_ids" not in recipe.takes or _only_decodes(recipe, family):
        return inputs
    length = TEXT
    ids = recipe.words(length)
    config = getattr(recipe.config, "thinker_config", recipe.config)
    kinds = torch.zeros_like(ids)
    for kind, (names, make, keys) in enumerate(SPECIAL, start=1):
        token = next((value for name in names if isinstance(value := getattr(config, name, None), int)), None)
        if token is None or not any(key in inputs for key in keys):
            continue
        count = features_of(recipe, make, inputs)
        if count is None:
            continue
        ids = torch.cat([torch.full((len(ids), count), token), ids], 1)
        kinds = torch.cat([torch.full((len(ids), count), 1 if kind == 1 else 3), kinds], 1)
    return {**inputs, **_text(recipe, family, ids, kinds)}


def _without_placeholders(recipe: Recipe, family: Family, inputs: Batch) -> Batch:
    if "input_ids" not in recipe.takes or _only_decodes(recipe, family):
        raise ValueError("takes no text")
    ids = recipe.words(TEXT)
    return {**inputs, **_text(recipe, family, ids, torch.zeros_like(ids))}


def _text(recipe: Recipe, family: Family, ids: Tensor, kinds: Tensor) -> Batch:
    config = recipe.config.get_text_config()
    if not recipe.config.is_encoder_decoder and family in ("zero-shot-image-classification", "retrieval") or family == "document-question-answering":
        end = config.eos_token_id
        ids[:, -1] = end[0] if isinstance(end, list) else end if end is not None else ids[:, -1]
    found: Batch = {"input_ids": ids}
    if "attention_mask" in recipe.takes:
        found["attention_mask"] = torch.ones_like(ids)
    if "mm_token_type_ids" in recipe.takes:
        found["mm_token_type_ids"] = kinds
    if "token_type_ids" in recipe.takes:
        sizes = getattr(recipe.config, "type_vocab_sizes", None)
        if sizes:
            types = torch.ones(*ids.shape, len(sizes), dtype=torch.long)
            types[:, :2] = 0
            types[..., 1] = torch.arange(ids.shape[1]) % 3
            types[..., 2] = torch.arange(ids.shape[1]) // 3 % 4
            found["token_type_ids"] = types
        elif getattr(config, "type_vocab_size", 0) > 1:
            found["token_type_ids"] = (torch.arange(ids.shape[1])[None] >= 2 + torch.arange(len(ids))[:, None] % 3).long()
        else:
            found["token_type_ids"] = (kinds == 0).long()
    if "bbox" in recipe.takes:
        low = torch.randint(0, 30, (*ids.shape, 2), generator=recipe.rng)
        high = low + torch.randint(1, 30, low.shape, generator=recipe.rng)
        found["bbox"] = torch.cat([low, high], -1)
        if recipe.config.model_type == "udop":
            found["bbox"] = found["bbox"] / 60
    return found


def _only_decodes(recipe: Recipe, family: Family) -> bool:
    """Whether a model's text is its answer alone."""
    return family in ("ctc", "rnnt", "tdt")


# Labels


def _labels(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    make = _BY_FAMILY.get(family, _by_names)
    yield from make(recipe, family, inputs)


def _language(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    ids = inputs.get("input_ids")
    answer = recipe.words(ANSWER)
    if "actions" in inputs:
        yield {}
        return
    if "decoder_input_ids" in recipe.takes or ids is None:
        yield {"labels": answer}
        yield {"labels": answer, "decoder_input_ids": answer.roll(1, 1)}
        bos = torch.full((len(answer), 1), 2)
        yield {"labels": answer, "decoder_input_ids": answer.roll(1, 1), "decoder_attention_mask": torch.ones_like(answer), **dict.fromkeys((), bos)}
        return
    yield {"labels": ids.where(ids < END_OF_WORDS, IGNORE_INDEX)}


def _transcripts(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    classes = getattr(recipe.config, "vocab_size", 30)
    for length in (4, 2):
        yield {"labels": torch.randint(1, min(classes - 1, 60), (recipe.samples, length), generator=recipe.rng)}


def _classes(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    yield {"labels": torch.arange(recipe.samples) % recipe.config.num_labels}


def _spans(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    start = torch.arange(recipe.samples) % 4
    yield {"start_positions": start, "end_positions": start + 2}


def _answers(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    if recipe.model.can_generate() or "decoder_input_ids" in recipe.takes:
        yield from _language(recipe, family, inputs)
        return
    classes = recipe.config.num_labels
    scores = torch.rand(recipe.samples, classes, generator=recipe.rng)
    yield {"labels": scores / scores.sum(-1, keepdim=True)}


def _frames(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    logits = recipe.model(**inputs).logits
    ids = torch.randint(0, logits.shape[-1], logits.shape[:2], generator=recipe.rng)
    yield {"labels": F.one_hot(ids, logits.shape[-1])}
    yield {"labels": F.one_hot(ids, logits.shape[-1]).float()}


def _maps(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    """Yield a label for each pixel: integers for segments, floats for depth, several floats for normals and points."""
    height, width = inputs["pixel_values"].shape[-2:]
    if family == "semantic-segmentation" or family == "causal-image-modeling":
        yield {"labels": torch.randint(0, recipe.config.num_labels, (recipe.samples, height, width), generator=recipe.rng)}
        return
    yield {"labels": recipe.floats(height, width).abs() + 0.1}
    for channels in (1, 3):
        yield {"labels": recipe.floats(channels, height, width).sigmoid()}
    yield {"labels": recipe.floats(3, 2 * height, 2 * width)}


def _boxes(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    key = "text" if family.startswith("zero") else "labels"
    classes = recipe.config.num_labels
    rows = []
    for sample in range(recipe.samples):
        count = 1 + sample % 2
        boxes = torch.rand(count, 4, generator=recipe.rng) * 0.3 + 0.2
        rows.append({"class_labels": torch.randint(0, classes, (count,), generator=recipe.rng), "boxes": boxes})
    del key
    yield {"labels": rows}
    height, width = inputs["pixel_values"].shape[-2:]
    for row in rows:
        row["masks"] = (torch.rand(len(row["boxes"]), height, width, generator=recipe.rng) > 0.5).float()
    yield {"labels": rows}


def _masks(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    if "mask_labels" not in recipe.takes:
        yield from _boxes(recipe, family, inputs)
        return
    height, width = inputs["pixel_values"].shape[-2:]
    classes = recipe.config.num_labels
    masks = [(torch.rand(1 + i % 2, height, width, generator=recipe.rng) > 0.5).float() for i in range(recipe.samples)]
    named = [torch.randint(0, classes, (len(mask),), generator=recipe.rng) for mask in masks]
    yield {"mask_labels": masks, "class_labels": named}


def _masked_images(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    side = recipe.size(VISION, "image_size")
    patch = recipe.size(VISION, "patch_size", default=4)
    side = side if isinstance(side, int) else side[0]
    patch = patch if isinstance(patch, int) else patch[0]
    stride = getattr(recipe.config, "encoder_stride", None)
    for count in ((side // patch) ** 2, (side // stride) ** 2 if stride else 1):
        masked = (torch.arange(count) % 2 == 0).expand(recipe.samples, -1).contiguous()
        if "bool_masked_pos" in recipe.takes:
            yield {"bool_masked_pos": masked}


def _pairs(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    if "return_loss" in recipe.takes:
        yield {"return_loss": True}
    yield {}


def _sentences(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    yield {"labels": torch.arange(recipe.samples) % 2}


def _pixels_of_ids(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    yield {"labels": inputs["input_ids"]}


def _spectrograms(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    bins = getattr(recipe.config, "num_mel_bins", None) or recipe.config.get_text_config().num_mel_bins
    if "duration_labels" in recipe.takes:
        text = inputs["input_ids"].shape[1]
        durations = torch.full((recipe.samples, text), 2)
        yield {
            "spectrogram_labels": recipe.floats(2 * text, bins),
            "duration_labels": durations,
            "pitch_labels": recipe.floats(text, 1),
            "energy_labels": recipe.floats(text, 1),
        }
        return
    yield {"labels": recipe.floats(12, bins)}


def _by_names(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    """Yield labels for what a pretraining head or a head without a family's rule takes, by the names of its arguments."""
    takes, ids = recipe.takes, inputs.get("input_ids")
    found: Batch = {}
    if "next_sentence_label" in takes or "sentence_order_label" in takes:
        found["next_sentence_label" if "next_sentence_label" in takes else "sentence_order_label"] = torch.arange(recipe.samples) % 2
    if "bool_masked_pos" in takes:
        for labels in _masked_images(recipe, family, inputs):
            yield labels
    if "labels" in takes and ids is not None:
        if "discriminator" in type(recipe.model).__name__.lower() or recipe.config.model_type in ("electra", "funnel"):
            yield {**found, "labels": torch.randint(0, 2, ids.shape, generator=recipe.rng)}
        yield {**found, "labels": ids.clone()}
    if "start_positions" in takes:
        yield from _spans(recipe, family, inputs)
    if "return_loss" in takes:
        yield {"return_loss": True}
    if "mask_time_indices" in takes:
        shape = recipe.model._get_feat_extract_output_lengths(next(iter(inputs.values())).shape[-1])
        mask = (torch.arange(int(shape)) % 2 == 0).expand(recipe.samples, -1).contiguous()
        negatives = torch.randint(0, recipe.samples * int(shape), (recipe.samples, int(shape), recipe.config.num_negatives), generator=recipe.rng)
        yield {"mask_time_indices": mask, "sampled_negative_indices": negatives}
    if ids is None and "labels" in takes:
        yield from _language(recipe, family, inputs)
        yield from _maps(recipe, family, inputs)
    yield {}


_BY_FAMILY: dict[str, Any] = {
    "image-text-to-text": _language,
    "multimodal-lm": _language,
    "speech-seq2seq": _language,
    "visual-question-answering": _answers,
    "document-question-answering": _spans,
    "ctc": _transcripts,
    "rnnt": _transcripts,
    "tdt": _transcripts,
    "audio-frame-classification": _frames,
    "audio-xvector": _classes,
    "text-to-spectrogram": _spectrograms,
    "text-to-waveform": _by_names,
    "masked-image-modeling": _masked_images,
    "causal-image-modeling": _pixels_of_ids,
    "object-detection": _boxes,
    "zero-shot-object-detection": _boxes,
    "instance-segmentation": _masks,
    "universal-segmentation": _masks,
    "image-segmentation": _masks,
    "zero-shot-image-classification": _pairs,
    "next-sentence-prediction": _sentences,
    **dict.fromkeys(
        ("depth-estimation", "normal-estimation", "pointmap-estimation", "image-matting", "image-to-image", "semantic-segmentation", "pose-estimation", "keypoint-detection"),
        _maps,
    ),
    "table-question-answering": lambda recipe, family, inputs: iter([{"labels": torch.randint(0, 2, inputs["input_ids"].shape, generator=recipe.rng)}]),
}
__all__ = ["NoBatch", "fitting_batch", "loss_of", "nn"]
