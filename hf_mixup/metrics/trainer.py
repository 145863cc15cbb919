"""A ready-to-use `compute_metrics` for `transformers.Trainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_mixup.metrics.functional import calibration_metrics
from hf_mixup.metrics.tasks import multilabel_metrics, regression_metrics

if TYPE_CHECKING:
    from transformers import EvalPrediction


def compute_metrics(eval_prediction: EvalPrediction, **options: Any) -> dict[str, float]:
    """Score one evaluation of a Trainer; the task is read off the shapes of logits and labels.

    - logits [..., C] and integer labels [...]: `calibration_metrics` (accuracy, nll, brier, ece, ece_mass,
      temperature, ece_temperature, nll_temperature);
    - logits [N, C] and 0 / 1 labels [N, C], C >= 2: `multilabel_metrics`;
    - logits [N] or [N, 1]: `regression_metrics`.

    Args:
        eval_prediction: its `predictions` are the logits, or a tuple that begins with them; its `label_ids` the
            labels, where -100 is left out for classification.
        **options: options of `calibration_metrics`, bound with `functools.partial`, for example a temperature
            fitted on the validation split. They do not apply to the other two tasks.

    Raises:
        ValueError: there is not exactly one array of labels, or as the function that scores the task.

    >>> from types import SimpleNamespace
    >>> batch = SimpleNamespace(predictions=([[2.0, 0.0], [0.0, 1.0]], "hidden states"), label_ids=[0, -100])
    >>> round(compute_metrics(batch)["nll"], 4)
    0.1269
    """
    logits, labels = eval_prediction.predictions, eval_prediction.label_ids
    if isinstance(logits, tuple):
        logits = logits[0]
    if labels is None or isinstance(labels, (tuple, dict)):
        raise ValueError(f"compute_metrics needs one array of labels, not {type(labels).__name__}")

    logits_shape, labels_shape = np.shape(logits), np.shape(labels)
    # One column carries no class probabilities; transformers too takes num_labels=1 for regression.
    if len(logits_shape) == 1 or (len(logits_shape) == 2 and logits_shape[1] == 1):
        return regression_metrics(logits, labels)
    if len(logits_shape) == 2 and logits_shape == labels_shape:
        return multilabel_metrics(logits, labels)
    return calibration_metrics(logits, labels, **options)
