"""A task that is ready to train: samples, collator, model and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel, Trainer

from hf_mixup.experiments.report.score_sums import RowSums, answer_sums, class_sums, token_sums, value_sums
from hf_mixup.metrics import answer_metrics, compute_metrics, fit_temperature, language_metrics
from hf_mixup.metrics.results import DEFAULT_METRICS, LANGUAGE_METRICS, REGRESSION_METRICS

REFITTED = ("ece_temperature", "nll_temperature")


@dataclass(frozen=True)
class Splits:
    """The rows of a task; the label column of each split is a `ClassLabel` (or a list of them) with the same names.

    Pairs and texts to write have neither a label column nor `label_names`; numbers to predict have no names.
    """

    train: Dataset
    validation: Dataset
    tests: dict[str, Dataset]
    label_names: list[str]

    @property
    def evaluated(self) -> dict[str, Dataset]:
        """Validation and test rows by name."""
        return {"validation": self.validation, **self.tests}

    @property
    def rows(self) -> Dataset:
        """All rows, one split after the other."""
        return concatenate_datasets([self.train, *self.evaluated.values()])


def _no_scores(model: Any, rows: Any, predictions: Any) -> dict[str, float]:
    return {}


def _as_they_are(*arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return arrays[0], arrays[-1]


@dataclass(frozen=True)
class Prepared:
    """Data and model of a task, and how it is scored.

    Attributes:
        train, evaluated: samples that a model takes, the latter by the name of their split; to train on, they may be a
            `Stream`.
        processing_class: image processor, tokenizer, processor of both, feature extractor, or processor of columns.
        build_model: makes a model anew; seed before calling.
        paired: whether samples are pairs, without labels. Then `MixupTrainer` evaluates also where nothing is mixed.
        trainer_class: a `MixupTrainer` that predicts in a way of its own, whether it mixes or not.
        preprocess_logits: what the Trainer keeps of the logits of a batch: (logits, labels) -> kept.
        more_metrics: scores that need the model, too: (model, rows, predictions) -> scores.
        metrics: scores that tables and images show, those of them that there are.
        select_by: the one that tells the best model on validation rows by default.
        classified: stored predictions and labels -> logits [..., C] and classes [...], for a reliability diagram; None
            where there are no classes.
        rows: stored predictions and labels -> their sums row by row, for intervals; None for scores that do not add up.

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
    trainer_class: type[Trainer] | None = None
    compute_metrics: Callable[..., dict[str, float]] = compute_metrics
    preprocess_logits: Callable[..., Any] | None = None
    more_metrics: Callable[[Any, Any, Any], dict[str, float]] = _no_scores
    metrics: tuple[str, ...] = DEFAULT_METRICS
    select_by: str = "nll"
    classified: Callable[..., tuple[np.ndarray, np.ndarray]] | None = _as_they_are
    rows: Callable[..., RowSums] | None = class_sums

    @property
    def looked_at(self) -> Any:
        """Training samples by number: all of them, or the first ones of a stream."""
        return getattr(self.train, "head", self.train)

    def shown(self, metrics: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
        """Return those scores of each split that tables and cards show, None for one that a split does not have."""
        return {split: {name: found.get(name) for name in self.metrics} for split, found in metrics.items()}

    @property
    def refits(self) -> bool:
        """Whether a temperature is fitted on the validation rows: for tasks with classes.

        Pairs are refitted within each split, as their temperature depends on how many there are to choose from.
        """
        return self.rows is class_sums


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
SCORES_OF_ANSWERS: dict[str, Any] = {
    "compute_metrics": answer_metrics,
    "classified": None,
    "rows": answer_sums,
}
"""Fields of `Prepared` that tasks with numbers to predict, with texts to write, and with answers have in common."""


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
