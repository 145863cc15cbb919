"""Encoder-decoders that write a text for audio or an image: one pass of the encoder, one of the decoder a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.adapters import base_model
from hf_mixup.models.batches import DECODER, DECODER_IDS, IDS, per_sample
from hf_mixup.models.exchange import same_scores
from hf_mixup.models.hooks import MixHook, hooks_of
from hf_mixup.models.outputs import logits_of
from hf_mixup.models.probe import eval_without_side_effects
from hf_mixup.models.trace import map_tensors

SHARES = "one pass of the encoder for"  # how the keys of what was found begin in the cache


def decode_twice(
    model: nn.Module, batch: Mapping[str, Any], mixed: Mapping[str, Any], partner: Tensor
) -> dict[str, Any]:
    """Return mixed inputs with each sample twice, [2 B, ...]: to be decoded with its own text, then its partner's.

    The encoder runs on the first half alone, and what it returns is repeated. If a model does not come to the same
    that way, it runs on both halves.

    Args:
        batch: the inputs as they are, whose texts the decoder reads.
        mixed: the same with what the encoder reads blended.

    Raises:
        ValueError: if the model is no encoder-decoder that reads floats and writes text.
    """
    _refuse_others(model, batch)
    count = len(partner)

    def twice(key: str, value: Any) -> Any:
        if not isinstance(value, Tensor) or not per_sample(key, value, count):
            return value
        return torch.cat([batch[key], batch[key][partner]] if key.startswith(DECODER) else [value, value])

    inputs = {key: twice(key, value) for key, value in mixed.items()}
    if _shares_encoder(model, inputs, partner):
        _share_encoder(model, partner)
    return inputs


def install_encoder(model: nn.Module) -> list[MixHook]:
    """Return what lets an encoder run once for both texts; to be called before the model is compiled."""
    encoder, hooks = _encoder_of(model), hooks_of(model)
    return [] if encoder is None else [hooks.before(encoder, OneOfTwo), hooks.after(encoder, OneOfTwo)]


class OneOfTwo(MixHook):
    """Runs an encoder on the first half of a batch that holds each sample twice, and repeats what it returns."""

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.on or self.partner is None:
            return None
        self.count(module)
        count = len(self.partner)

        def first(value: Tensor) -> Tensor:
            return value[:count] if value.dim() and len(value) == 2 * count else value

        return map_tensors(args, first), map_tensors(kwargs, first)

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not self.on or self.partner is None:
            return None
        self.count(module)
        count = len(self.partner)

        def repeated(value: Tensor) -> Tensor:
            return torch.cat([value, value]) if value.dim() and len(value) == count else value

        return map_tensors(output, repeated)


def _encoder_of(model: nn.Module) -> nn.Module | None:
    base: Any = base_model(model)
    if not getattr(getattr(base, "config", None), "is_encoder_decoder", False) or not hasattr(base, "get_encoder"):
        return None
    return base.get_encoder()


def _refuse_others(model: nn.Module, batch: Mapping[str, Any]) -> None:
    if _encoder_of(model) is None or IDS in batch or not isinstance(batch.get(DECODER_IDS), Tensor):
        raise ValueError(
            f"decoder='two' is for encoder-decoders that write a text for audio or an image, and "
            f"{type(base_model(model)).__name__} with {', '.join(batch)} is none: leave it out"
        )


def _shares_encoder(model: nn.Module, inputs: Mapping[str, Any], partner: Tensor) -> bool:
    """Whether one pass of the encoder gives the same scores as one for each text; tried at first use, then cached."""
    cache, key = hooks_of(model).cache, f"{SHARES} {', '.join(sorted(inputs))}"
    if key not in cache:
        with eval_without_side_effects(model):
            plain = logits_of(model(**inputs))
            hooks = _share_encoder(model, partner)
            cache[key] = same_scores(logits_of(model(**inputs)), plain) and not any(hook.missed for hook in hooks)
    return cache[key]


def _share_encoder(model: nn.Module, partner: Tensor) -> list[MixHook]:
    active = [each.activate(partner, torch.ones(len(partner))) for each in install_encoder(model)]
    hooks_of(model).track(*active)
    return active
