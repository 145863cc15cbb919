"""The running statistics of batch normalisation, estimated anew from samples that are not mixed.

Training normalises by the statistics of each batch, evaluation by running ones, which are a moving average over the
batches of training. Blends have less contrast than samples, so that a model which trained on blends evaluates clean
samples with statistics that are not theirs, and looks worse than it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from hf_mixup.functional.blending import at_least_float32

Statistics = dict[_BatchNorm, tuple[Tensor, Tensor]]
"""Running mean and variance [C] of layers."""


def layers_in_training(model: nn.Module) -> list[_BatchNorm]:
    """Return the layers of batch normalisation whose running statistics training moves.

    Those in evaluation mode, with `momentum=0` or without running statistics are frozen, and none of them; nor are
    classes of their own, as the `FrozenBatchNorm2d` of detectors, and norms over instances, groups or features.

    >>> frozen = nn.BatchNorm1d(2).eval()
    >>> model = nn.Sequential(nn.BatchNorm1d(2), frozen, nn.InstanceNorm1d(2), nn.LayerNorm(2))
    >>> layers_in_training(model) == [model[0]]
    True
    """
    return [
        each
        for each in model.modules()
        if isinstance(each, _BatchNorm)
        and each.training
        and each.track_running_stats
        and each.running_mean is not None
        and not is_lazy(each.running_mean)  # nothing has passed it yet
        and each.momentum != 0
    ]


@dataclass
class Moments:
    """Mean and sum of squared deviations [C] of `count` values a channel, put together from parts.

    >>> whole, parts = torch.randn(6, 2, 5), Moments()
    >>> for part in whole.split(4):
    ...     parts.see(part)
    >>> torch.allclose(parts.mean, whole.mean((0, 2)), atol=1e-6)
    True
    >>> torch.allclose(parts.squares / 29, whole.transpose(0, 1).flatten(1).var(1))
    True
    """

    count: float = 0
    mean: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def see(self, values: Tensor) -> None:
        """Add what enters a layer, [N, C] or [N, C, ...]."""
        if values.numel():
            dims = [0, *range(2, values.dim())]
            variance, mean = torch.var_mean(at_least_float32(values.detach()), dims, correction=0)
            count = values.numel() // values.shape[1]
            self.add(count, mean, variance * count)

    def add(self, count: float, mean: Tensor, squares: Tensor) -> None:
        """Add the moments of a part, as Chan, Golub and LeVeque 1979 do, without loss of precision."""
        if not count:
            return
        whole, apart = self.count + count, mean - self.mean
        self.mean = self.mean + apart * (count / whole)
        self.squares = self.squares + squares + apart**2 * (self.count * count / whole)
        self.count = whole


@contextmanager
def measured(model: nn.Module, layers: list[_BatchNorm]) -> Iterator[list[Moments]]:
    """Measure what enters each layer in the passes of the model made inside; nothing in the model changes.

    The layers normalise by the batch, so that the deeper ones see what belongs to the new statistics, and move no
    running ones. All the rest is in evaluation mode: the statistics are for evaluation, which drops nothing.

    Yields:
        one `Moments` a layer. A layer that passes run through several times sees all of it.
    """
    modes = [(each, each.training) for each in model.modules()]
    moments = [Moments() for _ in layers]
    handles = []
    try:
        for each, _ in modes:
            each.training = False  # not `eval()`, which a model may have changed to keep parts as they are
        for layer, own in zip(layers, moments):
            layer.training, layer.track_running_stats = True, False
            handles.append(layer.register_forward_pre_hook(_seen_by(own), with_kwargs=True))
        yield moments
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers:
            layer.track_running_stats = True
        for each, mode in modes:
            each.training = mode


def _seen_by(moments: Moments) -> Any:
    return lambda layer, args, kwargs: moments.see((*args, *kwargs.values())[0])


def statistics_of(layers: list[_BatchNorm], moments: list[Moments]) -> Statistics:
    """Return mean and variance (of a sample, as running ones are) of each layer that has seen something."""
    return {
        layer: (own.mean, own.squares / max(own.count - 1, 1))
        for layer, own in zip(layers, moments)
        if isinstance(own.mean, Tensor) and isinstance(own.squares, Tensor)
    }


def read(layers: list[_BatchNorm]) -> Statistics:
    """Return a copy of the running statistics of layers."""
    return {layer: (_mean(layer).clone(), _variance(layer).clone()) for layer in layers}


@torch.no_grad()
def write(statistics: Statistics) -> None:
    """Put statistics into the layers as running ones; the number of batches that a layer has counted stays."""
    for layer, (mean, variance) in statistics.items():
        _mean(layer).copy_(mean)
        _variance(layer).copy_(variance)


def _mean(layer: Any) -> Tensor:
    return layer.running_mean


def _variance(layer: Any) -> Tensor:
    return layer.running_var
