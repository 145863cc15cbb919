"""Accuracy, calibration and retrieval metrics: plain functions, `evaluate` modules and a Trainer's `compute_metrics`.

    compute_metrics        pass it to `transformers.Trainer(compute_metrics=...)`
    calibration_metrics    the same numbers from two arrays
    load("calibration")    the same numbers as an `evaluate` module, found without a network

    robustness_metrics, load("robustness")    scores over the levels of corruptions, attacks or noise
    ood_metrics, load("ood")                  telling out-of-distribution from test samples
    pair_compute_metrics, retrieval_metrics, load("retrieval")    the same three for dual encoders
    tag_metrics            of words, and of the names that their tags spell
    language_metrics       of language models, with token_scores or next_token_scores to keep little of their logits
    zero_shot_accuracy     of images against class embeddings
    transcription_metrics, load("transcription"), speech_metrics    word and character error rates
    linearity              how straight a model's probabilities are between two samples

Importing this package loads numpy only; scipy, scikit-learn and `evaluate` are imported on first use, and so is jiwer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mixup.metrics.detection import detection_scores, ood_metrics
from hf_mixup.metrics.functional import (
    ReliabilityBins,
    accuracy,
    brier_score,
    calibration_metrics,
    expected_calibration_error,
    fit_temperature,
    log_probabilities,
    negative_log_likelihood,
    reliability_bins,
)
from hf_mixup.metrics.language import language_metrics, next_token_scores, token_scores
from hf_mixup.metrics.levels import area_under_curve, cell_scores, robustness_metrics, summarise_levels
from hf_mixup.metrics.linearity import Linearity, linearity
from hf_mixup.metrics.pairs import pair_compute_metrics, retrieval_metrics, zero_shot_accuracy
from hf_mixup.metrics.speech import best_path, speech_metrics, transcription_metrics
from hf_mixup.metrics.tags import entities, tag_metrics
from hf_mixup.metrics.tasks import multilabel_metrics, regression_metrics
from hf_mixup.metrics.trainer import compute_metrics
from hf_mixup.utils.suggest import did_you_mean

if TYPE_CHECKING:
    from evaluate import EvaluationModule

__all__ = [
    "Linearity",
    "ReliabilityBins",
    "accuracy",
    "area_under_curve",
    "best_path",
    "brier_score",
    "calibration_metrics",
    "cell_scores",
    "compute_metrics",
    "detection_scores",
    "entities",
    "expected_calibration_error",
    "fit_temperature",
    "language_metrics",
    "linearity",
    "load",
    "log_probabilities",
    "multilabel_metrics",
    "negative_log_likelihood",
    "next_token_scores",
    "ood_metrics",
    "pair_compute_metrics",
    "path",
    "regression_metrics",
    "reliability_bins",
    "retrieval_metrics",
    "robustness_metrics",
    "speech_metrics",
    "summarise_levels",
    "tag_metrics",
    "token_scores",
    "transcription_metrics",
    "zero_shot_accuracy",
]


def path(name: str) -> str:
    """Folder of the `evaluate` module `name`, to give to `evaluate.load`.

    Raises:
        ValueError: there is no such module; the message lists the names there are.

    >>> Path(path("calibration")).name
    'calibration'
    """
    root = Path(__file__).parent
    names = sorted(script.parent.name for script in root.glob("*/*.py") if script.stem == script.parent.name)
    if name not in names:
        raise ValueError(f"no metric is called {name!r}; {did_you_mean(name, names)}")
    return str(root / name)


def load(name: str, **kwargs: Any) -> EvaluationModule:
    """Load the `evaluate` module `name` from this package; `kwargs` go to `evaluate.load`.

    Raises:
        ValueError: there is no such module.

    >>> metric = load("calibration")
    >>> metric.compute(predictions=[[2.0, 0.0], [0.0, 1.0]], references=[0, 0])["accuracy"]
    0.5
    """
    import evaluate

    return evaluate.load(path(name), **kwargs)
