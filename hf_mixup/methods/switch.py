"""Several methods, one chosen for each batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from hf_mixup.methods.base import Batch, Draw, Method, Request, setting
from hf_mixup.methods.registry import build, register


@register
class Switch(Method):
    """Choose one of several methods for each batch, with given probabilities.

    Raises:
        ValueError: for methods for pairs beside others.

    Source: the mixup/CutMix switch of timm and of DeiT (Touvron et al. 2021, arXiv 2012.12877, table 9).

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> switch = Switch(methods=[{"method": "mixup", "alpha": 0.2}, "fmix"], probs=[0.7, 0.3])
    >>> with Mixup(switch)(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.method in ("mixup", "fmix")
    True
    """

    name = "switch"
    title = "Switch"
    blends = "what the chosen method blends (default: mixup or CutMix)"
    modalities = ("image", "audio", "video")
    paper = "arXiv:2012.12877"
    begin_with = "methods=[mixup,cutmix]"

    methods: list[Method | str | dict[str, Any]] = setting(
        lambda: ["mixup", "cutmix"],
        "The methods to choose from, each a name or a mapping with settings of its own; one may come twice.",
    )
    probs: list[float] | None = setting(None, "Their probabilities (default: equal).", at_least=0)

    def __post_init__(self) -> None:
        given = self.methods if isinstance(self.methods, (list, tuple)) else [self.methods]
        self.held: list[Method] = [build(each) for each in given]
        self.methods = [*self.held]
        super().__post_init__()
        for each in self.held:
            if isinstance(each, Switch):
                raise ValueError(f"methods has {self.name!r}, which it cannot switch to: name its methods instead")
        if not self.held:
            raise ValueError("methods=[] names nothing: leave it unset for mixup and cutmix")
        if self.probs is not None and len(self.probs) != len(self.held):
            raise ValueError(f"probs has {len(self.probs)} values for {len(self.held)} methods")
        if self.probs is not None and sum(self.probs) <= 0:
            raise ValueError(f"probs={self.probs!r} sum to 0: no method could be chosen")
        if len({method.for_pairs for method in self.held}) > 1:
            names = [method.name for method in self.held]
            raise ValueError(f"methods={names}: methods for pairs and others do not go together")

    @property
    def weights(self) -> list[float]:
        """Their probabilities, up to a factor."""
        return self.probs or [1.0] * len(self.held)

    @property
    def off(self) -> bool:
        return super().off or all(each.off for each, weight in zip(self.held, self.weights) if weight > 0)

    def draw(self, request: Request) -> Draw:
        index = int(torch.multinomial(torch.tensor(self.weights), 1, generator=request.rng))
        method = self.held[index]
        return replace(method.draw(self.asked(request, method)), choice=index)

    def prepare(self, model: nn.Module) -> None:
        for method in self.held:
            method.prepare(model)

    @property
    def for_pairs(self) -> bool:  # type: ignore[override]
        """Whether it chooses between methods for pairs."""
        return all(method.for_pairs for method in self.held)

    @property
    def fuses(self) -> bool:  # type: ignore[override]
        """Whether each of them fits a model that fuses image and text."""
        return all(method.fuses for method in self.held)

    def choices(self) -> list[Method]:
        return list(self.held)

    def chosen(self, draw: Draw) -> Method:
        return self.held[draw.choice]

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        return self.chosen(draw).apply(model, batch, draw, inplace)
