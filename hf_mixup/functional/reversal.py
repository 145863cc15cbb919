"""The gradient turned round, so that a network and its adversary learn in one backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def reverse_gradient(x: Tensor) -> Tensor:
    """Return x, behind which the gradient has its sign turned: what is minimised behind it is maximised before it.

    Source: Ganin and Lempitsky 2015, "Unsupervised Domain Adaptation by Backpropagation", arXiv 1409.7495, section 3
    (there with a factor, which an optimizer's learning rate can have).

    >>> x = torch.ones(2, requires_grad=True)
    >>> (3 * reverse_gradient(x)).sum().backward()
    >>> x.grad
    tensor([-3., -3.])
    """
    return _Reversed.apply(x)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]
