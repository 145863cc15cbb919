"""A task that is ready to train: samples, collator, model and scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from hf_mixup.experiments.report.score_sums import RowSums, class_sums, token_sums, value_sums
from hf_mixup.experiments.tasks.splits import Splits
from hf_mixup.metrics import compute_metrics, language_metrics
from hf_mixup.metrics.results import DEFAULT_METRICS, LANGUAGE_METRICS, REGRESSION_METRICS


def _no_scores(model: Any, rows: Any, predictions: Any) -> dict[str, float]:
    return {}


def _as_they_are(*arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return arrays[0], arrays[-1]


@dataclass(frozen=True)
class Prepared:
    """Data and model of a task, and how it is scored.

    Attributes:
        train, evaluated: rows that a model takes, the latter by the name of their split.
        processing_class: image processor, tokenizer, processor of both, feature extractor, or processor of columns.
        build_model: makes a model anew; seed before calling.
        paired: whether rows are pairs, without labels. Then `MixupTrainer` evaluates also where nothing is mixed.
        compute_metrics: scores a split from its predictions.
        preprocess_logits: what the Trainer keeps of the logits of a batch, given labels: (logits, labels) -> kept.
        more_metrics: scores that need the model, too: (model, rows, predictions) -> scores.
        metrics: scores that tables and images show, those of them that there are.
        select_by: the one that tells the best model on validation rows, where nobody says otherwise.
        classified: stored predictions and labels -> logits [..., C] and classes [...], for a reliability diagram; None
            where there are no classes to draw one of.
        rows: stored predictions and labels -> what they add up to row by row, for intervals; None for scores that do
            not add up.

    >>> from hf_mixup.experiments.tasks import TaskArguments
    >>> from hf_mixup.experiments.tasks.prepare import prepare
    >>> prepared = prepare(TaskArguments(task="tabular-regression", dataset="diabetes"))
    >>> prepared.select_by, sorted(prepared.evaluated), len(prepared.train[0]["numerical_values"])
    ('mse', ['test', 'validation'], 10)
    """

    splits: Splits
    train: Any
    evaluated: dict[str, Any]
    processing_class: Any
    collator: Callable[..., Any]
    build_model: Callable[[], PreTrainedModel]
    paired: bool = False
    compute_metrics: Callable[..., dict[str, float]] = compute_metrics
    preprocess_logits: Callable[..., Any] | None = None
    more_metrics: Callable[[Any, Any, Any], dict[str, float]] = _no_scores
    metrics: tuple[str, ...] = DEFAULT_METRICS
    select_by: str = "nll"
    classified: Callable[..., tuple[np.ndarray, np.ndarray]] | None = _as_they_are
    rows: Callable[..., RowSums] | None = class_sums


SCORES_OF_NUMBERS: dict[str, Any] = {
    "metrics": REGRESSION_METRICS,
    "select_by": "mse",
    "classified": None,
    "rows": value_sums,
}
SCORES_OF_TEXTS: dict[str, Any] = {
    "compute_metrics": language_metrics,
    "metrics": LANGUAGE_METRICS,
    "classified": None,
    "rows": token_sums,
}
"""Fields of `Prepared` that tasks with numbers to predict, and with texts to write, have in common."""
