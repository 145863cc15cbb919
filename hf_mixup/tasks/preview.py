"""`hf-mixup preview`: what mixed samples look like, drawn by the engine that trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments, set_seed

from hf_mixup.config import MixupConfig
from hf_mixup.engine import MixedBatch, Mixup
from hf_mixup.methods import METHODS
from hf_mixup.report import TextPair, image_grid, text_pairs
from hf_mixup.tasks.arguments import TaskArguments
from hf_mixup.tasks.prepare import Prepared, check_mixing, prepare

_BATCHES, _SHOWN = 6, 2  # several batches, because lam is one for a whole batch by default


def preview(task: TaskArguments, mixup: MixupConfig, args: TrainingArguments, output: Path) -> Path:
    """Draw mixed training samples with lam and label names into a PNG file.

    Pictures are shown as the model gets them. Where the blend happens inside the model, and for texts, a sample stands
    beside its partner.

    Raises:
        ValueError: if the configuration never mixes, or for settings and data that do not fit.
        ImportError: if matplotlib is not installed.
    """
    if mixup.off:
        raise ValueError("nothing to preview: this configuration never mixes (alpha or prob is 0, or lam is 1)")
    if output.suffix.lower() != ".png":
        raise ValueError(f"output: pictures are PNG files, and {output.name!r} does not end in .png")
    prepared = prepare(task)
    set_seed(args.seed)
    model = prepared.build_model()
    check_mixing(prepared, model, mixup)
    # A schedule says when to mix, not what it looks like; the draws follow the Trainer's seed as in training.
    seed = args.seed if mixup.draw_seed is None else mixup.draw_seed
    engine = Mixup(replace(mixup, draw_seed=seed, prob_warmup=0.0, off_ratio=0.0, off_epochs=0.0))
    with torch.no_grad():
        samples = list(_samples(engine, model, prepared, args))
    if not task.is_image:
        return _draw_texts(samples, prepared, output)
    return _draw_images(samples, prepared, output, f"{METHODS[mixup.method].title}, alpha {mixup.alpha:g}")


def _samples(
    engine: Mixup, model: Any, prepared: Prepared, args: TrainingArguments
) -> Iterator[tuple[dict[str, Any], MixedBatch, bool]]:
    """Yield the batch, its mixed form, and whether the blend is visible in the inputs."""
    order = torch.randperm(len(prepared.train), generator=torch.Generator().manual_seed(args.seed)).tolist()
    size = min(args.per_device_train_batch_size, max(1, len(order) // _BATCHES))
    for start in range(0, _BATCHES * size, size):
        batch = prepared.collator([prepared.train[index] for index in order[start : start + size]])
        with engine(model, batch) as mixed:
            yield batch, mixed, not engine.method.chosen(mixed.params).enters_model


def _draw_images(
    samples: list[tuple[dict[str, Any], MixedBatch, bool]], prepared: Prepared, output: Path, title: str
) -> Path:
    in_inputs = all(visible for _, _, visible in samples)
    pictures, captions = [], []
    for batch, mixed, visible in samples:
        own = mixed.inputs["pixel_values"]
        if not in_inputs:  # beside each other, or the mixed picture twice where a switch chose to blend pixels
            other = own if visible else batch["pixel_values"][mixed.partner]
            own = torch.cat([own, other], dim=-1)
        pictures.append(_unnormalised(own[:_SHOWN], prepared.processing_class))
        captions += [_caption(mixed, row, prepared.splits.label_names) for row in range(len(own[:_SHOWN]))]
    if not in_inputs:
        title += ": blended inside the model; left own, right partner"
    return image_grid(torch.cat(pictures).numpy(), captions, output, columns=4, title=title)


def _draw_texts(samples: list[tuple[dict[str, Any], MixedBatch, bool]], prepared: Prepared, output: Path) -> Path:
    names, tokenizer = prepared.splits.label_names, prepared.processing_class
    pairs = []
    for batch, mixed, _ in samples:
        for row in range(min(_SHOWN, len(mixed.labels))):
            partner = int(mixed.partner[row])
            own_tokens, other_tokens = (_tokens(batch, each, tokenizer) for each in (row, partner))
            own_label, other_label = (names[int(mixed.labels[each])] for each in (row, partner))
            pairs.append(TextPair(own_tokens, other_tokens, float(mixed.lam[row]), own_label, other_label))
    return text_pairs(pairs, output)


def _tokens(batch: dict[str, Any], row: int, tokenizer: Any) -> list[str]:
    return tokenizer.convert_ids_to_tokens(batch["input_ids"][row][batch["attention_mask"][row].bool()])


def _caption(mixed: MixedBatch, row: int, names: list[str]) -> str:
    lam, own, other = float(mixed.lam[row]), int(mixed.labels[row]), int(mixed.labels[mixed.partner[row]])
    return names[own] if lam == 1 else f"{lam:.2f} {names[own]} + {1 - lam:.2f} {names[other]}"


def _unnormalised(pixels: Tensor, processor: Any) -> Tensor:
    if getattr(processor, "do_normalize", False):
        mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
        pixels = pixels * std + mean
    return pixels.float().clamp(0, 1)  # rounding leaves [0, 1] by a hair
