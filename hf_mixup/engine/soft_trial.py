"""Trying, once, whether a model's own loss of soft labels may be taken of blended ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from hf_mixup.engine.self_check import equals_mixed_loss, keeping_problem_type
from hf_mixup.models.batches import count_samples, pick_pair
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.labels import LABELS, OWN_WAY
from hf_mixup.models.outputs import loss_of
from hf_mixup.models.probe import eval_without_side_effects, two_samples
from hf_mixup.models.transcripts import learns_transcripts

SHARE = 0.3
CLOSE = 1e-4  # of the loss, which models compute in float32


def has_soft_labels(model: nn.Module, batch: Mapping[str, Any]) -> bool:
    """Whether a model scores float labels [B, C] by a loss of its own that may be taken of blended labels.

    False where it is the binary cross-entropy or squared error that is mixed anyway, or where the model has none.

    Raises:
        RuntimeError: if its loss is another one that blended labels do not fit, naming `loss="own"`.
    """
    labels = batch.get(LABELS)
    if not isinstance(labels, Tensor) or not labels.is_floating_point() or labels.dim() != 2 or labels.shape[1] < 2:
        return False
    if learns_transcripts(model):
        return False  # its labels are tokens, as is said where they are read
    found = hooks_of(model).cache
    if "soft labels" not in found:
        found["soft labels"] = _tried(model, batch)
    return found["soft labels"]


def _tried(model: nn.Module, batch: Mapping[str, Any]) -> bool:
    rows = two_samples(batch, model)
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    rows = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in rows.items()}
    with eval_without_side_effects(model), keeping_problem_type(model):
        try:
            outputs = model(**rows)
        except Exception:  # noqa: BLE001 - whatever a head without such a loss raises
            return False
        own = loss_of(outputs)
        if own is None or equals_mixed_loss(model, rows, outputs, own):
            return False
        defects = _defects(model, rows)
    if bool((defects - defects.mean()).abs().max() <= CLOSE * max(float(own.abs()), CLOSE)):
        return True
    raise RuntimeError(
        f"{type(model).__name__} scores labels {list(batch[LABELS].shape)} by a loss of its own, which of blended "
        f"labels is not the blend of their losses. {OWN_WAY}"
    )


def _defects(model: nn.Module, rows: Mapping[str, Any]) -> Tensor:
    """Return how far the loss of blended labels is from the blend of their losses, for several inputs, float64.

    If that is the same for all, it has no gradient: 0 for a loss that is linear in the labels, the difference of
    entropies for a divergence, that of squares for a squared error.
    """
    labels = rows[LABELS]
    others = labels.roll(1, 1) if torch.equal(labels[0], labels[1]) else labels.flip(0)
    blend = SHARE * labels + (1 - SHARE) * others
    inputs = {key: value for key, value in rows.items() if key != LABELS}
    found = []
    for which in ([0, 1], [1, 0], [0, 0], [1, 1]):
        seen = pick_pair(inputs, count_samples(inputs), torch.tensor(which))
        own, other, mixed = (_loss(model, {**seen, LABELS: each}) for each in (labels, others, blend))
        found.append(mixed - SHARE * own - (1 - SHARE) * other)
    return torch.stack(found)


def _loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    return cast(Tensor, loss_of(model(**batch))).double()
