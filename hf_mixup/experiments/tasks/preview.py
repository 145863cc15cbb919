"""`hf-mixup preview`: what mixed samples look like, drawn by the engine that trains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments, set_seed

from hf_mixup.engine.batch import MixedBatch
from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.labelled import LabelBatch
from hf_mixup.engine.mixup import Mixup
from hf_mixup.experiments.tasks.arguments import AUDIO, IMAGE, PAIRS, REGRESSION, TEXT, VIDEO, TaskArguments
from hf_mixup.experiments.tasks.prepare import Prepared, check_mixing, prepare
from hf_mixup.plots import TextPair, audio_grid, image_grid, pair_grid, text_pairs

_BATCHES, _SHOWN = 6, 2  # several batches, because lam is one for a whole batch by default
_DRAWN = (IMAGE, TEXT, REGRESSION, PAIRS, AUDIO, VIDEO)
_STRIP = 4.6  # inches of a video strip
_PAIRS = 6  # one batch, whose targets are a matrix


def preview(task: TaskArguments, mixup: MixupConfig, args: TrainingArguments, output: Path) -> Path:
    """Draw mixed training samples with lam and label names into a PNG file.

    Images, clips and audio clips are shown as the model gets them. Where the blend happens inside the model, and for
    texts, a sample stands beside its partner. Pairs are those of one small batch, with the matrix of their targets.

    Raises:
        ValueError: if the configuration never mixes, or for settings and data that do not fit.
        ImportError: if matplotlib is not installed.
    """
    _refuse(task, mixup, output)
    return draw_preview(prepare(task), task, mixup, args, output)


def draw_preview(
    prepared: Prepared, task: TaskArguments, mixup: MixupConfig, args: TrainingArguments, output: Path
) -> Path:
    """Draw mixed samples of a task whose data is loaded, see `preview`."""
    _refuse(task, mixup, output)
    set_seed(args.seed)
    model = prepared.build_model()
    check_mixing(prepared, model, mixup)
    # A schedule says when to mix, not what it looks like; the draws follow the Trainer's seed as in training.
    seed = args.seed if mixup.draw_seed is None else mixup.draw_seed
    config = mixup.replace(draw_seed=seed, prob_warmup=0.0, off_ratio=0.0, off_epochs=0.0)
    engine = Mixup(config, tokenizer=getattr(prepared.processing_class, "tokenizer", None))
    alpha = f", alpha {mixup.alpha:g}" if "alpha" in mixup.known else ""
    title = f"{mixup.mixing.title}{alpha}"
    with torch.no_grad():
        samples = list(_samples(engine, model, prepared, args, _PAIRS if task.task == PAIRS else None))
        if task.task == PAIRS:
            return _draw_pairs(samples, prepared, output, title)
    if task.task in (TEXT, REGRESSION):
        return _draw_texts(samples, prepared, output)
    if task.task == AUDIO:
        return _draw_audios(samples, prepared, output, title)
    return _draw_images(samples, prepared, output, title)


def _refuse(task: TaskArguments, mixup: MixupConfig, output: Path) -> None:
    if task.task not in _DRAWN:
        raise ValueError(f"task={task.task!r} has no preview, only {', '.join(_DRAWN)} do")
    if mixup.off:
        raise ValueError("nothing to preview: this configuration never mixes (alpha or prob is 0, or lam is 1)")
    if output.suffix.lower() != ".png":
        raise ValueError(f"output: images are PNG files, and {output.name!r} does not end in .png")


def _samples(
    engine: Mixup, model: Any, prepared: Prepared, args: TrainingArguments, rows: int | None = None
) -> Iterator[tuple[dict[str, Any], MixedBatch, bool]]:
    """Yield the batch, its mixed form, and whether the blend is visible in the inputs."""
    order = torch.randperm(len(prepared.train), generator=torch.Generator().manual_seed(args.seed)).tolist()
    size = min(rows or args.per_device_train_batch_size, max(1, len(order) // _BATCHES))
    for start in range(0, _BATCHES * size, size):
        batch = prepared.collator([prepared.train[index] for index in order[start : start + size]])
        with engine(model, batch) as mixed:
            yield batch, mixed, not engine.method.chosen(mixed.draw).enters_model


def _draw_images(
    samples: list[tuple[dict[str, Any], MixedBatch, bool]], prepared: Prepared, output: Path, title: str
) -> Path:
    """Draw images, or clips as strips of their frames, of which the partner's stands below."""
    in_inputs = all(visible for _, _, visible in samples)
    video = samples[0][0]["pixel_values"].dim() == 5
    images, captions = [], []
    for batch, mixed, visible in samples:
        own, rows = _changed(mixed)
        if not in_inputs:  # beside each other, or the mixed image twice where a switch chose to blend pixels
            other = own if visible else batch["pixel_values"][mixed.partner][rows]
            own = torch.cat([own, other], dim=-2 if video else -1)
        images.append(unnormalised(_strips(own) if video else own, prepared.processing_class))
        captions += [_caption(mixed, row, prepared.splits.label_names) for row in rows]
    if not in_inputs:
        title += (
            f": blended inside the model; {'above' if video else 'left'} own, {'below' if video else 'right'} partner"
        )
    layout: dict[str, Any] = {"columns": 2, "width": _STRIP} if video else {"columns": 4}
    return image_grid(torch.cat(images).numpy(), captions, output, title=title, **layout)


def _strips(clips: Tensor) -> Tensor:
    """Return clips [B, T, C, H, W] as images [B, C, H, T * W]."""
    return clips.permute(0, 2, 3, 1, 4).flatten(3)


def _draw_audios(
    samples: list[tuple[dict[str, Any], MixedBatch, bool]], prepared: Prepared, output: Path, title: str
) -> Path:
    in_inputs = all(visible for _, _, visible in samples)
    extractor, names = prepared.processing_class, prepared.splits.label_names
    key = extractor.model_input_names[0]
    clips, captions = [], []
    for batch, mixed, visible in samples:
        own, rows = _changed(mixed, key)
        for audio, row in zip(own, rows, strict=True):
            caption = _caption(mixed, row, names)
            clips.append(audio)
            captions.append(caption)
            if not in_inputs:
                other = int(mixed.partner[row])
                clips.append(audio if visible else batch[key][other])
                captions.append(caption if visible else f"partner: {_label(mixed.labels[other], names)}")
    if not in_inputs:
        title += ": blended inside the model; after each audio its partner"
    heard = [audio.float().numpy() for audio in clips]
    return audio_grid(heard, captions, output, rate=extractor.sampling_rate, title=title)


def _changed(mixed: MixedBatch, key: str = "pixel_values") -> tuple[Tensor, list[int]]:
    """Return the first images (audio clips) of a mixed batch and their rows: those behind the clean ones, if any."""
    pixels, places = mixed.inputs[key], mixed.changed_places
    if places is None or mixed.draw.rows is None:
        return pixels[:_SHOWN], list(range(len(pixels[:_SHOWN])))
    return pixels[places[:_SHOWN]], mixed.draw.rows[:_SHOWN].tolist()


def _draw_texts(samples: list[tuple[dict[str, Any], MixedBatch, bool]], prepared: Prepared, output: Path) -> Path:
    names, tokenizer = prepared.splits.label_names, prepared.processing_class
    pairs = []
    for batch, mixed, _ in samples:
        for row in range(min(_SHOWN, len(mixed.labels))):
            partner = int(mixed.partner[row])
            own_tokens, other_tokens = (tokens_of(batch, each, tokenizer) for each in (row, partner))
            own_label, other_label = (_label(mixed.labels[each], names) for each in (row, partner))
            pairs.append(TextPair(own_tokens, other_tokens, float(mixed.lam[row]), own_label, other_label))
    return text_pairs(pairs, output)


def _draw_pairs(
    samples: list[tuple[dict[str, Any], MixedBatch, bool]], prepared: Prepared, output: Path, title: str
) -> Path:
    # The coin of `prob` may have left some batches alone.
    batch, mixed, _ = next((sample for sample in samples if sample[1].rate), samples[0])
    processor = prepared.processing_class
    captions = processor.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    images = unnormalised(mixed.inputs["pixel_values"], processor.image_processor)
    both = [(captions[row], captions[int(partner)]) for row, partner in enumerate(mixed.partner)]
    return pair_grid(images.numpy(), both, mixed.lam.tolist(), output, mixed.targets.numpy(), title=title)


def _label(label: Tensor, names: list[str]) -> str:
    return names[int(label)] if names else f"{float(label):.2f}"


def tokens_of(batch: dict[str, Any], row: int, tokenizer: Any) -> list[str]:
    return tokenizer.convert_ids_to_tokens(batch["input_ids"][row][batch["attention_mask"][row].bool()])


def _caption(mixed: MixedBatch, row: int, names: list[str]) -> str:
    lam, draw = float(mixed.lam[row]), mixed.draw
    if lam == 1:
        return names[int(mixed.labels[row])]
    further = mixed.further_rows if isinstance(mixed, LabelBatch) else ()
    rows = [int(each[row]) for each in (draw.partner, *(numbers for numbers, _ in further))]
    shares = [float(share[row]) for _, share in further]
    shares = [1 - lam - sum(shares), *shares]
    shown = [pair for pair in zip(shares, rows) if len(rows) == 1 or pair[0] >= 0.005]
    return " + ".join(f"{share:.2f} {names[int(mixed.labels[each])]}" for share, each in [(lam, row), *shown])


def unnormalised(pixels: Tensor, processor: Any) -> Tensor:
    if getattr(processor, "do_normalize", False):
        mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
        pixels = pixels * std + mean
    return pixels.float().clamp(0, 1)  # rounding leaves [0, 1] by a hair
