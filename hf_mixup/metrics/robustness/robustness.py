"""The `evaluate` module "robustness"; `evaluate.load` copies this file into its cache, hence the absolute imports."""

from __future__ import annotations

from hf_mixup.metrics import evaluate_module
from hf_mixup.metrics.levels import robustness_metrics


class Robustness(evaluate_module.FunctionMetric):
    """Scores of a classifier over the levels of corruptions, attacks or noise, from logits and integer references.

    `compute` takes the options of `hf_mixup.metrics.robustness_metrics`; `families` and `levels` hold one entry for
    each sample, in the order they were added.

    >>> metric = Robustness()
    >>> metric.add_batch(predictions=[[2.0, 0.0]], references=[0])
    >>> metric.add_batch(predictions=[[0.0, 1.0]], references=[0])
    >>> metric.compute(families=["pgd", "pgd"], levels=[0, 0.03])["accuracy"]
    0.0
    """

    function = robustness_metrics
