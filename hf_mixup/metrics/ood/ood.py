"""The `evaluate` module "ood"; `evaluate.load` copies this file into its cache, hence the absolute imports."""

from __future__ import annotations

from typing import Any

import numpy as np

from hf_mixup.metrics import evaluate_module
from hf_mixup.metrics.detection import ood_metrics


class Ood(evaluate_module.FunctionMetric):
    """Detection of out-of-distribution samples from logits; a reference is 1 for an in-distribution sample, else 0.

    >>> metric = Ood()
    >>> metric.add_batch(predictions=[[4.0, 0.0], [0.2, 0.0]], references=[1, 0])
    >>> metric.compute()["auroc_energy"]
    1.0
    """

    function = ood_metrics

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        logits, inside = np.asarray(predictions), np.asarray(references)
        wrong = inside[~np.isin(inside, (0, 1))]
        if wrong.size:
            raise ValueError(f"{wrong.size} references are neither 1 (inside) nor 0 (outside), the first is {wrong[0]}")
        if len(np.unique(inside)) < 2:
            raise ValueError("references are all alike: give samples from inside (1) and from outside (0)")
        return super()._compute(logits[inside == 1], logits[inside == 0], **options)
