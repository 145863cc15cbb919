"""Scores after one temperature a model, fitted on the validation rows: the same for training, comparison and page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_mixup.experiments.report.score_sums import class_sums
from hf_mixup.experiments.tasks.prepared import Prepared
from hf_mixup.metrics import fit_temperature

REFITTED = ("ece_temperature", "nll_temperature")


def refits(prepared: Prepared) -> bool:
    """Whether a temperature is fitted on the validation rows: for tasks with classes.

    Pairs are refitted within each split, as their temperature depends on how many there are to choose from.
    """
    return prepared.rows is class_sums


def temperature_of(predictions: Sequence[Any]) -> float:
    """Return the temperature of stored predictions (logits, labels) of the validation rows; NaN if a run diverged.

    >>> round(temperature_of([np.log([[0.75, 0.25]] * 400) * 3, [0, 0, 0, 1] * 100]), 1)
    3.0
    """
    logits, labels = predictions
    return fit_temperature(logits, labels) if np.isfinite(logits).all() else float("nan")


def refitted(predictions: Sequence[Any], temperature: float) -> dict[str, float]:
    """Return `temperature`, and what stored predictions (logits, labels) of other rows score with it.

    >>> scores = refitted([[[2.0, 0.0], [0.0, 1.0]], [0, 0]], temperature=2.0)
    >>> {name: round(value, 3) for name, value in scores.items()}
    {'ece_temperature': 0.446, 'nll_temperature': 0.644, 'temperature': 2.0}
    """
    if not (np.isfinite(temperature) and np.isfinite(predictions[0]).all()):
        return dict.fromkeys((*REFITTED, "temperature"), float("nan"))
    logits, labels = predictions
    rows = class_sums(logits, labels, temperature)
    return {**{name: float(rows.score(name)) for name in REFITTED}, "temperature": temperature}
