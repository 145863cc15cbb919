"""A ready-to-use `compute_metrics` for `transformers.Trainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hf_mixup.metrics.functional import calibration_metrics
from hf_mixup.metrics.inputs import to_float64
from hf_mixup.metrics.tasks import multilabel_metrics, regression_metrics
from hf_mixup.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import EvalPrediction


def compute_metrics(
    eval_prediction: EvalPrediction,
    *,
    problem_type: Literal["regression", "multi_label_classification"] | None = None,
    **options: Any,
) -> dict[str, float]:
    """Score one evaluation of a Trainer; the task is read off the shapes of logits and labels.

    - logits [..., C] and integer labels [...]: `calibration_metrics` (accuracy, nll, brier, ece, ece_mass,
      temperature, ece_temperature, nll_temperature);
    - logits [N, C] and 0 / 1 labels [N, C], C >= 2: `multilabel_metrics`;
    - logits [N] or [N, 1] and labels that are all 0 or 1 (a yes or no, trained with `num_labels=1` and the binary
      cross-entropy): `calibration_metrics` of the two classes no and yes, p(yes) being the sigmoid;
    - logits [N] or [N, 1] and other labels: `regression_metrics`.

    Args:
        eval_prediction: its `predictions` are the logits, or a tuple that begins with them; its `label_ids` the
            labels, where -100 is left out for classification.
        problem_type: of a model with one output, "regression" or "multi_label_classification", as its configuration
            names it; None to read it off the labels. Bind it with `functools.partial`.
        **options: options of `calibration_metrics`, bound with `functools.partial`, for example a temperature
            fitted on the validation split. They do not apply to several labels a row and to regression.

    Raises:
        ValueError: there is not exactly one array of labels, an unknown problem type, or as the function that scores
            the task.

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
    if len(logits_shape) == 1 or (len(logits_shape) == 2 and logits_shape[1] == 1):
        if _is_yes_or_no(labels, problem_type):
            yes = to_float64(logits, "logits").reshape(-1, 1)
            return calibration_metrics(np.hstack([np.zeros_like(yes), yes]), np.reshape(labels, -1), **options)
        return regression_metrics(logits, labels)
    if len(logits_shape) == 2 and logits_shape == labels_shape:
        return multilabel_metrics(logits, labels)
    return calibration_metrics(logits, labels, **options)


def _is_yes_or_no(labels: Any, problem_type: str | None) -> bool:
    if problem_type not in (None, "regression", "multi_label_classification"):
        raise ValueError(
            f"problem_type={problem_type!r}: expected 'regression' or 'multi_label_classification', or None to read it "
            "off the labels"
        )
    if problem_type is None:  # numbers to predict are as good as never all 0 or 1
        return bool(np.isin(labels, (0, 1, IGNORE_INDEX)).all())
    return problem_type == "multi_label_classification"
