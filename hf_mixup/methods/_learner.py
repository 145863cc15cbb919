"""A network that a method trains beside the model, in the model's own backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Learner:
    """A network and its optimizer.

    A gradient reaches it in the backward pass of the model. Each step takes that at length 1, so that the scale of the
    loss has no bearing: that of float16, of accumulated batches, of an average over processes.

    Args:
        network: in float32, where the batches are.
        learning_rate: of Adam, whose eps drops what is rounding beside a gradient of length 1.

    >>> learner = Learner(nn.Linear(1, 1, bias=False), learning_rate=0.1)
    >>> before = learner.network.weight.item()
    >>> learner.network(torch.ones(1, 1)).sum().backward()
    >>> learner.step(learner.gradient())
    >>> round(learner.network.weight.item() - before, 4)
    -0.1
    """

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, eps=1e-6)

    @property
    def reached(self) -> bool:
        """Whether a gradient has reached it since its last step."""
        return any(each.grad is not None for each in self.network.parameters())

    def gradient(self) -> Tensor:
        """Return what has reached it, as one vector; 0 where nothing has."""
        found = [(each, each.grad) for each in self.network.parameters()]
        return torch.cat([(torch.zeros_like(each) if grad is None else grad).flatten() for each, grad in found])

    def step(self, gradient: Tensor) -> None:
        """Go a step down a gradient, and forget what has reached it; one that is not finite counts as 0."""
        gradient = torch.where(gradient.isfinite().all(), gradient, 0)  # a test would wait for the device
        tiny = torch.finfo(gradient.dtype).tiny
        gradient = gradient / gradient.abs().amax().clamp(min=tiny)  # or squares of small numbers would be 0
        gradient = gradient / gradient.norm().clamp(min=tiny)
        parameters = list(self.network.parameters())
        for each, part in zip(parameters, gradient.split([each.numel() for each in parameters])):
            each.grad = part.view_as(each)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
