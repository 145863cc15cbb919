"""Running a tiny model plain and mixed, and comparing its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.models.labels import LABEL_KEYS
from hf_mixup.models.outputs import logits_of

SCORE_TOLERANCE = 1e-3  # of the difference between samples

Settings = dict[str, Any]


def scores_of(outputs: Any) -> Tensor:
    """Return the scores of a model, samples first: logits, both ends of spans [B, 2, T], or predictions.

    Raises:
        ValueError: if it returned none.
    """
    mean = outputs.get("mean_predictions")  # of a model that forecasts
    return mean if isinstance(mean, Tensor) else logits_of(outputs)


def plain_inputs(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch without labels, unless the model derives its decoder's inputs from them."""
    derives = getattr(model.config, "is_encoder_decoder", False) and "labels" in batch and batch["labels"].dim() == 2
    return {name: value for name, value in batch.items() if derives or name not in (*LABEL_KEYS, "future_values")}


def plain_scores(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Return the scores of an unmixed batch."""
    return scores_of(model(**plain_inputs(model, batch)))


@torch.no_grad()
def check_plain(model: nn.Module, batch: Mapping[str, Any]) -> float:
    """Run a batch as it is, with its labels; return the loss.

    Raises:
        ValueError: if loss or scores are not finite, or two samples score alike.
    """
    loss, scores = model(**batch).loss, plain_scores(model, batch).double().flatten(1)
    if loss is None or not torch.isfinite(loss).all():
        raise ValueError(f"the loss is {loss}")
    if not torch.isfinite(scores).all():
        raise ValueError("scores are not finite")
    gaps = [float((one - other).abs().max()) for number, one in enumerate(scores) for other in scores[:number]]
    if min(gaps) < 1e-4 * float(scores.abs().max()):
        raise ValueError(f"samples score alike: they differ by {min(gaps):.2g}")
    return float(loss)


def mixed_scores(model: nn.Module, batch: Mapping[str, Any], settings: Settings, partner: Tensor, lam: float) -> Tensor:
    """Return the scores of a mixed batch, through the public engine."""
    from hf_mixup import Mixup

    with Mixup({**settings})(model, batch, partner=partner, lam=lam) as mixed:
        return scores_of(mixed.forward(model))


def mixed_loss(model: nn.Module, batch: Mapping[str, Any], settings: Settings, partner: Tensor, lam: float) -> Tensor:
    """Return the loss of a mixed batch, through the public engine."""
    from hf_mixup import Mixup

    with Mixup({**settings})(model, batch, partner=partner, lam=lam) as mixed:
        return mixed.loss(mixed.forward(model))


def score_error(found: Tensor, expected: Tensor, plain: Tensor) -> float:
    """Return the error of scores as a share of the difference between samples; infinity for another shape.

    >>> scores = torch.tensor([[0.0], [2.0]])
    >>> score_error(scores + 1, scores, scores)
    0.5
    """
    if found.shape != expected.shape:
        return float("inf")
    apart = (plain - plain.roll(1, 0)).abs().max().double().clamp(min=1e-12)
    return float((found.double() - expected.double()).abs().max() / apart)


@torch.no_grad()
def try_exchange(model: nn.Module, batch: Mapping[str, Any], settings: Settings) -> str:
    """Return "exact", "refused: why", "WRONG: where and by how much" or "error: what was raised"."""
    others, own = _partners(batch)
    plain = plain_scores(model, batch)
    errors = {}
    ends = {"lam=1": (others, 1.0, plain), "lam=0": (others, 0.0, plain[others]), "itself": (own, 0.3, plain)}
    for name, (partner, lam, expected) in ends.items():
        try:
            found = score_error(mixed_scores(model, batch, settings, partner, lam), expected, plain)
        except Exception as error:  # noqa: BLE001 - a survey reports all
            return f"{'refused' if is_refusal(error) else 'error'}: {name}: {brief(error)}"
        if not found < SCORE_TOLERANCE:
            errors[name] = f"{found:.2g}"
    return f"WRONG: {errors}" if errors else "exact"


def _partners(batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    own = torch.arange(len(next(iter(batch.values()))))
    return own.roll(1), own


def is_refusal(error: BaseException) -> bool:
    """Whether this package refused with a reason, instead of failing in a library that it calls."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    ours = trace is not None and "hf_mixup" in trace.tb_frame.f_code.co_filename
    return ours and isinstance(error, (ValueError, RuntimeError, TypeError))


def brief(error: BaseException) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
