"""Several methods, one chosen for each batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from hf_mixup.engine.config import SWITCHED, MixupConfig
from hf_mixup.methods.base import Draw, Method, Request


class Switch(Method):
    """Choose one of several methods for each batch, with given probabilities and alphas.

    Raises:
        ValueError: for methods for pairs beside others.

    Source: the mixup/CutMix switch of timm and of DeiT (Touvron et al. 2021, arXiv 2012.12877, table 9).

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> settings = {"method": "switch", "switch_methods": ["mixup", "fmix"], "switch_alphas": [0.2, 1.0]}
    >>> with Mixup(settings)(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.draw.method in ("mixup", "fmix")
    True
    """

    name = "switch"
    title = "Switch"
    blends = "what the chosen method blends (default: mixup or CutMix)"
    paper = "arXiv:2012.12877"

    def __init__(self, config: Any) -> None:
        from hf_mixup.methods import METHODS

        super().__init__(config)
        names = config.switch_methods or SWITCHED
        alphas = config.switch_alphas or [config.alpha] * len(names)
        self.probs = torch.tensor(config.switch_probs or [1.0] * len(names))
        # By position, for one method may come twice, with another alpha.
        self.methods = [METHODS[name](own_config(config, name, alpha)) for name, alpha in zip(names, alphas)]
        if len({method.for_pairs for method in self.methods}) > 1:
            raise ValueError(f"switch_methods={list(names)}: methods for pairs and others do not go together")

    def draw(self, request: Request) -> Draw:
        index = int(torch.multinomial(self.probs, 1, generator=request.rng))
        return replace(self.methods[index].draw(request), choice=index)

    def prepare(self, model: nn.Module) -> None:
        for method in self.methods:
            method.prepare(model)

    @property
    def for_pairs(self) -> bool:  # type: ignore[override]
        """Whether it chooses between methods for pairs."""
        return all(method.for_pairs for method in self.methods)

    def knows(self, tokenizer: Any) -> None:
        for method in self.methods:
            method.knows(tokenizer)

    def choices(self) -> list[Method]:
        return list(self.methods)

    @property
    def takes_guide(self) -> bool:
        return any(method.takes_guide for method in self.methods)

    def chosen(self, draw: Draw) -> Method:
        return self.methods[draw.choice]


def own_config(config: MixupConfig, name: str, alpha: float) -> MixupConfig:
    """Return the configuration of one of the methods, with its alpha if it reads one."""
    own = config.for_method(name)
    return replace(own, alpha=alpha) if "alpha" in own.known else own
