"""The labels of each family, and of heads without a family's rule by the names of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup.testing.families import Family
from hf_mixup.testing.layouts.images import fixed
from hf_mixup.testing.layouts.recipe import TEXT, VISION, Batch, Recipe
from hf_mixup.testing.sizes import END_OF_WORDS
from hf_mixup.utils.constants import IGNORE_INDEX

ANSWER = 6
TARGETS = (
    "labels",
    "labels_input_ids",
    "class_labels",
    "mask_labels",
    "start_positions",
    "end_positions",
    "next_sentence_label",
    "sentence_order_label",
    "target_values",
    "future_values",
    "spectrogram_labels",
    "duration_labels",
    "pitch_labels",
    "energy_labels",
)
"""The names of labels."""


def targets(recipe: Recipe, family: Family, inputs: Batch) -> Iterator[Batch]:
    """Yield what a model may be given to learn, the likeliest first; masks that only training takes are part of it."""
    return _BY_FAMILY.get(family, _by_names)(recipe, inputs)


def _language(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield the text itself, or an answer with the decoder's inputs as the model derives them, or given."""
    ids = inputs.get("input_ids")
    if "actions" in inputs:
        yield {}
    if ids is not None and ids.dim() == 3:  # codes of audio in columns
        yield {"labels": ids.clone()}
        yield {"labels": ids[..., 0].clone()}
        return
    codes = getattr(getattr(recipe.config, "decoder_config", None), "num_channels", None)
    if codes and "decoder_input_ids" in recipe.takes:
        answer = recipe.words(ANSWER * codes).unflatten(1, (ANSWER, codes))
        yield {"labels": answer.transpose(1, 2).flatten(0, 1), "decoder_input_ids": answer.roll(1, 1)}
    if ids is not None and not recipe.decodes:
        yield {"labels": ids.where(ids < END_OF_WORDS, IGNORE_INDEX)}
    answer = recipe.words(ANSWER)
    yield {"labels": answer}
    if "decoder_input_ids" in recipe.takes:
        given = {"labels": answer, "decoder_input_ids": answer.roll(1, 1)}
        yield given
        yield {**given, "decoder_attention_mask": torch.ones_like(answer)}


def _transcripts(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield a transcript, with the decoder's inputs behind a blank where a transducer asks for them."""
    classes = min(getattr(recipe.config, "vocab_size", 30) - 1, END_OF_WORDS)
    blank = getattr(recipe.config, "blank_token_id", None)
    for length in (4, 2):
        labels = torch.randint(1, classes, (recipe.samples, length), generator=recipe.rng)
        if blank is not None and "decoder_input_ids" in recipe.takes:
            yield {"labels": labels, "decoder_input_ids": F.pad(labels, (1, 0), value=blank)}
        yield {"labels": labels}


def _classes(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    yield {"labels": torch.arange(recipe.samples) % recipe.config.num_labels}


def _spans(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    start = torch.arange(recipe.samples) % 4
    if "question_positions" in recipe.takes:  # a span for each of some questions
        start = 2 + start[:, None]
        yield {"question_positions": start + 4, "start_positions": start, "end_positions": start + 1}
        return
    yield {"start_positions": start, "end_positions": start + 2}


def _answers(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield a share for each answer, or the answer as text where a model writes it."""
    if recipe.model.can_generate() or "decoder_input_ids" in recipe.takes:
        yield from _language(recipe, inputs)
        return
    shares = torch.rand(recipe.samples, recipe.config.num_labels, generator=recipe.rng)
    yield {"labels": shares / shares.sum(-1, keepdim=True)}


def _frames(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    with torch.no_grad():
        shape = recipe.model(**inputs).logits.shape
    ids = torch.randint(0, shape[-1], shape[:2], generator=recipe.rng)
    yield {"labels": F.one_hot(ids, shape[-1])}
    yield {"labels": F.one_hot(ids, shape[-1]).float()}


def _pixel_classes(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    height, width = inputs["pixel_values"].shape[-2:]
    shape = (recipe.samples, height, width)
    yield {"labels": torch.randint(0, recipe.config.num_labels, shape, generator=recipe.rng)}


def _maps(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield a number for each pixel, as for depth, or several, as for normals, points and images."""
    height, width = inputs["pixel_values"].shape[-2:]
    yield {"labels": recipe.floats(height, width).abs() + 0.1}
    for channels in (1, 3):
        yield {"labels": recipe.floats(channels, height, width).sigmoid()}
    yield {"labels": recipe.floats(3, 2 * height, 2 * width)}


def _heatmaps(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield a map for each point, of the size of the model's."""
    with torch.no_grad():
        shape = recipe.model(**inputs).heatmaps.shape
    yield {"labels": recipe.floats(*shape[1:]).sigmoid()}


def _boxes(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield one or two objects a sample, as boxes, then with masks too."""
    rows: list[dict[str, Tensor]] = []
    for sample in range(recipe.samples):
        boxes = torch.rand(1 + sample % 2, 4, generator=recipe.rng) * 0.3 + 0.2
        names = torch.randint(0, recipe.config.num_labels, (len(boxes),), generator=recipe.rng)
        rows.append({"class_labels": names, "boxes": boxes})
    yield {"labels": rows}
    height, width = next(value for key, value in inputs.items() if key.startswith("pixel_values")).shape[-2:]
    masks = [(torch.rand(len(row["boxes"]), height, width, generator=recipe.rng) > 0.5).float() for row in rows]
    yield {"labels": [{**row, "masks": mask} for row, mask in zip(rows, masks)]}


def _masks(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    if "mask_labels" not in recipe.takes:
        yield from _boxes(recipe, inputs)
        return
    *_, (with_masks) = _boxes(recipe, inputs)
    rows = with_masks["labels"]
    yield {"mask_labels": [row["masks"] for row in rows], "class_labels": [row["class_labels"] for row in rows]}


def _hidden_patches(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield which patches are hidden from a model that learns to paint them."""
    if "bool_masked_pos" not in recipe.takes:
        yield {}
        return
    side = fixed(recipe.size(VISION, "image_size", default=64))
    patch = fixed(recipe.size(VISION, "patch_size", default=4))
    stride = getattr(recipe.config, "encoder_stride", None) or patch
    for count in dict.fromkeys(((side // patch) ** 2, (side // stride) ** 2)):
        yield {"bool_masked_pos": (torch.arange(count) % 2 == 0).expand(recipe.samples, -1).contiguous()}


def _pairs(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    if "return_loss" in recipe.takes:
        yield {"return_loss": True}
    yield {}


def _sentences(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    yield {"labels": torch.arange(recipe.samples) // 2}


def _codes(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield codes of audio, several to a position."""
    codebooks = getattr(getattr(recipe.config, "decoder", None), "num_codebooks", None)
    if codebooks:
        yield {"labels": recipe.words(ANSWER * codebooks).unflatten(1, (ANSWER, codebooks))}
    if hasattr(recipe.config, "audio_latent_token_id"):  # floats of audio, which stand behind the text
        start, frame = recipe.config.audio_bos_token_id, recipe.config.audio_latent_token_id
        ids = F.pad(F.pad(recipe.words(TEXT), (0, 1), value=start), (0, ANSWER), value=frame)
        latents = recipe.floats(ANSWER, recipe.config.latent_dim)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": latents}
    yield from _by_names(recipe, inputs)


def _own_ids(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    yield {"labels": inputs["input_ids"].clone()}


def _table_cells(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield which words are in the cells of one column of a table."""
    columns, rows = inputs["token_type_ids"][..., 1], inputs["token_type_ids"][..., 2]
    asked = 1 + torch.arange(recipe.samples)[:, None] % 2
    yield {"labels": ((columns == asked) & (rows > 0)).long()}


def _replaced(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield which words are not the text's own."""
    yield {"labels": torch.randint(0, 2, inputs["input_ids"].shape, generator=recipe.rng)}


def _spectrograms(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    bins = getattr(recipe.config, "num_mel_bins", None) or recipe.config.get_text_config().num_mel_bins
    text = inputs["input_ids"].shape[1]
    if "duration_labels" in recipe.takes:
        yield {
            "spectrogram_labels": recipe.floats(2 * text, bins),
            "duration_labels": torch.full((recipe.samples, text), 2),
            "pitch_labels": recipe.floats(text, 1),
            "energy_labels": recipe.floats(text, 1),
        }
    else:
        yield {"labels": recipe.floats(12, bins)}


def _by_names(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield labels for a pretraining head, or one without a rule, by the names of its arguments."""
    takes, ids = recipe.takes, inputs.get("input_ids")
    order = next((name for name in ("next_sentence_label", "sentence_order_label") if name in takes), None)
    found: Batch = {} if order is None else {order: torch.arange(recipe.samples) // 2}
    if "bool_masked_pos" in takes:
        yield from _hidden_patches(recipe, inputs)
    if "labels" in takes and ids is not None:
        if recipe.config.model_type in ("electra", "funnel"):
            yield from _replaced(recipe, inputs)
        beside = inputs.get("visual_attention_mask", ids[:, :0]).shape[1]
        yield {**found, "labels": F.pad(ids, (0, beside), value=IGNORE_INDEX)}
    if "start_positions" in takes:
        yield from _spans(recipe, inputs)
    if "labels_input_ids" in takes and ids is not None:
        yield {"labels_input_ids": ids.clone()}
    if "return_loss" in takes:
        yield {"return_loss": True}
    if "mask_time_indices" in takes:
        yield from _negatives(recipe, inputs)
    if ids is None and "labels" in takes:
        yield from _language(recipe, inputs)
        yield from _maps(recipe, inputs)
    yield {}


def _negatives(recipe: Recipe, inputs: Batch) -> Iterator[Batch]:
    """Yield which frames are hidden, and the frames that are told from them."""
    waves = next(iter(inputs.values()))
    frames = int(recipe.model._get_feat_extract_output_lengths(waves.shape[-1]))
    shape = (recipe.samples, frames, recipe.config.num_negatives)
    yield {
        "mask_time_indices": (torch.arange(frames) % 2 == 0).expand(recipe.samples, -1).contiguous(),
        "sampled_negative_indices": torch.randint(0, recipe.samples * frames, shape, generator=recipe.rng),
    }


_BY_FAMILY: dict[str, Callable[[Recipe, Batch], Iterator[Batch]]] = {
    **dict.fromkeys(("image-text-to-text", "multimodal-lm", "speech-seq2seq"), _language),
    **dict.fromkeys(("ctc", "rnnt", "tdt"), _transcripts),
    **dict.fromkeys(("object-detection", "zero-shot-object-detection"), _boxes),
    **dict.fromkeys(("instance-segmentation", "universal-segmentation", "image-segmentation"), _masks),
    **dict.fromkeys(("depth-estimation", "normal-estimation", "pointmap-estimation"), _maps),
    **dict.fromkeys(("image-matting", "image-to-image", "keypoint-detection"), _maps),
    "pose-estimation": _heatmaps,
    "visual-question-answering": _answers,
    "document-question-answering": _spans,
    "table-question-answering": _table_cells,
    "audio-frame-classification": _frames,
    "audio-xvector": _classes,
    "text-to-spectrogram": _spectrograms,
    "text-to-waveform": _codes,
    "masked-image-modeling": _hidden_patches,
    "causal-image-modeling": _own_ids,
    "semantic-segmentation": _pixel_classes,
    "zero-shot-image-classification": _pairs,
    "next-sentence-prediction": _sentences,
}
