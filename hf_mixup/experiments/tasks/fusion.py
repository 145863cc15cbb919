"""Images with a text each and a class: processor, rows, and copies in which one of the two is missing or noisy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset as Rows
from torch import Tensor
from transformers import AutoProcessor, AutoTokenizer, ViltProcessor, default_data_collator

from hf_mixup.experiments.tasks.image import PixelRows, load_image_processor
from hf_mixup.experiments.tasks.shared import Fused
from hf_mixup.experiments.tasks.text import packaged_minilm

_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
_REPLACED = 0.5  # share of the words of a noisy text that are those of other rows
_DEVIATION = 1.0  # of the noise on processed pixels, which have about the same


def load_fusion_processor(task: Fused) -> Any:
    """Return the checkpoint's processor; a new model gets a plain one with the tokenizer of the packaged MiniLM.

    Raises:
        ValueError: if the checkpoint does not take images and texts.
        OSError: for a checkpoint that has no processor.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> processor = load_fusion_processor(TaskArguments(task="image-text-classification", image_size=32))
    >>> type(processor).__name__, processor.image_processor.size["height"]
    ('ViltProcessor', 32)
    """
    if task.model is None:
        return ViltProcessor(load_image_processor(task), AutoTokenizer.from_pretrained(packaged_minilm()))
    processor = AutoProcessor.from_pretrained(task.model)
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise ValueError(f"model={task.model!r}: its processor takes one modality only: name a ViLT")
    return processor


class FusionRows(PixelRows):
    """Samples of `pixel_values` float32 [3, H, W], `input_ids` and `attention_mask` [T], not yet padded, and `labels`.

    Args:
        train: flip images and leave out images or texts, as the task says; both are drawn anew each time, from torch's
            global generator.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.data import load_splits
    >>> task = TaskArguments(task="image-text-classification", image_size=32, max_train_samples=4)
    >>> rows = FusionRows(load_splits(task).train, load_fusion_processor(task), task)
    >>> rows[0]["pixel_values"].shape, len(rows.changed("no_text")[0]["input_ids"])
    (torch.Size([3, 32, 32]), 2)
    """

    def __init__(self, rows: Rows, processor: Any, task: Fused, train: bool = False) -> None:
        super().__init__(rows, processor.image_processor, task, flip=train and task.flip)
        self.tokenizer, self.max_length = processor.tokenizer, task.max_length
        self.texts: list[str] = rows[task.text_column][:]
        self.dropout = task.modality_dropout if train else 0.0
        self.change_pixels: Callable[[Tensor, int], Tensor] = _blank if task.leave_out == "image" else _same
        if task.leave_out == "text":
            self.texts = [""] * len(self.texts)
        self._item(0)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pixels, text = self.change_pixels(self.pixels(index), index), self.texts[index]
        if self.dropout and torch.rand(()) < self.dropout:
            pixels, text = (pixels, "") if torch.rand(()) < 0.5 else (_blank(pixels, index), text)
        tokens = self.tokenizer(text, truncation=True, max_length=self.max_length)
        tokens = {name: tokens[name] for name in _TOKENS if name in tokens}
        return {"pixel_values": pixels, **tokens, "labels": self.labels[index]}

    def changed(self, name: str) -> FusionRows:
        """Return these samples, all of them with "no_text", "no_image", "noisy_text" or "noisy_image".

        The processed images are shared.
        """
        other = copy.copy(self)
        other.change_pixels = _PIXELS.get(name, self.change_pixels)
        other.texts = _TEXTS[name](self.texts) if name in _TEXTS else self.texts
        return other


def _same(pixels: Tensor, index: int) -> Tensor:
    return pixels


def _blank(pixels: Tensor, index: int) -> Tensor:
    """Return zeros, the mean colour of normalised pixels."""
    return torch.zeros_like(pixels)


def _noisy(pixels: Tensor, index: int) -> Tensor:
    generator = torch.Generator().manual_seed(index)
    return pixels + _DEVIATION * torch.randn(pixels.shape, generator=generator)


def with_foreign_words(texts: list[str], share: float) -> list[str]:
    """Return texts in which each word is replaced with a chance of `share` by any word of all texts, always the same.

    >>> with_foreign_words(["red fruit", "big bus"], share=1.0)
    ['red bus', 'big bus']
    """
    words = [text.split() for text in texts]
    pool = np.array([word for own in words for word in own], dtype=object)
    generator = np.random.default_rng(0)
    lost, foreign = generator.random(len(pool)) < share, generator.integers(len(pool), size=len(pool))
    drawn = np.where(lost, pool[foreign], pool)
    ends = np.cumsum([len(own) for own in words]).tolist()
    return [" ".join(drawn[end - len(own) : end]) for own, end in zip(words, ends, strict=True)]


_PIXELS = {"no_image": _blank, "noisy_image": _noisy}
_TEXTS: dict[str, Callable[[list[str]], list[str]]] = {
    "no_text": lambda texts: [""] * len(texts),
    "noisy_text": partial(with_foreign_words, share=_REPLACED),
}


def fusion_collator(tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
    """Return what pads the tokens of `FusionRows` and stacks the rest.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.text import load_tokenizer
    >>> collate = fusion_collator(load_tokenizer(TaskArguments(task="text-classification")))
    >>> rows = [{"input_ids": [101] * length, "pixel_values": torch.zeros(3, 8, 8), "labels": 0} for length in (2, 4)]
    >>> {name: [*value.shape] for name, value in sorted(collate(rows).items())}
    {'attention_mask': [2, 4], 'input_ids': [2, 4], 'labels': [2], 'pixel_values': [2, 3, 8, 8]}
    """
    return partial(_collate, tokenizer)  # no inner function, which a worker that is not forked could not get


def _collate(tokenizer: Any, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    tokens = [{name: value for name, value in each.items() if name in _TOKENS} for each in samples]
    rest = [{name: value for name, value in each.items() if name not in _TOKENS} for each in samples]
    return {**default_data_collator(rest), **tokenizer.pad(tokens, return_tensors="pt")}
