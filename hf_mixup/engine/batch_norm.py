"""One pass over clean samples of the training data, for the running statistics of batch normalisation."""

from __future__ import annotations

import inspect
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_mixup.engine.all_gather import gather_rows, in_any, world_size
from hf_mixup.engine.clean_batches import ReadOnceError, clean_batches, rows_of
from hf_mixup.engine.contrastive_eval import own_inputs
from hf_mixup.models.adapters import base_model
from hf_mixup.models.batch_norm import Moments, Statistics, measured, read, statistics_of, write
from hf_mixup.models.labels import LABEL_KEYS
from hf_mixup.utils.random_state import drawing_aside

SAMPLES = 2000
"""Clean samples of all processes, which estimate the statistics well: each has many values a channel."""
logger = logging.getLogger(__name__)


@dataclass
class Estimate:
    """Statistics of clean samples, and what they cost.

    Args:
        statistics: those of the layers that samples have passed.
        samples: how many samples there were, in all processes.
        seconds: how long it took.
    """

    statistics: Statistics
    samples: int
    seconds: float


class Refreshed:
    """Layers that hold an estimate as their running statistics; in a `with` statement, until its end.

    >>> layer = nn.BatchNorm1d(1)
    >>> with Refreshed(Estimate({layer: (torch.ones(1), torch.ones(1))}, samples=8, seconds=0.0)):
    ...     layer.running_mean
    tensor([1.])
    >>> layer.running_mean
    tensor([0.])
    """

    def __init__(self, estimate: Estimate) -> None:
        self.samples, self.seconds = estimate.samples, estimate.seconds
        self.before = read([*estimate.statistics])
        write(estimate.statistics)

    def __enter__(self) -> Refreshed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        write(self.before)


def estimate(
    model: nn.Module, layers: list[_BatchNorm], loader: Any, seed: int, run: Callable[[Any], Any]
) -> Estimate | None:
    """Estimate the statistics of layers from about `SAMPLES` clean samples; the same ones each time.

    All processes have to ask, and make as many passes each. No gradient is kept, no random state is moved, nothing in
    the model changes. A compiled model runs uncompiled, for compiled code passes over hooks.

    The statistics are those of all samples as one population, not a mean over batches, so that they do not depend on
    the size of a batch or the number of processes, as far as the layers' own normalisation does not.

    Args:
        loader: see `clean_batches`.
        run: runs the model on a batch.

    Returns:
        None, with a warning, where the data cannot be read beside training, or the model not run on a batch.

    Source: "precise BN" in Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", arXiv 2105.07576, section 3.
    """
    start, samples, device = time.perf_counter(), 0, next(model.parameters()).device
    stance = torch.compiler.set_stance("force_eager")
    reason: Exception | str = "another process cannot read or pass them"
    failed = False
    with drawing_aside(model, seed), torch.no_grad(), stance, measured(model, layers) as moments:
        try:
            batches: Iterator[Any] = iter(clean_batches(loader, SAMPLES, seed))
            while True:
                batch = next(batches, None) if samples * world_size() < SAMPLES else None
                if in_any(batch is None, device):  # all make as many passes: they may wait for each other in them
                    break
                run(batch)
                samples += rows_of(batch)
        except (ReadOnceError, TypeError) as error:  # the model may be called in a way that nobody tells
            reason, failed = error, True
            in_any(True, device)  # the others are not left to wait
    if in_any(failed, device):
        warnings.warn(
            f"{type(model).__name__} keeps running statistics of mixed samples in its batch normalisation, as no "
            f"clean ones can be read or passed: {reason}. Call `Mixup.refresh_batch_norm(model, batches)` yourself, "
            "or set refresh_batch_norm=False",
            UserWarning,
            stacklevel=2,
        )
        return None
    counted = gather_rows(torch.tensor([[samples]], device=device))
    whole = [_over_processes(each, layer.num_features, device) for each, layer in zip(moments, layers)]
    statistics = statistics_of(layers, whole)
    found = Estimate(statistics, int(counted.sum()), time.perf_counter() - start)
    logger.info(
        "running statistics of %d batch norm layers: estimated from %d clean samples in %.1f s",
        *(len(statistics), found.samples, found.seconds),
    )
    return found


def clean_inputs(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model takes of an unmixed batch: what its forward names, or all but labels if it takes anything.

    Models that take labels may need them, as those that make a decoder's inputs of them.

    >>> clean_inputs(nn.Linear(1, 1), {"input": torch.ones(1), "labels": torch.ones(1)})
    {'input': tensor([1.])}
    """
    names = inspect.signature(base_model(model).forward).parameters
    anything = any(each.kind is each.VAR_KEYWORD for each in names.values())
    return {
        key: value
        for key, value in own_inputs(model, batch).items()
        if key in names or (anything and key not in LABEL_KEYS)
    }


def _over_processes(own: Moments, channels: int, device: torch.device) -> Moments:
    """Return the moments of the values in all processes, which each puts together in the same order."""
    if world_size() == 1:
        return own
    packed = torch.zeros(1 + 2 * channels, dtype=torch.float64, device=device)
    if isinstance(own.mean, Tensor) and isinstance(own.squares, Tensor):
        packed = torch.cat([own.mean.new_tensor([own.count]), own.mean, own.squares]).double()
    whole = Moments()
    for each in gather_rows(packed[None]):
        whole.add(float(each[0]), *each[1:].chunk(2))
    return whole
