"""The part of a dual encoder behind its embeddings: temperature and bias."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.all_gather import refuse_partitioned
from hf_mixup.engine.config import MixupConfig
from hf_mixup.models.dual_encoder import embeds_of, pair_logits_of, scale_owners
from hf_mixup.models.hooks import hooks_of


class Head:
    """Scale and bias of a model's similarities, as parameters of the model.

    Raises:
        ValueError: for a model that has none under a known name.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model_name, self._limit = type(model).__name__, getattr(model, "max_log_logit_scale", None)
        self._owners = scale_owners(model)
        if not self._owners:
            raise ValueError(
                f"{self._model_name} has no logit_scale or temperature: its similarities cannot be computed from "
                "embeddings"
            )
        refuse_partitioned(self._model_name, self.parameters)

    def _get(self, *names: str) -> nn.Parameter | None:
        return next((getattr(self._owners[name], name) for name in names if name in self._owners), None)

    @property
    def bias(self) -> nn.Parameter | None:
        """What is added to scaled similarities, if anything."""
        return self._get("logit_bias")

    @property
    def _inverse(self) -> nn.Parameter | None:
        return self._get("temperature")  # ALIGN divides by it

    @property
    def _by_image(self) -> nn.Parameter | None:
        return self._get("logit_scale_a", "logit_scale")

    @property
    def _by_text(self) -> nn.Parameter | None:
        return self._get("logit_scale_t", "logit_scale")

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All of them, each once."""
        return [getattr(owner, name) for name, owner in self._owners.items()]

    def scales(self) -> tuple[Tensor, Tensor]:
        """Return the factors of cosine similarity by image and by text; they differ in CLAP only."""
        if self._inverse is not None:
            return 1 / self._inverse, 1 / self._inverse
        return self._exp(self._by_image), self._exp(self._by_text)

    def _exp(self, parameter: nn.Parameter | None) -> Tensor:
        if parameter is None:
            raise ValueError(f"{self._model_name} scales one direction only")
        return (parameter if self._limit is None else parameter.clamp(0.0, self._limit)).exp()

    def logits(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Return similarities by image [n, M] and by text [M, n] of normalised embeddings [n, D] and [M, D]."""
        by_image, by_text = self.scales()
        bias = 0.0 if self.bias is None else self.bias
        cosines = images @ texts.mT
        return cosines * by_image + bias, cosines.mT * by_text + bias

    @torch.no_grad()
    def set_temperature(self, temperature: float | None, learn: bool) -> None:
        """Start from a temperature (None: as it is), and train it or not."""
        for parameter in (self._inverse, self._by_image, self._by_text):
            if parameter is None:
                continue
            if temperature is not None:
                parameter.fill_(temperature if parameter is self._inverse else -math.log(temperature))
            if not learn:
                parameter.requires_grad_(False)

    @contextmanager
    def held_at(self, temperature: float) -> Iterator[None]:
        """Compare at another temperature for a while; no parameter is written into, for a graph may hold it."""
        scales = [each for each in (self._inverse, self._by_image, self._by_text) if each is not None]
        before = [each.data for each in scales]
        try:
            for each in scales:
                each.data = torch.full_like(each, temperature if each is self._inverse else -math.log(temperature))
            yield
        finally:
            for each, data in zip(scales, before):
                each.data = data

    @torch.no_grad()
    def clamp(self, max_scale: float, starts: dict[str, float]) -> None:
        """Hold scales that are learnt at or below a limit, as CLIP does at 100, or below where they start above it.

        Args:
            starts: value of each parameter when training began, by its name; filled in here at first use.
        """
        for name, owner in self._owners.items():
            parameter = getattr(owner, name)
            if name == "logit_bias" or not parameter.requires_grad:
                continue
            if name not in starts:
                starts[name] = float(parameter)
                self._warn_of_start(max_scale, starts[name] if name != "temperature" else -math.log(starts[name]))
            start = starts[name]
            if name == "temperature":
                parameter.clamp_(min=min(1 / max_scale, start))
            else:
                parameter.clamp_(max=max(math.log(max_scale), start))

    def _warn_of_start(self, max_scale: float, log_scale: float) -> None:
        """Say so where a limit of the user's own is below where the scale starts."""
        if max_scale != MixupConfig().max_logit_scale and math.log(max_scale) < log_scale - 1e-6:
            warnings.warn(
                f"max_logit_scale={max_scale:g}: the scale of {self._model_name} starts at {math.exp(log_scale):.4g}, "
                f"above it, and is held there; set temperature={1 / max_scale:.4g} to start at the limit",
                UserWarning,
                stacklevel=2,
            )

    @torch.no_grad()
    def check(self, outputs: Mapping[str, Any]) -> None:
        """Compare with what the model itself computes.

        Raises:
            ValueError: if the model's similarities are not scale * cosine + bias.
        """
        images, texts = embeds_of(outputs)
        if texts.dim() == 2:
            low = images.dtype not in (torch.float32, torch.float64)
            found, expected = self.logits(images, texts)[0].float(), pair_logits_of(outputs)[0].float()
            if torch.allclose(found, expected, rtol=0.05 if low else 1e-3, atol=0.05 if low else 1e-3):
                return
        raise ValueError(
            f"{self._model_name} does not compute its similarities as scale * cosine + bias of its embeddings, as "
            "several processes, chunk_size and the loss_weight of 'geodesic' need"
        )


def checked_head(model: nn.Module, outputs: Mapping[str, Any] | None = None) -> Head:
    """Return a model's head, compared with the model's own outputs at first use.

    Raises:
        ValueError: as `Head` and `Head.check`.
    """
    head = Head(model)
    if not head_is_checked(model):
        if outputs is None:
            raise RuntimeError("the head has not been checked yet")
        head.check(outputs)
        hooks_of(model).checked.add(_CHECKED)
    return head


_CHECKED = ("head", None)


def head_is_checked(model: nn.Module) -> bool:
    """Whether a model's head has been compared with its own outputs."""
    return _CHECKED in hooks_of(model).checked


def uses_sigmoid(model: nn.Module, config: MixupConfig) -> bool:
    """Whether pairs are scored by the sigmoid loss: as configured, or as the model's bias says."""
    if config.loss in ("infonce", "sigmoid"):
        return config.loss == "sigmoid"
    return Head(model).bias is not None


def hold_temperature(model: nn.Module, config: MixupConfig, starts: dict[str, float]) -> None:
    """Set the temperature as configured at first use; while pairs are mixed, hold a learnt scale in its range.

    Args:
        starts: where the parameters of the scale stood when training began, see `Head.clamp`.
    """
    head, checked = Head(model), hooks_of(model).checked
    configured = (config.temperature, config.learn_temperature)
    if configured != (None, True) and ("temperature", configured) not in checked:
        head.set_temperature(*configured)
        checked.add(("temperature", configured))
    if not config.off:
        head.clamp(config.max_logit_scale, starts)
