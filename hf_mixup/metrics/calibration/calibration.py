"""The `evaluate` module "calibration"; `evaluate.load` copies this file into its cache, hence the absolute imports."""

from __future__ import annotations

from hf_mixup.metrics import evaluate_module
from hf_mixup.metrics.functional import calibration_metrics


class Calibration(evaluate_module.FunctionMetric):
    """Accuracy and calibration of a classifier from logits (or probabilities) and integer references.

    `compute` takes the options of `hf_mixup.metrics.calibration_metrics`; a reference of -100 is left out.

    >>> metric = Calibration()
    >>> metric.add_batch(predictions=[[0.9, 0.1]], references=[0])
    >>> metric.add_batch(predictions=[[0.9, 0.1]], references=[1])
    >>> round(metric.compute(from_logits=False, temperature=1.0)["ece"], 4)
    0.4
    """

    function = calibration_metrics
