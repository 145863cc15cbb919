"""Mixed samples as images: one function for each kind of input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_mixup.engine.labelled import LabelBatch, MixedBatch
from hf_mixup.experiments.tasks.augmentation import pixel_scale
from hf_mixup.experiments.tasks.prepared import Prepared
from hf_mixup.methods.base import TokenDraw
from hf_mixup.metrics.speech import texts_of
from hf_mixup.plots import (
    RowPair,
    StreamPair,
    TextPair,
    audio_grid,
    image_grid,
    pair_grid,
    row_pairs,
    stream_pairs,
    text_pairs,
)
from hf_mixup.utils.constants import IGNORE_INDEX

Sample = tuple[dict[str, Any], MixedBatch, bool]
"""A batch, its mixed form, and whether the blend is visible in the inputs."""
_SHOWN = 2  # samples of each batch
_LINES = 6  # of a preview of speech, one sample each
_STRIP = 4.6  # inches of a video strip


def draw_images(samples: list[Sample], prepared: Prepared, output: Path, title: str) -> Path:
    """Draw images, or videos as strips of their frames, with the partner's below."""
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
        sides = "above own, below partner" if video else "left own, right partner"
        title += f": blended inside the model; {sides}"
    layout: dict[str, Any] = {"columns": 2, "width": _STRIP} if video else {"columns": 4}
    return image_grid(torch.cat(images).numpy(), captions, output, title=title, **layout)


def _strips(videos: Tensor) -> Tensor:
    """Return videos [B, T, C, H, W] as images [B, C, H, T * W]."""
    return videos.permute(0, 2, 3, 1, 4).flatten(3)


def draw_audio(samples: list[Sample], prepared: Prepared, output: Path, title: str) -> Path:
    """Draw audio clips; where the blend happens inside the model, each is followed by its partner."""
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
    waveforms = [audio.float().numpy() for audio in clips]
    return audio_grid(waveforms, captions, output, rate=extractor.sampling_rate, title=title)


def _changed(mixed: MixedBatch, key: str = "pixel_values") -> tuple[Tensor, list[int]]:
    """Return the first images (audio clips) of a mixed batch and their rows: those behind the clean ones, if any."""
    pixels, places = mixed.inputs[key], mixed.changed_places
    if places is None or mixed.draw.rows is None:
        return pixels[:_SHOWN], list(range(len(pixels[:_SHOWN])))
    return pixels[places[:_SHOWN]], mixed.draw.rows[:_SHOWN].tolist()


def draw_texts(samples: list[Sample], prepared: Prepared, output: Path, title: str) -> Path:
    """Draw texts beside their partners, and below them the tokens that the model reads where those are mixed."""
    names, tokenizer = prepared.splits.label_names, prepared.processing_class
    pairs = []
    for batch, mixed, visible in samples:
        for row in range(min(_SHOWN, len(mixed.labels))):
            both = (row, int(mixed.partner[row]))
            own_tokens, other_tokens = (tokens_of(batch, each, tokenizer) for each in both)
            own_label, other_label = (_text_label(mixed.labels[each], names, tokenizer) for each in both)
            seen = _mixed_tokens(mixed, row, tokenizer) if visible else []
            if isinstance(mixed.draw, TokenDraw) and not visible:  # within a text: below each other what is blended
                other_tokens = _blended_with(mixed.draw.positions[row], batch, row, tokenizer)
            pairs.append(TextPair(own_tokens, other_tokens, float(mixed.lam[row]), own_label, other_label, seen))
    inside = not any(pair.mixed for pair in pairs)
    return text_pairs(pairs, output, title=title + ": blended inside the model" * inside)


def _blended_with(positions: Tensor, batch: dict[str, Any], row: int, tokenizer: Any) -> list[str]:
    """Return for each token of a text the one of the same text that it is blended with; itself where it stays."""
    own = torch.arange(len(positions))
    ids = batch["input_ids"][row].cpu()[torch.where(positions.cpu() < 0, own, positions.cpu())]
    return tokenizer.convert_ids_to_tokens(ids[batch["attention_mask"][row].bool().cpu()])


def _text_label(label: Tensor, names: list[str], tokenizer: Any) -> str:
    """Return a class or number, the tags of the words, or the text to write."""
    if not label.dim():
        return _label(label, names)
    known = label[label != IGNORE_INDEX].tolist()
    if not names:
        return tokenizer.decode(known, skip_special_tokens=True)
    return ", ".join(dict.fromkeys(re.sub("^[BI]-", "", names[each]) for each in known if names[each] != "O"))


def _mixed_tokens(mixed: MixedBatch, row: int, tokenizer: Any) -> list[tuple[str, bool]]:
    """Return the tokens of a mixed text, each with whether it is the partner's; none if they are left as they were."""
    if not isinstance(mixed.draw, TokenDraw):
        return []
    place = _place(mixed, row)
    tokens = tokens_of(mixed.inputs, place, tokenizer)
    theirs = (mixed.draw.positions[row] >= 0)[mixed.inputs["attention_mask"][place].bool()]
    return list(zip(tokens, theirs.tolist(), strict=True))


def _place(mixed: MixedBatch, row: int) -> int:
    """Return where the mixed form of a row of the batch is: behind the clean ones, if there are any."""
    if mixed.changed_places is None:
        return row
    rows = range(len(mixed.lam)) if mixed.draw.rows is None else mixed.draw.rows.tolist()
    return dict(zip(rows, mixed.changed_places.tolist())).get(row, row)


def draw_tables(samples: list[Sample], prepared: Prepared, output: Path, title: str) -> Path:
    """Draw a row of each batch in the units of its columns: own, the partner's, and the mix where it is visible."""
    processor, rows = prepared.processing_class, []
    for batch, mixed, _ in samples:
        lam, partner = float(mixed.lam[0]), int(mixed.partner[0])
        own, other = _columns(batch, 0, processor), _columns(batch, partner, processor)
        seen = _columns(mixed.inputs, _place(mixed, 0), processor)
        cells = [(name, own[name], other[name], seen[name] if seen != own else "") for name in own]
        rows.append(RowPair(cells, lam, *(_row_label(mixed.labels[each], prepared) for each in (0, partner))))
    inside = not any(cell[-1] for each in rows for cell in each.cells)
    return row_pairs(rows, output, title=title + ": blended inside the model" * inside)


def _columns(batch: dict[str, Any], row: int, processor: Any) -> dict[str, str]:
    """Return what the columns of a row hold: numbers in their own units, and names of categories."""
    found: dict[str, str] = {}
    if processor.numerical:
        numbers = batch["numerical_values"][row].double().numpy() * processor.scale + processor.mean
        found |= {name: f"{value:.4g}" for name, value in zip(processor.numerical, numbers)}
    for index, (name, values) in enumerate(processor.categories.items()):
        code = int(batch["categorical_values"][row, index])
        found[name] = values[code - 1] if code else "(unknown)"
    return found


def _row_label(label: Tensor, prepared: Prepared) -> str:
    names = prepared.splits.label_names
    return names[int(label)] if names else f"{float(prepared.processing_class.unscaled_target(label)):.4g}"


def draw_pairs(samples: list[Sample], prepared: Prepared, output: Path, title: str) -> Path:
    """Draw the pairs of one batch, with the matrix of their targets."""
    # The coin of `prob` may have left some batches alone.
    batch, mixed, _ = next((sample for sample in samples if sample[1].rate), samples[0])
    processor = prepared.processing_class
    captions = processor.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    images = unnormalised(mixed.inputs["pixel_values"], processor.image_processor)
    both = [(captions[row], captions[int(partner)]) for row, partner in enumerate(mixed.partner)]
    return pair_grid(images.numpy(), both, mixed.lam.tolist(), output, mixed.targets.numpy(), title=title)


def draw_streams(samples: list[Sample], prepared: Prepared, output: Path, title: str) -> Path:
    """Draw images and texts of samples that hold both: own, the partner's, and the mix where it is visible.

    The text is what is read beside the image, or what is to be written: then it is the label.
    """
    processor, names = prepared.processing_class, prepared.splits.label_names
    rows = []
    for batch, mixed, _ in samples:
        own = unnormalised(batch["pixel_values"], processor.image_processor)
        seen = unnormalised(mixed.inputs["pixel_values"], processor.image_processor)
        inside = bool(mixed.rate) and torch.equal(own, seen)
        own_labels = batch["labels"]
        if names:
            texts: list[str | None] = processor.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
            labels = [_names(label, names) for label in own_labels]
        else:
            texts, written = (
                [None] * len(own),
                own_labels.masked_fill(own_labels < 0, processor.tokenizer.pad_token_id),
            )
            labels = processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        for row in range(min(_SHOWN, len(own_labels))):
            both = [row, int(mixed.partner[row])]
            images, shown = [own[each].numpy() for each in both], None if inside else seen[row].numpy()
            read, named = [texts[each] for each in both], [labels[each] for each in both]
            rows.append(StreamPair(images, shown, read, float(mixed.lam[row]), named))
    return stream_pairs(rows, output, title=title)


def draw_speech(samples: list[Sample], prepared: Prepared, output: Path, title: str) -> Path:
    """Draw the audio of samples, of their partners and their mix, with both transcripts and what they weigh.

    Samples that `prob` leaves alone come last. Where the blend happens inside the model, there is no mix to draw.
    """
    extractor, tokenizer = prepared.processing_class.feature_extractor, prepared.processing_class.tokenizer
    key = extractor.model_input_names[0]
    inside = all(torch.equal(batch[key], mixed.inputs[key][: len(batch[key])]) for batch, mixed, _ in samples)
    found = [(batch, mixed, row) for batch, mixed, _ in samples for row in range(len(batch[key]))]
    clips, captions = [], []
    for batch, mixed, row in sorted(found, key=lambda each: float(each[1].lam[each[2]]) == 1)[:_LINES]:
        lam, partner = float(mixed.lam[row]), int(mixed.partner[row])
        own, other = texts_of(np.zeros((0, 1)), batch["labels"][[row, partner]].numpy(), tokenizer)[1]
        clips += [batch[key][row], batch[key][partner]] + [mixed.inputs[key][row]] * (not inside)
        captions += [f"{lam:.2f} {own}", f"{1 - lam:.2f} {other}"] + ["mixed"] * (not inside)
    title += ": blended inside the model; own, partner" if inside else ": own, partner, mix"
    heard = [_time_first(audio, extractor).float().numpy() for audio in clips]
    columns = 2 if inside else 3
    return audio_grid(heard, captions, output, rate=extractor.sampling_rate, title=title, columns=columns)


def _time_first(audio: Tensor, extractor: Any) -> Tensor:
    """Return a waveform [T] as it is, and a spectrogram as [T, M], also one that holds a line a pitch."""
    return audio.T if audio.dim() == 2 and len(audio) == extractor.feature_size else audio


DRAWINGS = {
    "speech": draw_speech,
    "images": draw_images,
    "audio": draw_audio,
    "texts": draw_texts,
    "tables": draw_tables,
    "pairs": draw_pairs,
    "streams": draw_streams,
}


def _label(label: Tensor, names: list[str]) -> str:
    return names[int(label)] if names else f"{float(label):.2f}"


def _names(label: Tensor, names: list[str]) -> str:
    """Return the name of a class, or of those answers that have a score.

    >>> _names(torch.tensor(1), ["yes", "no"]), _names(torch.tensor([1.0, 0.0, 1.0]), ["red", "big", "fruit"])
    ('no', 'red, fruit')
    """
    which = label.nonzero().flatten().tolist() if label.dim() else [int(label)]
    return ", ".join(names[each] for each in which)


def tokens_of(batch: dict[str, Any], row: int, tokenizer: Any) -> list[str]:
    """Return the tokens of one text of a batch, without padding."""
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
    """Return pixels in [0, 1], as they were before the processor normalised them."""
    mean, std = pixel_scale(processor)
    return (pixels * std + mean).float().clamp(0, 1)  # rounding leaves [0, 1] by a hair
