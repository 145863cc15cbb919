"""The first layout of inputs and labels with which a model runs and has a loss."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor

from hf_mixup.testing.exchange import brief
from hf_mixup.testing.families import Family
from hf_mixup.testing.layouts.audio import audio_inputs
from hf_mixup.testing.layouts.images import channels_of, images, sides_of
from hf_mixup.testing.layouts.recipe import Batch, Recipe
from hf_mixup.testing.layouts.targets import TARGETS, targets
from hf_mixup.testing.layouts.texts import texts

TRIES = 24  # layouts of the inputs

_REFUSES = re.compile(r"not (support )?train|train[^.]* is not", re.IGNORECASE)


class NoBatch(Exception):
    """No layout of the inputs fits a model; the message says what it said of the likeliest."""


class NoLoss(NoBatch):
    """A model has no loss for training; the message says how it was found."""


def fitting_batches(family: Family, model: Any, samples: int, seed: int = 0, tries: int = TRIES) -> Iterator[Batch]:
    """Yield the batches with which a model runs and gives a finite loss, the likeliest first.

    Args:
        family: the family the model was built for.
        model: a model of `build`.
        samples: number of samples B.
        seed: seed of the ids and floats.
        tries: number of layouts of the inputs.

    Raises:
        NoLoss: if the model returns none, or says that it is not trained.
        NoBatch: if it runs on no layout that is tried.

    >>> from hf_mixup.testing.build import build
    >>> batch = next(fitting_batches("depth-estimation", build("depth-estimation", "glpn"), samples=2))
    >>> {name: list(value.shape) for name, value in batch.items()}
    {'pixel_values': [2, 3, 64, 64], 'labels': [2, 64, 64]}
    """
    found, first, silent = False, None, None
    for batch in _candidates(family, model, samples, seed, tries):
        try:
            loss = _loss(model, batch)
        except Exception as error:
            if isinstance(error, NotImplementedError) or _REFUSES.search(str(error)):
                raise NoLoss(brief(error)) from error
            if isinstance(error, ImportError):
                raise NoBatch(brief(error)) from error
            first = first or error
            continue
        if loss is None and (first is None or set(batch) & set(TARGETS)):  # type: ignore[arg-type]
            silent = silent or NoLoss(f"returns none for {', '.join(batch)}")  # type: ignore[arg-type]
        elif loss is not None and torch.isfinite(loss).all():
            yield batch  # type: ignore[misc]
            found = True
        else:
            first = first or ValueError(f"the loss is {loss}")
    if not found:
        raise silent or NoBatch(brief(first or ValueError("nothing to try"))) from first


def _loss(model: Any, batch: Batch | Exception) -> Tensor | None:
    if isinstance(batch, Exception):
        raise batch
    with torch.no_grad():
        torch.manual_seed(0)
        return loss_of(model(**batch))


def computes_loss(model_class: type) -> bool:
    """Whether the forward of a class names a loss.

    >>> from transformers import BertForMaskedLM, BertModel
    >>> computes_loss(BertForMaskedLM), computes_loss(BertModel)
    (True, False)
    """
    code = inspect.unwrap(model_class.forward).__code__  # type: ignore[attr-defined]
    return "loss" in str((code.co_names, code.co_varnames, code.co_consts[1:]))


def loss_of(outputs: Any) -> Tensor | None:
    """Return the loss of a model's outputs, None without one.

    >>> loss_of({"loss": torch.tensor(1.0), "logits": torch.zeros(2)})
    tensor(1.)
    """
    return outputs.get("loss") if hasattr(outputs, "get") else None


def _candidates(family: Family, model: Any, samples: int, seed: int, tries: int = TRIES) -> Iterator[Batch | Exception]:
    def new() -> Recipe:
        return Recipe(model, samples, torch.Generator().manual_seed(seed))

    together = ({**seen, **audio} for seen in images(new()) for audio in audio_inputs(new()))
    alone = (each for kind in (images, audio_inputs) for each in kind(new()) if each)  # many streams may do with one
    for layout in islice(chain(together, alone), tries):
        recipe = new()
        try:
            for inputs in texts(recipe, family, {**layout, **_others(recipe, family)}):
                for labels in targets(recipe, family, inputs):
                    yield {**inputs, **labels}
        except Exception as error:  # noqa: BLE001 - another layout may fit
            yield error


def _others(recipe: Recipe, family: Family) -> Batch:
    """Return the further inputs that some models take beside their images, audio and text."""
    found: Batch = {}
    takes, config = recipe.takes, recipe.config
    if "prompt_depth" in takes:
        found["prompt_depth"] = recipe.floats(1, *sides_of(recipe)).abs()
    if "speaker_embeddings" in takes:
        found["speaker_embeddings"] = recipe.floats(config.speaker_embedding_dim)
    if "task_inputs" in takes:
        texts, length = config.num_queries - config.text_encoder_n_ctx, config.text_encoder_context_length
        found["task_inputs"] = recipe.words(config.task_seq_len)
        found["text_inputs"] = recipe.words(texts * length).unflatten(1, (texts, length))
    if "classes_structure" in takes:
        names = ("classes_input_ids", "classes_attention_mask", "tasks_input_ids", "tasks_attention_mask")
        found |= {name: recipe.words(4) if "ids" in name else torch.ones(recipe.samples, 4).long() for name in names}
        found["classes_structure"] = torch.ones(recipe.samples, dtype=torch.long)
    if "protein_input_ids" in takes:
        found["protein_input_ids"] = recipe.words(8, 20)
        found["protein_attention_mask"] = torch.ones(recipe.samples, 8, dtype=torch.long)
    if "qformer_input_ids" in takes:
        found["qformer_input_ids"] = recipe.words(6)
        found["qformer_attention_mask"] = torch.ones(recipe.samples, 6, dtype=torch.long)
    if "state" in takes and "actions" in takes:
        found["state"] = recipe.floats(config.max_state_dim)
        found["actions"] = recipe.floats(config.chunk_size, config.max_action_dim)
    if "visual_embeds" in takes:
        found["visual_embeds"] = recipe.floats(4, config.visual_embedding_dim)
        found["visual_attention_mask"] = torch.ones(recipe.samples, 4, dtype=torch.long)
    if "visual_feats" in takes:
        found["visual_feats"] = recipe.floats(4, config.visual_feat_dim)
        found["visual_pos"] = recipe.floats(4, config.visual_pos_dim).sigmoid()
    if "codebook_pixel_values" in takes:
        found["codebook_pixel_values"] = recipe.floats(channels_of(recipe), *sides_of(recipe))
    return found
