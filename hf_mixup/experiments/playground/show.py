"""Rows and their mixture as HTML: images, tokens or audio clips."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from hf_mixup.experiments.playground.charts import OWN, PARTNER
from hf_mixup.experiments.playground.stage import Mixed
from hf_mixup.experiments.report.html_page import embedded
from hf_mixup.experiments.tasks.arguments import AUDIO, IMAGE, TEXT, TaskArguments
from hf_mixup.experiments.tasks.drawings import tokens_of, unnormalised
from hf_mixup.experiments.tasks.prepared import Prepared
from hf_mixup.methods import METHODS
from hf_mixup.utils.suggest import shortened

LEAST = 0.005  # share of a label that is named
_BEGINNING = 60  # characters of a text in a list


class SampleView(ABC):
    """Shows the validation rows of a task of one modality."""

    def __init__(self, prepared: Prepared, task: TaskArguments) -> None:
        self.prepared, self.task = prepared, task
        self.rows = prepared.evaluated["validation"]
        self.names = prepared.splits.label_names

    def label(self, index: int) -> str:
        """Name the class of a row."""
        return self.names[int(self.rows[index]["labels"])]

    def choice(self, index: int) -> str:
        """Name a row in a list."""
        return f"{self.label(index)} · row {index}"

    @abstractmethod
    def row(self, index: int, colour: str = OWN) -> str:
        """Show one row as the model sees it; tokens are tinted in a colour."""

    @abstractmethod
    def mixed(self, mixed: Mixed, lam: float) -> str:
        """Show the mixed row, or both rows side by side where they are blended inside the model."""


class ImageView(SampleView):
    """Images, as the image processor leaves them."""

    def row(self, index: int, colour: str = OWN) -> str:
        return self._image(self.rows[index]["pixel_values"], self.label(index))

    def mixed(self, mixed: Mixed, lam: float) -> str:
        if not mixed.inside:
            return self._image(mixed.inputs["pixel_values"], f"Mixed by {mixed.method}, lam {lam:.2f}")
        own, partner = mixed.clean["pixel_values"]
        return _side_by_side(self._image(own, "Own sample"), self._image(partner, "Partner"), lam)

    def _image(self, pixels: Tensor, text: str) -> str:
        from PIL import Image

        values = unnormalised(pixels, self.prepared.processing_class).permute(1, 2, 0).numpy()
        written = io.BytesIO()
        Image.fromarray((values * 255).round().astype(np.uint8)).save(written, format="PNG")
        return _image(written.getvalue(), text)


class TextView(SampleView):
    """Texts, token by token."""

    def choice(self, index: int) -> str:
        text = " ".join(str(self.prepared.splits.validation[index][self.task.input_column]).split())
        return f"{self.label(index)} · {shortened(text, _BEGINNING)}"

    def row(self, index: int, colour: str = OWN) -> str:
        batch = self.prepared.collator([self.rows[index]])
        return _tokens(tokens_of(batch, 0, self.prepared.processing_class), colour)

    def mixed(self, mixed: Mixed, lam: float) -> str:
        tokenizer = self.prepared.processing_class
        own, partner = (tokens_of(mixed.clean, row, tokenizer) for row in (0, 1))
        if mixed.inside:
            return _side_by_side(_tokens(own, OWN, lam), _tokens(partner, PARTNER, 1 - lam), lam)
        tokens = tokens_of({key: value[None] for key, value in mixed.inputs.items()}, 0, tokenizer)
        own_tokens = mixed.inputs["input_ids"] == mixed.clean["input_ids"][0]
        return _tokens(tokens, [OWN if each else PARTNER for each in own_tokens.tolist()])


class AudioView(SampleView):
    """Audio clips to hear, above the features that the model sees."""

    def row(self, index: int, colour: str = OWN) -> str:
        heard = _player(self.rows.waveform(index), self.prepared.processing_class.sampling_rate)
        return heard + self._drawn(self._features(self.rows[index]), self.label(index))

    def mixed(self, mixed: Mixed, lam: float) -> str:
        if mixed.inside:
            own, partner = (self._features({k: v[row] for k, v in mixed.clean.items()}) for row in (0, 1))
            return _side_by_side(self._drawn(own, "Own sample"), self._drawn(partner, "Partner"), lam)
        features = self._features(mixed.inputs)
        heard = _player(features, self.prepared.processing_class.sampling_rate) if features.ndim == 1 else ""
        return heard + self._drawn(features, f"Mixed by {mixed.method}")

    def _features(self, row: Any) -> np.ndarray:
        return row[self.prepared.processing_class.model_input_names[0]].float().numpy()

    def _drawn(self, features: np.ndarray, text: str) -> str:
        from hf_mixup.plots import audio_grid

        with TemporaryDirectory() as folder:
            rate = self.prepared.processing_class.sampling_rate
            path = audio_grid([features], [text], Path(folder, "audio.png"), rate=rate, columns=1)
            return _image(path.read_bytes(), text, "chart")


VIEWS: dict[str, type[SampleView]] = {IMAGE: ImageView, TEXT: TextView, AUDIO: AudioView}


def describe(mixed: Mixed, method: str, names: Sequence[str]) -> str:
    """Return a line of HTML: the mixed label, and where the rows are mixed."""
    order = dict.fromkeys([*mixed.clean["labels"].tolist(), *range(len(names))])  # own class, partner's
    label = " + ".join(f"{share:.2f} {names[each]}" for each in order if (share := float(mixed.target[each])) > LEAST)
    by = f"{METHODS[mixed.method].title}: " if mixed.method != method else ""
    blends = METHODS[mixed.method].blends.replace("`", "")
    where = blends if mixed.layer is None else f"hidden states at depth {mixed.layer}"
    inside = ", inside the model: both samples are shown side by side" if mixed.inside else ""
    return f"<p><b>{escape(label)}</b><br>{escape(f'{by}{where}{inside}')}</p>"


def _image(data: bytes, text: str, kind: str = "image") -> str:
    return f'<img alt="{escape(text)}" class="{kind}" src="{embedded(data)}">'


def _side_by_side(own: str, partner: str, lam: float) -> str:
    sides = ((own, f"own sample, {lam:.2f}"), (partner, f"partner, {1 - lam:.2f}"))
    return f'<div class="sides">{"".join(f"<div><small>{text}</small>{side}</div>" for side, text in sides)}</div>'


def _tokens(tokens: Sequence[str], colours: str | Sequence[str] = OWN, weight: float = 0.6) -> str:
    """Show tokens, each tinted by its colour as strongly as its weight in [0, 1] says."""
    each = [colours] * len(tokens) if isinstance(colours, str) else colours
    percent = round(6 + 34 * weight)
    chips = (
        f'<span class="token" style="background: color-mix(in srgb, {colour} {percent}%, transparent)">'
        f"{escape(token)}</span>"
        for token, colour in zip(tokens, each)
    )
    return f'<div class="tokens">{" ".join(chips)}</div>'


def _player(wave: np.ndarray, rate: int) -> str:
    import soundfile

    written = io.BytesIO()
    loudest = float(np.abs(wave).max()) or 1.0  # a feature extractor may have scaled it
    soundfile.write(written, 0.9 * wave / loudest, rate, format="WAV")
    return f'<audio controls src="{embedded(written.getvalue(), "audio/wav")}"></audio>'
