"""What is known of a model when a batch is made for it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from hf_mixup.testing.sizes import END_OF_WORDS, FIRST_WORD

Batch = dict[str, Any]
TEXT = 10  # words of a text
VISION = ("vision_config", "image_config", "vision_model_config", "backbone_config", "encoder", "vq_config")
AUDIO = ("audio_config", "audio_encoder_config", "audio_encoder", "speech_config", "encoder_config", "encoder")


@dataclass
class Recipe:
    """What is known of a model when a batch is made for it.

    Args:
        model: the model.
        samples: number of samples B.
        rng: where the numbers come from.
    """

    model: Any
    samples: int
    rng: torch.Generator

    @property
    def config(self) -> Any:
        """The configuration of the model."""
        return self.model.config

    @property
    def text(self) -> Any:
        """The part of the configuration that describes the text that is read."""
        try:
            return self.config.get_text_config()
        except ValueError:  # it writes too
            return self.config.get_text_config(encoder=True)

    @cached_property
    def takes(self) -> set[str]:
        """The names of the arguments of the model's forward."""
        return set(inspect.signature(self.model.forward).parameters)

    @cached_property
    def required(self) -> set[str]:
        """The names of the arguments that have no default."""
        parameters = inspect.signature(self.model.forward).parameters
        return {name for name, each in parameters.items() if each.default is inspect.Parameter.empty}

    @property
    def decodes(self) -> bool:
        """Whether the model writes an answer, rather than going on with its text."""
        return bool(self.config.is_encoder_decoder or self.text.is_encoder_decoder)

    def part(self, names: tuple[str, ...]) -> Any:
        """Return the part of the configuration that describes a modality, the whole where there is none."""
        for held in (self.config, getattr(self.config, "thinker_config", None)):
            for name in names:
                found = getattr(held, name, None)
                if isinstance(found, PreTrainedConfig):
                    return found
        return self.config

    def size(self, names: tuple[str, ...], *keys: str, default: Any = None) -> Any:
        """Return the first of these settings that is set, in the part of a modality, its parts, or the whole."""
        part = self.part(names)
        inner = [value for value in vars(part).values() if isinstance(value, PreTrainedConfig)]
        for config in (part, *inner, self.config):
            for key in keys:
                value = getattr(config, key, None)
                if value:
                    return value
        return default

    def floats(self, *shape: int) -> Tensor:
        """Return noise [B, *shape] around a level of each sample, so that a tiny model tells samples apart."""
        level = torch.randn(self.samples, shape[0], *[1] * (len(shape) - 1), generator=self.rng)
        return torch.randn(self.samples, *shape, generator=self.rng) + level

    def words(self, length: int, high: int = END_OF_WORDS) -> Tensor:
        """Return ids of ordinary words, long [B, length]."""
        return torch.randint(min(FIRST_WORD, high - 2), high, (self.samples, length), generator=self.rng)
